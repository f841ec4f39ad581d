"""The groups in which images are asked, and the engines of `geoclick predict`."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoclick import images
from geoclick.errors import GeoClickError
from geoclick.geo.reading import PixelOptions
from geoclick.inference import predict
from geoclick.inference.contrastive.map_models import MapModels
from geoclick.inference.predictions import asking, output_files, ray_engine, records
from geoclick.inference.predictions.answers import TextModels
from geoclick.inference.predictions.inputs import Input
from geoclick.inference.predictions.options import PredictOptions
from geoclick.inference.predictions.ray_engine import Task
from geoclick.inference.predictions.records import Setting
from geoclick.jobs import ray_pool
from tests import fake_ray, geotiffs
from tests.inference.contrastive.gray_maps import QUERY, GrayMaps
from tests.inference.contrastive.test_map_models import scene
from tests.inference.evaluation.test_ray_engine import wait_for, workers_of
from tests.inference.predictions.thresholds import Thresholds
from tests.paths import REPO


def named_of(paths, texts):
    found = [Input(Path(path), tuple(texts)) for path in paths]
    return list(zip(found, output_files.names_of(found), strict=True))


@given(st.lists(st.tuples(st.integers(1, 4), st.booleans()), max_size=30), st.integers(1, 8))
def test_groups_have_as_many_texts_as_a_batch_and_large_files_are_alone(sizes, queries):
    named = [
        (Input(Path(f"{number}.{'large' if large else 'small'}"), tuple(map(str, range(texts)))), None)
        for number, (texts, large) in enumerate(sizes)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asking, "_is_large", lambda path: path.suffix == ".large")
        groups = asking.groups(named, queries)
    assert [one for group in groups for one in group] == named
    for group, after in zip(groups, [*groups, None][1:], strict=True):
        assert group
        counts = [len(image.texts) for image, _ in group]
        large = [image.path.suffix == ".large" for image, _ in group]
        assert not any(large) or len(group) == 1
        assert sum(counts[:-1]) < queries
        if after and not large[0] and after[0][0].path.suffix != ".large":
            assert sum(counts) >= queries


def test_large_rasters_are_known_by_their_files(tmp_path, monkeypatch):
    monkeypatch.setattr(asking, "LARGE", 1000)
    raster = geotiffs.write_raster(tmp_path / "a.tif", scene())
    assert asking._is_large(raster)
    assert not asking._is_large(gray(tmp_path / "a.png", 0, (100, 100)))
    assert not asking._is_large(tmp_path / "none.tif")
    monkeypatch.setattr(asking, "LARGE", 2**24)
    assert not asking._is_large(raster)


def gray(path, seed, size=(24, 30)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 1), dtype=np.uint8)
    images.write_png(path, np.repeat(pixels, 3, axis=2))
    return path


@pytest.fixture
def paths(tmp_path):
    """Pictures and rasters, one of them broken and one missing."""
    found = [gray(tmp_path / f"in/{number}.png", number) for number in range(6)]
    found[4].write_bytes(found[4].read_bytes()[:500])
    rasters = [np.repeat(scene(90, 80, seed=number), 3, axis=0) for number in range(2)]
    found += [
        geotiffs.write_raster(tmp_path / f"in/r{number}.tif", raster) for number, raster in enumerate(rasters)
    ]
    return [*found, tmp_path / "in/none.png"]


@pytest.fixture
def cluster(monkeypatch):
    fake = fake_ray.Ray(seed=2)
    monkeypatch.setattr(ray_pool, "ray", fake)
    return fake


def load_thresholds(options, device):
    """In place of `engines.load`; the folder is the one of the command, not that of a worker."""
    setting = Setting(
        folder=Path(options.output),
        pixels=PixelOptions(),
        tile=32,
        overlap=4,
        resolution=None,
        tolerance=1.0,
        about={"vlm": "thresholds", "segmenter": "none"},
    )
    print("warning: a threshold is no model")
    return TextModels(Thresholds(), setting, options.batch_size)


def load_maps(options, device):
    return MapModels(GrayMaps(), QUERY, PixelOptions(), None)


def answer(load, folder, paths, texts, engine="local"):
    """Answer as the command does; returns the failures."""
    options = PredictOptions(
        output=str(folder),
        engine=engine,
        device="cpu",
        batch_size=4,
        classes=None if len(texts) > 1 else QUERY,
    )
    named = named_of(paths, texts)
    folder.mkdir(exist_ok=True)
    queries = 4 if len(texts) > 1 else 1

    def run(engine):
        failures = asking.answer_all(engine, folder, *map(list, zip(*named, strict=True)), queries)
        records.write_failures(folder, failures)
        records.write_all(folder, [names for _, names in named])
        return failures

    if engine == "local":
        return run(asking.Local(load(options, "cpu")))
    with ray_engine.opened(load, options, len(asking.groups(named, queries))) as workers:
        return run(workers)


def content(folder):
    """The bytes of all files; a GeoPackage holds its time."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".gpkg"}


KINDS = {"text": (load_thresholds, ["bright", "dark"]), "maps": (load_maps, [QUERY])}


@pytest.mark.parametrize("kind", KINDS)
def test_a_pool_writes_the_files_of_one_process(kind, paths, cluster, tmp_path, capsys):
    load, texts = KINDS[kind]
    one = answer(load, tmp_path / "one", paths, texts)
    capsys.readouterr()
    ray = answer(load, tmp_path / "ray", paths, texts, "ray")
    captured = capsys.readouterr()
    assert list(ray.items()) == list(one.items())
    assert set(one) == {paths[4], paths[-1]}
    assert content(tmp_path / "ray") == content(tmp_path / "one")
    assert len(content(tmp_path / "one")) > 25
    assert len(list((tmp_path / "ray").glob("*.gpkg"))) == 2
    assert len((tmp_path / "one/failures.jsonl").read_text().splitlines()) == 2 * len(texts)
    assert (captured.out == "warning: a threshold is no model\n") == (kind == "text")
    assert captured.err.count("failed, ") == 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_driver_that_ends_is_continued_and_finished_images_are_not_asked_again(
    kind, paths, cluster, tmp_path, monkeypatch, capsys
):
    load, texts = KINDS[kind]
    answer(load, tmp_path / "one", paths, texts)
    whole, written = ray_engine.files.whole, []

    def killed(path):
        if path.parent == tmp_path / "out":  # not that of a worker
            if len(written) == 17:
                raise KeyboardInterrupt
            written.append(path)
        return whole(path)

    with monkeypatch.context() as patch:
        patch.setattr(ray_engine.files, "whole", killed)
        with pytest.raises(KeyboardInterrupt):
            answer(load, tmp_path / "out", paths, texts, "ray")
    finished = len(list((tmp_path / "out").glob("*.json"))) // len(texts)
    assert 0 < finished < 7
    assert not list((tmp_path / "out").glob("*.partial"))
    capsys.readouterr()
    answer(load, tmp_path / "out", paths, texts, "ray")
    assert f"{finished} of 9 images have their outputs from an earlier run" in capsys.readouterr().err
    assert content(tmp_path / "out") == content(tmp_path / "one")


def test_a_node_that_lacks_images_or_has_other_models_is_named(paths, cluster, tmp_path):
    models = load_maps(None, "cpu")
    about = dict(models.about)
    group = tuple(named_of([paths[0], tmp_path / "away.png"], [QUERY]))
    with pytest.raises(GeoClickError, match=r"^Node 10\.0\.0\.7 has no file .*away.png; give absolute paths"):
        ray_engine._answer(models, about, "", Task(group, frozenset(), about))
    found = ray_engine._answer(models, about, "", Task(group, frozenset({tmp_path / "away.png"}), about))
    assert [bool(done.errors) for done, _ in found.done] == [False, True]
    assert list(found.done[0][1]) == ["0.mask.png", "0.overlay.png", "0.json"]
    with pytest.raises(GeoClickError, match="has another side than the first one"):
        ray_engine._answer(models, about | {"side": 3}, "", Task(group, frozenset(), about))
    setup = ray_engine.GroupSetup(load_maps, PredictOptions())
    assert setup.describe(Task(group)).startswith(f"the images {paths[0]} to ")
    assert setup.describe(Task(group[:1])).startswith(f"{paths[0]}; if memory ran out, rerun")
    assert setup.describe(Task()).startswith("the models, which they load first; if")


def test_a_full_disk_of_a_node_ends_the_job_with_one_sentence(paths, cluster, tmp_path):
    class Full(GrayMaps):
        def predict(self, image):
            raise OSError(28, "No space left on device")

    models = replace(load_maps(None, "cpu"), pipeline=Full())
    with pytest.raises(
        GeoClickError, match=r"^Node 10\.0\.0\.7 cannot write .*No space left.*; fix its disk"
    ):
        ray_engine._answer(models, {}, "", Task(tuple(named_of(paths[:1], [QUERY]))))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--workers", 2), "are options of --engine ray; add it"),
        (("--engine", "ray", "--backend", "openai", "--vlm", "x"), "has no use for --backend openai"),
        (("--engine", "ray", "--device", "cuda:1"), "Ray assigns the GPUs"),
    ],
)
def test_wrong_options_of_the_engine_are_one_sentence(paths, words, message, tmp_path, capsys):
    assert predict.main([*map(str, (paths[0], "--text", "x", "--output", tmp_path / "out", *words))]) == 2
    assert message in capsys.readouterr().err


def command(folder, paths, *words):
    given = [*paths, "--output", folder, "--device", "cpu", "--skip-broken", *words]
    return [sys.executable, "-m", "geoclick.cli", "predict", *map(str, given)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "asked",
    [
        ("--text", "a building", "--text", "the road", "--batch-size", 4, "--tile", 64, "--overlap", 8),
        ("--classes", "building; road; water; field", "--points-per-side", 4),
    ],
    ids=["text", "classes"],
)
def test_a_real_pool_with_a_worker_and_then_the_driver_killed(asked, paths, tmp_path):
    """Two workers with the embedded models; one of them is killed, then the driver."""
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPO)}
    words = (*asked, "--engine", "ray", "--workers", 2)
    assert subprocess.run(command(tmp_path / "one", paths, *asked), env=env, cwd=tmp_path).returncode == 0
    out = tmp_path / "out"

    def finished():
        return len(list(out.glob("*.json")))

    job = subprocess.Popen(command(out, paths, *words), env=env, cwd=tmp_path)
    wait_for(lambda: finished() > 0, job)
    os.kill(workers_of(job.pid)[0], 9)
    before = finished()
    wait_for(lambda: finished() > before, job)
    job.kill()
    job.wait()
    left = finished()
    assert 0 < left < len(list((tmp_path / "one").glob("*.json")))
    done = subprocess.run(command(out, paths, *words), env=env, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "images have their outputs from an earlier run" in done.stderr
    both = [content(folder) for folder in (tmp_path / "one", out)]
    for found in both:
        del found["config.yaml"]
        found.pop(".geoclick.lock", None)
    assert both[0] == both[1]
    lines = (out / "failures.jsonl").read_text().splitlines()
    assert {json.loads(line)["image"] for line in lines} == {str(paths[4]), str(paths[-1])}
