import json

import numpy as np

from geoclick import datasets
from geoclick.scenes import run


def files(folder):
    names = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "config.yaml")
    return {str(p.relative_to(folder)): p.read_bytes() for p in names}


def test_same_bytes_by_seed_whatever_the_workers(tmp_path):
    for name, workers in (("a", "1"), ("b", "2")):
        assert run.main([str(tmp_path / name), "--count", "12", "--seed", "5", "--workers", workers]) == 0
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert run.main([str(tmp_path / "c"), "--count", "12", "--seed", "6"]) == 0
    assert files(tmp_path / "a") != files(tmp_path / "c")


def test_the_reader_gives_back_what_was_drawn(tmp_path):
    assert run.main([str(tmp_path), "--count", "10", "--split", "test"]) == 0
    samples = list(datasets.read("folder", str(tmp_path), "test"))
    assert [s.task for s in samples] == ["referring", "reasoning", "no_target"] * 3 + ["referring"]
    image, ids, queries = run.sample_scene(0, "test", 1, run.TASKS)
    for sample, query in zip(samples[3:6], queries, strict=True):
        assert np.array_equal(sample.read_image(), image)
        assert np.array_equal(sample.mask, ids == (-1 if query.target is None else query.target + 1))
        assert sample.query == query.text


def test_splits_share_no_scene(tmp_path):
    for split in ("train", "test"):
        assert run.main([str(tmp_path), "--count", "30", "--split", split]) == 0
    images = [set(files(tmp_path / split / "images").values()) for split in ("train", "test")]
    assert len(images[0]) == 10
    assert not images[0] & images[1]


def test_bad_input_is_one_sentence_and_loses_nothing(tmp_path, capsys):
    assert run.main([str(tmp_path), "--count", "3"]) == 0
    before = files(tmp_path)
    for words in (
        [str(tmp_path), "--count", "6"],
        [str(tmp_path / "x"), "--count", "0"],
        [str(tmp_path), "--tasks", "nonsense"],
    ):
        assert run.main(words) == 2
        error = capsys.readouterr().err.strip()
        assert error.startswith("error: ")
        assert len(error.splitlines()) == 1
    assert files(tmp_path) == before
    rows = [json.loads(line) for line in (tmp_path / "train" / "samples.jsonl").read_text().splitlines()]
    assert len(rows) == 3
