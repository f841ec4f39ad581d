"""`geoclick evaluate --engine ray`: what the driver sends and writes, on a fake Ray; the real one is slow."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from geoclick import images, masks
from geoclick.errors import GeoClickError
from geoclick.inference import evaluate
from geoclick.inference.evaluation import ray_engine, run_folder
from geoclick.inference.evaluation.ray_engine import Task
from geoclick.jobs import ray_pool
from tests import fake_ray
from tests.paths import REPO

SIZE = (48, 64)
COUNT = 70


@pytest.fixture
def root(tmp_path):
    """Samples on ten images, several on each."""
    folder = tmp_path / "data/test"
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(10):
        picture = rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
        images.write_png(folder / f"images/{number}.png", picture)
    lines = []
    for number in range(COUNT):
        mask = np.zeros(SIZE, bool)
        top, left = rng.integers(0, 30, 2)
        mask[top : top + 12, left : left + 20] = True
        line = {"sample_id": f"s{number:02}", "task": "referring", "query": f"thing {number % 7}"}
        image = f"images/{number * 10 // COUNT}.png"
        lines.append(line | {"image": image, "size": list(SIZE), "mask": masks.encode_rle(mask)})
    (folder / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder.parent


@pytest.fixture
def cluster(monkeypatch):
    """Ray without processes, whose calls end in a random order."""
    fake = fake_ray.Ray(seed=1)
    monkeypatch.setattr(ray_pool, "ray", fake)
    return fake


RAY = ("--engine", "ray", "--device", "cpu")


def run(root, output, *words, predictor="noisy"):
    given = ("--root", root, "--predictor", predictor, "--batch-size", 2, "--output", output, *words)
    return evaluate.main([*map(str, given)])


def parts(output):
    return {path.name: path.read_bytes() for path in (output / run_folder.FOLDER).glob("*.jsonl")}


def results(output):
    metrics = json.loads((output / "metrics.json").read_text())
    return (output / "predictions.jsonl").read_bytes(), metrics, (output / "protocol.json").read_bytes()


def interrupt_finish(monkeypatch):
    """End evaluations before their parts are joined and removed."""

    def end(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(run_folder, "finish", end)


@pytest.mark.parametrize("predictor", ["noisy", "center-point"])
def test_parts_and_results_are_those_of_one_process(
    root, cluster, tmp_path, monkeypatch, tiny_segmenter, predictor, capsys
):
    for name, words in (("one", ()), ("ray", RAY)):
        with monkeypatch.context() as patch:
            interrupt_finish(patch)
            assert run(root, tmp_path / name, *words, predictor=predictor) != 0
        assert len(parts(tmp_path / name)) == 5
    assert parts(tmp_path / "ray") == parts(tmp_path / "one")
    for name, words in (("one", ()), ("ray", RAY)):
        assert run(root, tmp_path / name, *words, predictor=predictor) == 0
    assert results(tmp_path / "ray") == results(tmp_path / "one")
    assert not (tmp_path / "ray/parts").exists()
    timing = json.loads((tmp_path / "ray/run.json").read_text())
    assert (timing["engine"], timing["workers"], timing["resumed"]) == ("ray", 3, COUNT)


def test_the_answers_of_an_interrupted_process_are_not_asked_again(root, cluster, tmp_path, monkeypatch):
    assert run(root, tmp_path / "one") == 0
    with monkeypatch.context() as patch:
        interrupt_finish(patch)
        run(root, tmp_path / "out")
    folder = tmp_path / "out/parts"
    half = (folder / "000001.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "000001.jsonl").write_bytes(b"".join(half[:5]) + half[5][:20])
    (folder / "000003.jsonl").unlink()
    asked = []
    answers = run_folder.answers

    def recorded(part, done, *rest):
        asked.append((part.number, len(done)))
        return answers(part, done, *rest)

    monkeypatch.setattr(run_folder, "answers", recorded)
    assert run(root, tmp_path / "out", *RAY) == 0
    assert sorted(asked) == [(1, 5), (3, 0)]
    assert results(tmp_path / "out") == results(tmp_path / "one")


def test_a_driver_that_ends_is_continued_by_the_other_engine(root, cluster, tmp_path, monkeypatch):
    assert run(root, tmp_path / "one") == 0
    append, written = run_folder.append, []

    def killed(*args):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(args)
        append(*args)

    with monkeypatch.context() as patch:
        patch.setattr(run_folder, "append", killed)
        run(root, tmp_path / "out", *RAY)
    assert len(parts(tmp_path / "out")) == 2
    assert run(root, tmp_path / "out") == 0
    assert results(tmp_path / "out") == results(tmp_path / "one")


def test_only_workers_load_the_predictor(root, cluster, tmp_path, monkeypatch):
    devices = []
    load = ray_engine.predictors.load

    def recorded(options, scan):
        assert scan.picked is None
        devices.append(options.device)
        return load(options, scan)

    with monkeypatch.context() as patch:
        patch.setattr(ray_engine.predictors, "load", recorded)
        assert run(root, tmp_path / "out", *RAY, "--limit", 40, "--workers", 2) == 0
    assert devices == ["cpu", "cpu"]
    assert run(root, tmp_path / "one", "--limit", 40) == 0
    assert results(tmp_path / "out") == results(tmp_path / "one")


def test_a_node_with_other_models_or_without_images_is_named(cluster, tmp_path):
    from types import SimpleNamespace

    sample = SimpleNamespace(root=tmp_path / "away", sample_id="s3")
    part = run_folder.Part(0, 0, (sample,))
    options = SimpleNamespace(batch_size=2)
    with pytest.raises(GeoClickError, match=r"^Node 10\.0\.0\.7 has no folder .*away"):
        ray_engine._answer(options, None, {}, "", Task(part))
    sample.root.mkdir()
    with pytest.raises(GeoClickError, match=r"has another vlm than the first one, 'b' and not 'a'"):
        ray_engine._answer(options, None, {"vlm": "b"}, "", Task(part, about={"vlm": "a"}))
    setup = ray_engine.PartSetup(options, None)
    assert setup.describe(Task(part)).startswith("the samples s3 to s3; if memory ran out")
    assert setup.describe(Task()).startswith("the models, which they load first; if")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--workers", 2), "are options of --engine ray; add it"),
        ((*RAY, "--backend", "openai", "--vlm", "x"), "--engine ray has no use for --backend openai"),
        (("--engine", "ray", "--device", "cuda:1"), "Ray assigns the GPUs"),
    ],
)
def test_wrong_options_are_one_sentence(root, tmp_path, words, message, capsys):
    assert run(root, tmp_path / "out", *words, predictor="generative") == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def command(root, output, *words):
    given = ["--root", root, "--vlm", "embedded", "--device", "cpu", "--batch-size", 2, "--output", output]
    return [sys.executable, "-m", "geoclick.cli", "evaluate", *map(str, [*given, *words])]


@pytest.mark.slow
def test_a_real_pool_with_a_worker_and_then_the_driver_killed(root, tmp_path):
    """Two workers with the embedded models; one of them is killed, then the driver."""
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPO), "RAY_NUM_CPUS": "2"}
    words = ("--engine", "ray", "--workers", 2)
    assert subprocess.run(command(root, tmp_path / "one"), env=env, cwd=tmp_path).returncode == 0
    output = tmp_path / "out"
    job = subprocess.Popen(command(root, output, *words), env=env, cwd=tmp_path)
    wait_for(lambda: run_folder.count(output) > 0, job)
    os.kill(workers_of(job.pid)[0], signal.SIGKILL)
    before = run_folder.count(output)
    wait_for(lambda: run_folder.count(output) > before, job)
    job.kill()
    job.wait()
    left = run_folder.count(output)
    assert 0 < left < COUNT
    done = subprocess.run(
        command(root, output, *words), env=env, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((output / "run.json").read_text())["resumed"] == left
    assert results(output) == results(tmp_path / "one")


def wait_for(condition, job, seconds=400):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        assert job.poll() is None
        time.sleep(0.1)


def workers_of(number):
    """The processes of Ray's actors among the descendants of a process."""
    found = []
    for one in Path(f"/proc/{number}/task/{number}/children").read_text().split():
        name = Path(f"/proc/{one}/cmdline").read_bytes().split(b"\0")[0]
        found += [int(one)] if name.startswith(b"ray::Worker") else []
        found += workers_of(one)
    return found
