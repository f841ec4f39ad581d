"""`geoclick train sft --dry-run` reports what the run needs and writes nothing."""

import json
import re
import shutil
import tempfile
from types import SimpleNamespace

import pytest

from geoclick import images
from geoclick.geo import reading
from geoclick.train import sft
from geoclick.train.data import vision_features
from geoclick.train.loop import dry_run
from geoclick.train.loop.trainer import ClickTrainer
from tests import tiny


@pytest.fixture(scope="module")
def flags(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dry")
    base = tiny.qwen3_vl_folder(folder / "vlm")
    clicks, root = tiny.click_store(folder, rows=14)
    words = ["--vlm", base, "--clicks", clicks, "--root", root, "--lora-r", 4, "--num_train_epochs", 2]
    return [str(word) for word in [*words, "--use_cpu", "true", "--logging_steps", 1]]


def said(capsys):
    """The lines of the report by their names."""
    lines = capsys.readouterr().out.splitlines()
    return {line[:13].strip(): line[14:] for line in lines if re.match(r"[a-z ]{13} ", line)}


PACKED = ["--packing-tokens", "250", "--gradient_accumulation_steps", "2"]
AUGMENTED = ["--augment", "flip", "crop"]
WATCHED = ["--evaluate-every", "1", "--evaluate-samples", "4"]


@pytest.mark.parametrize(
    "way",
    [
        [],
        [*PACKED, *AUGMENTED],
        *(pytest.param(way, marks=pytest.mark.slow) for way in (PACKED, AUGMENTED, WATCHED)),
    ],
)
def test_it_reports_steps_and_weights_and_writes_nothing(flags, way, tmp_path, capsys, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    output = tmp_path / "run"
    words = [*flags, *way, "--output", str(output)]
    assert sft.main([*words, "--dry-run"]) == 0
    assert not output.exists()
    found = said(capsys)
    assert sft.main(words) == 0
    metrics = json.loads((output / "metrics.json").read_text())
    assert found["steps"] == f"{metrics['steps'] // 2} an epoch, {metrics['steps']} in all, on 1 process(es)"
    held_out = metrics["rows_left_out"].get("held out")
    assert found["rows"] == (
        f"{metrics['rows']} (left out: {held_out} held out)" if held_out else "14 (none left out)"
    )
    trainable = metrics["trainable_parameters"]["language_model"]
    assert found["trainable"].startswith(f"{trainable:,} weights (language_model {trainable:,}, projector 0")
    assert ("packs" in found) == ("--packing-tokens" in way)
    if "packs" in found:
        assert found["packs"].startswith(f"{metrics['packs']} an epoch")
    assert found["memory"].startswith("measured: ")
    assert "the optimizer's state included" in found["memory"]
    assert re.match(r"measured: [0-9.]+ s a step on cpu", found["time"])
    assert ("evaluation" in found) == ("in all" in found) == ("--evaluate-every" in way)
    if "evaluation" in found:
        count = len(metrics["evaluations"])
        assert re.match(r"measured on [0-9]+ of [0-9]+ samples: [0-9.]+ s each", found["evaluation"])
        assert f"for all {count}; peak " in found["evaluation"]


@pytest.mark.parametrize("way", [[], PACKED, WATCHED])
def test_a_card_is_estimated_without_a_step(flags, way, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(ClickTrainer, "training_step", None)
    monkeypatch.setattr(vision_features, "of_images", None)
    assert sft.main([*flags, *way, "--output", str(tmp_path / "run"), "--dry-run", "h100-80gb"]) == 0
    assert not (tmp_path / "run").exists()
    found = said(capsys)
    assert re.match(r"estimated from shapes for h100-80gb: .* of 80.0 GB, fits$", found["memory"])
    assert "35% of 989 TFLOP/s (assumed)" in found["time"]
    assert ("evaluation" in found) == ("--evaluate-every" in way)


def test_the_longest_rows_come_first(flags, tmp_path, monkeypatch):
    seen = []

    def watched(self, **kwargs):
        seen.append(([row["completion_ids"] for row in self.train_dataset], self.args.max_steps))
        self.callback_handler.callbacks[-1].seconds += [1.0] * self.args.max_steps

    monkeypatch.setattr(ClickTrainer, "train", watched)
    assert sft.main([*flags, "--output", str(tmp_path / "run"), "--dry-run"]) == 0
    ((rows, steps),) = seen
    assert len(rows) == 4 * steps == 4 * (dry_run.LONGEST + dry_run.MEASURED)
    lengths = [len(row) for row in rows]
    assert min(lengths[:4]) >= sorted(lengths[8:])[-4]
    assert rows[:4] == rows[4:8]


@pytest.mark.parametrize(
    ("more", "code", "expected"),
    [
        (["--report_to", "nobody"], 2, "report_to nobody is unknown"),
        (["--output", "FILE/run"], 1, "give another --output"),
        ([], 1, "0006.png is 5x5 pixels"),
    ],
)
def test_what_would_fail_late_fails_now(flags, tmp_path, capsys, more, code, expected):
    (tmp_path / "file").write_text("")
    place = flags.index("--root") + 1
    shutil.copytree(flags[place], tmp_path / "copy")
    flags = flags if more else [*flags[:place], str(tmp_path / "copy"), *flags[place + 1 :]]
    path = tmp_path / "copy" / "train" / "images" / "0006.png"
    images.write_png(path, reading.read_image(path)[:5, :5])
    more = [word.replace("FILE", str(tmp_path / "file")) for word in more]
    assert sft.main([*flags, "--output", str(tmp_path / "run"), "--dry-run", *more]) == code
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def arguments(**changes):
    return SimpleNamespace(**{"save_strategy": "steps", "save_steps": 10, "save_total_limit": 2} | changes)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 3),
        ({"save_total_limit": None}, 10),
        ({"save_steps": 0.5}, 2),
        ({"save_strategy": "no"}, 0),
        ({"save_strategy": "epoch", "save_total_limit": 9}, 4),
        ({"save_strategy": "best"}, 3),
        ({"save_strategy": "best", "save_total_limit": None}, 7),
    ],
)
def test_checkpoints_are_counted_as_the_trainer_stores_them(changes, expected):
    assert (
        dry_run.checkpoints_on_disk(arguments(**changes), epoch_steps=25, steps=100, evaluations=7)
        == expected
    )


@pytest.mark.parametrize(
    ("every", "delay", "on_start", "expected"),
    [(10, 0, False, 10), (10, 0, True, 11), (30, 0, False, 3), (10, 25, False, 8), (101, 0, False, 0)],
)
def test_evaluations_are_counted_as_the_trainer_makes_them(every, delay, on_start, expected):
    monitor, run = SimpleNamespace(every=every), SimpleNamespace(eval_delay=delay, eval_on_start=on_start)
    assert dry_run.evaluations_of(run, monitor, steps=100) == expected


def test_figures_as_text():
    assert dry_run.clock(59.6) == "1 min 0 s"
    assert dry_run.clock(12) == "12 s"
    assert dry_run.clock(7300) == "2 h 1 min"
    assert dry_run.giga(2.34e9) == "2.3 GB"
    assert dry_run.giga(4.5e6) == "4 MB"
    assert dry_run.quantiles(range(101)) == "least 0, median 50, 90 % within 90, most 100"
