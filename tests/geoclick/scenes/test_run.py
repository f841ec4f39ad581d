import json

import numpy as np
import pytest

from geoclick import datasets, output_folder
from geoclick.scenes import drawing, run


def files(folder):
    names = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "config.yaml")
    return {str(p.relative_to(folder)): p.read_bytes() for p in names}


def test_same_bytes_by_seed_whatever_the_workers(tmp_path):
    for name, workers in (("a", "1"), ("b", "2")):
        assert run.main([str(tmp_path / name), "--count", "12", "--seed", "5", "--workers", workers]) == 0
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert run.main([str(tmp_path / "c"), "--count", "12", "--seed", "6"]) == 0
    assert files(tmp_path / "a") != files(tmp_path / "c")


def test_the_reader_returns_the_drawn_scenes(tmp_path):
    assert run.main([str(tmp_path), "--count", "10", "--split", "test"]) == 0
    samples = list(datasets.read("folder", str(tmp_path), "test"))
    assert [s.task for s in samples] == ["referring", "reasoning", "no_target"] * 3 + ["referring"]
    image, ids, queries = drawing.sample_scene(0, "test", 1, drawing.TASKS)
    for sample, query in zip(samples[3:6], queries, strict=True):
        assert np.array_equal(sample.read_image(), image)
        assert np.array_equal(sample.mask, np.isin(ids, np.array(query.targets) + 1))
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


def test_the_folder_of_another_command_gets_no_split(tmp_path, capsys):
    (tmp_path / "config.yaml").write_text(output_folder.header("evaluate"))
    assert run.main([str(tmp_path), "--count", "3"]) == 2
    assert f"{tmp_path} was made by 'geoclick evaluate'; name another OUT." in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_a_copy_of_a_public_dataset_is_read_by_its_name(tmp_path, capsys):
    root = tmp_path / "udd5"
    assert run.main([str(root), "--layout", "udd5", "--count", "2", "--seed", "7"]) == 0
    assert f"--dataset udd5 --root {root} --split val" in capsys.readouterr().out
    samples = list(datasets.read("udd5", root, "val"))
    assert len({sample.image for sample in samples}) == 2
    assert run.main([str(tmp_path / "again"), "--config", str(root / "config.yaml")]) == 0
    assert files(tmp_path / "again") == files(root)


def test_without_a_count_each_layout_has_its_own(tmp_path, monkeypatch):
    assert run.main([str(tmp_path / "a"), "--layout", "uavid"]) == 0
    assert len(list((tmp_path / "a/img_dir/test").iterdir())) == 6
    monkeypatch.setattr(run, "COUNT", 4)
    assert run.main([str(tmp_path / "b")]) == 0
    assert len((tmp_path / "b/train/samples.jsonl").read_text().splitlines()) == 4


@pytest.mark.parametrize("words", [["--split", "val"], ["--tasks", "referring"]])
def test_options_of_plain_folders_are_refused_for_a_copy(tmp_path, capsys, words):
    assert run.main([str(tmp_path / "a"), "--layout", "uavid", *words]) == 2
    assert f"{words[0]} is not for --layout" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()


def test_a_copy_is_not_written_over_anything(tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    for out in (tmp_path, tmp_path / "notes.txt"):
        assert run.main([str(out), "--layout", "uavid"]) == 2
        assert "name another OUT" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
