"""Evaluations into a folder that holds one already: which samples are picked, and when old scores are refused."""

import json
import os

import numpy as np
import pytest

from geoclick import images
from geoclick.data_synthesis import run as synth
from geoclick.inference import evaluate
from tests.inference.test_evaluate import read_lines
from tests.paths import SHARED


def evaluate_noisy(dataset, output, *flags):
    words = ["--root", dataset, "--predictor", "noisy", "--output", output, *flags]
    return evaluate.main([*map(str, words)])


def make_old(folder, *keys):
    """Turn a run folder into one of an earlier version, whose protocol lacks some keys."""
    path = folder / "protocol.json"
    protocol = json.loads(path.read_text())
    for key in keys:
        del protocol[key]
    path.write_text(json.dumps(protocol))


def test_limit_is_a_random_pick_and_first_takes_the_first(dataset, tmp_path, capsys):
    def ids(name, *flags):
        assert evaluate_noisy(dataset, tmp_path / name, *flags) == 0
        return [line["sample_id"] for line in read_lines(tmp_path / name)]

    assert ids("first", "--first", 2) == ["s0", "s1"]
    picks = {seed: ids(f"limit-{seed}", "--limit", 2, "--seed", seed) for seed in range(6)}
    assert all(pick == sorted(pick) and len(pick) == 2 for pick in picks.values())
    assert len(set(map(tuple, picks.values()))) > 2
    lines = (dataset / "test/samples.jsonl").read_text().splitlines(keepends=True)
    (dataset / "test/samples.jsonl").write_text("".join(reversed(lines)))
    assert sorted(ids("reversed", "--limit", 2, "--seed", 3)) == picks[3]
    protocol = json.loads((tmp_path / "reversed/protocol.json").read_text())
    assert (protocol["limit"], protocol["first"], protocol["n"]) == (2, None, 2)
    assert evaluate_noisy(dataset, tmp_path / "both", "--limit", 2, "--first", 2) == 2
    assert "exclude each other" in capsys.readouterr().err


def test_an_old_folder_with_limit_is_not_continued_with_another_pick(dataset, tmp_path, capsys):
    assert evaluate_noisy(dataset, tmp_path / "run", "--first", 1) == 0
    make_old(tmp_path / "run", "limit", "first", "pixels_sha256")
    codes = {evaluate_noisy(dataset, tmp_path / "run", "--limit", 1, "--seed", seed) for seed in range(8)}
    assert codes == {1}
    assert "give --first in place of --limit" in capsys.readouterr().err
    assert evaluate_noisy(dataset, tmp_path / "run", "--first", 1) == 0


def test_scores_of_changed_images_are_not_printed(dataset, tmp_path, capsys):
    assert evaluate_noisy(dataset, tmp_path / "run") == 0
    assert evaluate_noisy(dataset, tmp_path / "old") == 0
    make_old(tmp_path / "old", "pixels_sha256", "limit", "first")
    assert evaluate_noisy(dataset, tmp_path / "old") == 0
    path = dataset / "test/images/1.png"
    images.write_png(path, np.zeros((48, 64, 3), np.uint8))
    os.utime(path, (path.stat().st_atime, (tmp_path / "old/protocol.json").stat().st_mtime + 5))
    capsys.readouterr()
    assert evaluate_noisy(dataset, tmp_path / "run") == 1
    assert f"error: The images of {dataset} have changed since" in capsys.readouterr().err
    assert evaluate_noisy(dataset, tmp_path / "old") == 1
    assert f"did not record the contents of {path}" in capsys.readouterr().err


@pytest.mark.parametrize("remaining", [0, 3])
def test_predictions_that_are_cut_short_are_not_scored(dataset, tmp_path, capsys, remaining):
    assert evaluate_noisy(dataset, tmp_path / "run") == 0
    path = tmp_path / "run/predictions.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:remaining]))
    capsys.readouterr()
    assert evaluate_noisy(dataset, tmp_path / "run") == 1
    assert f"holds {remaining} of 4 predictions; delete it" in capsys.readouterr().err
    path.write_text("".join(lines)[:-20])
    assert evaluate_noisy(dataset, tmp_path / "run") == 1
    assert "predictions.jsonl is broken" in capsys.readouterr().err
    path.unlink()
    assert evaluate_noisy(dataset, tmp_path / "run") == 0
    assert path.read_text() == "".join(lines)


def test_the_settings_of_an_adapter_are_part_of_the_protocol(tmp_path):
    from types import SimpleNamespace

    from geoclick.errors import GeoClickError
    from geoclick.inference.evaluation import protocol, run_folder

    config = tmp_path / "adapter/adapter_config.json"
    config.parent.mkdir()
    config.write_text('{"lora_alpha": 64}')
    scan = SimpleNamespace(newest=(0.0, ""))
    rules = {"n": 1, "samples_sha256": "5a", "adapter_config_sha256": "0"}

    def check(settings):
        newest = protocol.newest(scan, str(config.parent))
        return run_folder.EvaluationFolder(tmp_path / "run", settings, newest).check()

    folder = run_folder.EvaluationFolder(tmp_path / "run", rules | dict.fromkeys(protocol.ADDED, "0"))
    folder.path.mkdir()
    folder.record()
    rules = folder.settings
    assert check(rules)
    with pytest.raises(GeoClickError, match="adapter_config_sha256 '0', not '1'"):
        check(rules | {"adapter_config_sha256": "1"})
    make_old(tmp_path / "run", "adapter_config_sha256")
    time = (tmp_path / "run/protocol.json").stat().st_mtime
    os.utime(config, (time - 5, time - 5))
    assert check(rules)
    os.utime(config, (time + 5, time + 5))
    with pytest.raises(GeoClickError, match=r"did not record the contents of .*adapter_config\.json"):
        check(rules)


def add_unusable_images(dataset):
    """Add a strip and a truncated image, with a sample each."""
    size = (8, 2000)
    images.write_png(dataset / "test/images/strip.png", np.zeros((*size, 3), np.uint8))
    complete = (dataset / "test/images/0.png").read_bytes()
    (dataset / "test/images/cut.png").write_bytes(complete[: len(complete) // 2])
    lines = [json.loads(line) for line in (dataset / "test/samples.jsonl").read_text().splitlines()]
    lines.append(
        {"sample_id": "strip", "task": "no_target", "query": "x", "image": "images/strip.png", "size": size}
    )
    lines.append(lines[0] | {"sample_id": "cut", "image": "images/cut.png"})
    (dataset / "test/samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_images_that_cannot_be_used_stop_the_run_or_are_skipped_and_counted(
    dataset, tiny_segmenter, tmp_path, capsys
):
    add_unusable_images(dataset)
    words = ["--root", str(dataset), "--predictor", "center-point", "--output"]
    assert evaluate.main([*words, str(tmp_path / "all")]) == 1
    assert "images/cut.png cannot be read" in capsys.readouterr().err
    assert evaluate.main([*words, str(tmp_path / "usable"), "--skip-broken"]) == 0
    protocol = json.loads((tmp_path / "usable/protocol.json").read_text())
    assert (protocol["n"], protocol["broken_and_skipped"]) == (4, {"image that cannot be used": 2})
    assert "skipped as broken: 2 (image that cannot be used)" in capsys.readouterr().out


CASES = SHARED / "cases"


@pytest.mark.realdata
@pytest.mark.skipif(not CASES.is_dir(), reason="the cases are not next to the checkout")
def test_the_strip_among_the_cases_is_recorded_by_name_and_the_rest_goes_on(tmp_path, capsys):
    flags = ["--root", str(CASES / "strip"), "--split", "train"]
    assert synth.main([*flags, "--output", str(tmp_path / "clicks")]) == 0
    failures = [json.loads(line) for line in (tmp_path / "clicks/failures.jsonl").read_text().splitlines()]
    assert [failure["item"] for failure in failures] == ["strip"]
    assert "2000x8 pixels is too narrow" in failures[0]["error"]
    assert json.loads((tmp_path / "clicks/metrics.json").read_text())["samples"] == 3
    words = [*flags, "--predictor", "center-point", "--skip-broken", "--output", str(tmp_path / "run")]
    assert evaluate.main(words) == 0
    protocol = json.loads((tmp_path / "run/protocol.json").read_text())
    assert (protocol["n"], protocol["broken_and_skipped"]) == (3, {"image that cannot be used": 1})
