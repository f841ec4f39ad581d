import json
import os
import re
import signal
import subprocess
import sys
import threading
from dataclasses import fields, replace
from functools import partial
from pathlib import Path

import pytest
import ray
import torch

from geoclick import datasets, store
from geoclick.data_synthesis.run import main, run
from geoclick.data_synthesis.shards import make, ray_engine
from geoclick.data_synthesis.shards.job import Job
from geoclick.errors import GeoClickError, UsageError
from geoclick.jobs import claims, ray_pool
from geoclick.scenes.run import ScenesOptions
from geoclick.scenes.run import run as draw
from tests.data_synthesis.disc_segmenter import DiscSegmenter
from tests.data_synthesis.job_process import wait_until
from tests.data_synthesis.recording_segmenter import RecordingSegmenter, process_ids, until
from tests.data_synthesis.shards.test_make import job_of
from tests.data_synthesis.test_run import make_root, read_lines, settings, store_bytes
from tests.paths import REPO

OPTIONS = {"shards": 6, "sheet": 0}
RAY = {"engine": "ray", "device": "cpu"}


@pytest.fixture(scope="module")
def cluster():
    """A cluster of this machine with two CPUs, for all tests of the file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", str(REPO))  # of the workers
        ray.init("local", num_cpus=2, object_store_memory=2**27, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture
def root(tmp_path):
    """Twelve samples, those of the third image broken."""
    root = make_root(tmp_path / "data")
    (root / "train/images/2.png").write_bytes(b"no image")
    return root


@pytest.fixture
def expected(root, tmp_path):
    """The store of one uninterrupted process."""
    run(settings(root, tmp_path / "whole", **OPTIONS), DiscSegmenter())
    return store_bytes(tmp_path / "whole")


@pytest.fixture
def embedded_by(tmp_path):
    (tmp_path / "embedded_by").mkdir()
    return tmp_path / "embedded_by"


@pytest.mark.slow
def test_a_pool_gives_the_bytes_of_one_process(cluster, root, expected, embedded_by, tmp_path, capsys):
    output = tmp_path / "out"

    def meet():
        """Holds the first worker until another one has work too."""
        until(lambda: len(process_ids(embedded_by)) > 1)

    run(settings(root, output, **OPTIONS, **RAY), RecordingSegmenter(embedded_by, meet))
    assert store_bytes(output) == expected
    assert not (output / "progress").exists()
    assert len(process_ids(embedded_by)) == 2
    assert os.getpid() not in process_ids(embedded_by)
    assert [line["item"] for line in read_lines(output / "failures.jsonl")] == ["s04", "s05"]
    metrics, other = (json.loads((tmp_path / n / "metrics.json").read_text()) for n in ("out", "whole"))
    assert {k: v for k, v in metrics.items() if "second" not in k} == {
        k: v for k, v in other.items() if "second" not in k
    }
    out = capsys.readouterr().out
    assert f"10 rows in {output}" in out
    assert "warning: 2 failed" in out


@pytest.mark.slow
def test_a_killed_job_continues_with_workers_one_of_which_is_killed(
    cluster, root, expected, embedded_by, tmp_path, monkeypatch, capsys
):
    output, go, killed = tmp_path / "out", tmp_path / "go", []
    interrupt_after_two_shards(root, output, monkeypatch)
    times = {path: path.stat().st_mtime_ns for path in output.glob("*.parquet")}
    assert len(times) == 2

    def kill_the_first():
        until(process_ids, embedded_by)
        killed.extend(process_ids(embedded_by))
        os.kill(killed[0], signal.SIGKILL)
        go.touch()

    killer = threading.Thread(target=kill_the_first)
    killer.start()
    segmenter = RecordingSegmenter(embedded_by, partial(until, go.exists))
    run(settings(root, output, **OPTIONS, **RAY, workers=1), segmenter)
    killer.join()
    assert store_bytes(output) == expected
    assert all(path.stat().st_mtime_ns == time_ns for path, time_ns in times.items())
    assert len(killed) == 1
    assert len(process_ids(embedded_by)) == 2
    assert "1 worker died and was replaced." in capsys.readouterr().out


def interrupt_after_two_shards(root, output, monkeypatch):
    """One process that ends as a killed one does."""
    write, finished = store.write_shard, []

    def killed(*args):
        if len(finished) == 2:
            raise KeyboardInterrupt
        finished.append(args)
        return write(*args)

    with monkeypatch.context() as patch:
        patch.setattr(store, "write_shard", killed)
        with pytest.raises(KeyboardInterrupt):
            run(settings(root, output, **OPTIONS), DiscSegmenter())


@pytest.mark.slow
def test_an_error_of_a_worker_is_one_sentence(cluster, root, expected, embedded_by, tmp_path):
    def fail():
        raise GeoClickError("The device is on fire; put it out.")

    output = tmp_path / "out"
    with pytest.raises(GeoClickError, match=r"^The device is on fire; put it out\.$"):
        run(settings(root, output, **OPTIONS, **RAY), RecordingSegmenter(embedded_by, fail))
    run(settings(root, output, **OPTIONS, **RAY), RecordingSegmenter(embedded_by))
    assert store_bytes(output) == expected


@pytest.mark.slow
def test_a_shard_that_kills_every_worker_ends_the_job(
    cluster, root, expected, embedded_by, tmp_path, monkeypatch
):
    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(ray_pool, "MAX_ATTEMPTS", 2)
    with pytest.raises(GeoClickError, match=r"^2 workers died, .* of s.. to s..; if memory ran out"):
        run(
            settings(root, tmp_path / "out", **OPTIONS, **RAY, workers=1),
            RecordingSegmenter(embedded_by, die),
        )
    assert 2 <= len(process_ids(embedded_by)) <= 2 * OPTIONS["shards"]
    run(settings(root, tmp_path / "out", **OPTIONS), DiscSegmenter())
    assert store_bytes(tmp_path / "out") == expected


DRIVER = """
import sys
from tests.data_synthesis.disc_segmenter import DiscSegmenter
from geoclick.data_synthesis.run import SynthOptions, run
root, output = sys.argv[1:]
run(SynthOptions(root=root, output=output, split="train", shards=6, batch=1, sheet=0, engine="ray", workers=2),
    DiscSegmenter(delay=0.2))
"""


@pytest.mark.slow
def test_a_killed_driver_continues_with_the_other_engine_and_its_workers_end(root, expected, tmp_path):
    output = tmp_path / "out"
    path = {"PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    job = subprocess.Popen([sys.executable, "-c", DRIVER, root, output], env=os.environ | path, **streams)
    wait_until(lambda: len(list(output.glob("*.parquet"))) >= 2, job)
    raylets = children(job.pid)
    job.kill()
    job.communicate()
    assert 2 <= len(list(output.glob("*.parquet"))) < 6
    assert raylets
    wait_until(lambda: not any(Path(f"/proc/{number}").exists() for number in raylets))
    run(settings(root, output, **OPTIONS), DiscSegmenter())
    assert store_bytes(output) == expected
    assert not (output / "progress").exists()


def children(number):
    """The processes that a process started, and those that they did."""
    found = []
    for one in Path(f"/proc/{number}/task/{number}/children").read_text().split():
        found += [int(one), *children(int(one))]
    return found


@pytest.mark.slow
def test_the_embedded_segmenter_gives_the_same_bytes_in_a_cluster_of_its_own(tmp_path, capfd):
    draw(ScenesOptions(output=str(tmp_path / "data"), count=12, split="train", workers=1))
    words = ["--root", str(tmp_path / "data"), "--shards", "3", "--max-clicks", "2", "--device", "cpu"]
    capfd.readouterr()
    assert main([*words, "--output", str(tmp_path / "whole")]) == 0
    whole, _ = capfd.readouterr()
    assert main([*words, "--engine", "ray", "--workers", "1", "--output", str(tmp_path / "out")]) == 0
    out, err = capfd.readouterr()
    assert all(line.startswith("Clicking: ") for line in err.splitlines())  # no line of Ray
    speed = re.compile(r"[0-9.]+ masks/s( per worker)?")
    assert speed.sub("", out) == speed.sub("", whole).replace("/whole", "/out")
    assert store_bytes(tmp_path / "out") == store_bytes(tmp_path / "whole")
    sheets = [(tmp_path / name / "sheet.png").read_bytes() for name in ("out", "whole")]
    assert sheets[0] == sheets[1]


def worker(load=lambda *, device: DiscSegmenter(), sha256=DiscSegmenter.sha256, device="cpu"):
    job = job_of(DiscSegmenter())
    settings = {field.name: getattr(job, field.name) for field in fields(job) if field.name != "segmenter"}
    setup = ray_engine.ShardSetup(partial(Job, **settings), load, sha256)
    return ray_pool.Worker(setup, device, torch.get_num_threads(), str(Path.cwd()))


def test_a_worker_loads_its_segmenter_once_and_on_its_device(root):
    samples, loaded = list(datasets.read("folder", root, "train")), []

    def load(*, device):
        loaded.append(device)
        return DiscSegmenter()

    one = worker(load=load, device="cuda")
    shards = [one.work(samples[:4]), one.work(samples[4:])]
    assert loaded == ["cuda"]
    whole = make.make(job_of(DiscSegmenter()), samples)
    assert shards[0].rows + shards[1].rows == whole.rows
    assert shards[0].left_out + shards[1].left_out == whole.left_out


def test_a_node_without_the_images_or_with_other_weights_is_named(root, tmp_path):
    samples = list(datasets.read("folder", root, "train"))
    with pytest.raises(
        GeoClickError, match=r"^Node .* has other weights of disc; give all nodes the same files of"
    ):
        worker(sha256="1" * 64).work(samples)
    away = [replace(sample, root=tmp_path / "away") for sample in samples]
    with pytest.raises(GeoClickError, match=r"^Node .* has no folder .*away; give --root an absolute path"):
        worker().work(away)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--workers", "2"], "options of --engine ray; add it"),
        (["--ray-address", "head:6379"], "options of --engine ray; add it"),
        (["--engine", "ray", "--workers", "0"], "must be 1 or more"),
        (["--engine", "ray", "--device", "cuda:1"], "Ray assigns the GPUs"),
        (["--engine", "dask"], "choose"),
    ],
)
def test_wrong_options_of_the_engine_are_one_sentence(root, tmp_path, flags, words, capsys):
    assert main(["--root", str(root), "--output", str(tmp_path / "out"), *flags]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_launcher_or_a_missing_ray_is_an_error(root, tmp_path, monkeypatch):
    ours = settings(root, tmp_path / "out", **RAY)
    with monkeypatch.context() as patch:
        patch.setattr("geoclick.options.find_spec", lambda name: None)
        with pytest.raises(UsageError, match=r'pip install "geoclick\[ray\]"'):
            run(ours, DiscSegmenter())
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="without accelerate or torchrun"):
        run(ours, DiscSegmenter())


def test_a_store_that_another_job_still_writes_is_left_alone(root, tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "acquire", lambda held, byte: byte != 3)
    with pytest.raises(GeoClickError, match="Another job is writing"):
        run(settings(root, tmp_path / "out", **OPTIONS, **RAY), DiscSegmenter())
