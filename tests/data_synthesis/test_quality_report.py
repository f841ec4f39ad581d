import errno
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from geoclick import cli, store
from geoclick.clicks import Click
from geoclick.data_synthesis import quality_report
from geoclick.data_synthesis.quality_report import QualityOptions, main, run
from geoclick.errors import GeoClickError
from tests.data_synthesis.click_rows import make_row, random_rows, write_images

MANIFEST = {"dataset": "folder", "split": "train", "clicks": 6, "iou_target": 0.9, "segmenter": "disc"}


def box_mask(top, left, bottom, right):
    mask = np.zeros((40, 50), bool)
    mask[top:bottom, left:right] = True
    return mask


def suspects():
    """Rows of which three are flagged, one of them twice, with the reasons."""
    good, other = box_mask(5, 5, 25, 25), box_mask(10, 20, 38, 48)
    thin = box_mask(2, 2, 3, 40)
    suspects = [
        (make_row(good, [Click(15, 15)], [0.9], sample_id="good"), []),
        (make_row(other, [Click(30, 20), Click(1, 1, False)], [0.45, 0.4], sample_id="poor"), ["low-iou"]),
        (make_row(np.zeros((40, 50), bool), sample_id="nothing"), []),
        (make_row(good, [Click(15, 15)], [0.9], sample_id="twin", query="<b>roof</b>"), ["duplicate"]),
        (make_row(thin, [Click(9, 2)], [0.2], sample_id="thin"), ["low-iou", "sliver"]),
        (make_row(box_mask(0, 30, 9, 49), [Click(40, 4)], [0.95], sample_id="last"), []),
    ]
    # Different queries: rows that only differ in their targets would contradict each other.
    return [
        (row if row.sample_id == "twin" else replace(row, query=f"the {row.sample_id} roof"), reasons)
        for row, reasons in suspects
    ]


def write_store(folder, rows, shards=1, **manifest):
    for index in range(shards):
        store.write_shard(folder / "store", index, shards, rows[index::shards])
    store.write_manifest(folder / "store", MANIFEST | {"samples": len(rows), "shards": shards} | manifest)
    write_images(folder / "root", rows)


def options(folder, **changes):
    values = {"store": folder / "store", "root": folder / "root", "output": folder / "out"}
    return QualityOptions(**{k: str(v) for k, v in values.items()} | changes)


def read_flags(folder):
    return [json.loads(line) for line in (folder / "out" / "flags.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("after", range(4))
def test_a_report_whose_disk_was_full_is_written_again(tmp_path, monkeypatch, capsys, after):
    write_store(tmp_path, [row for row, _ in suspects()])
    replace_file, count = Path.replace, [0]

    def full(self, target):
        if count[0] == after:
            raise OSError(errno.ENOSPC, "No space left on device")
        count[0] += 1
        return replace_file(self, target)

    words = [str(tmp_path / "store"), "--root", str(tmp_path / "root"), "--output", str(tmp_path / "out")]
    monkeypatch.setattr(Path, "replace", full)
    assert main(words) == 1
    assert "No space left on device" in capsys.readouterr().err
    monkeypatch.undo()
    assert main(words) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("config.yaml", "flags.jsonl", "quality.json", "quality.html")
    }


def test_each_suspect_sample_has_a_line_with_its_reasons(tmp_path):
    rows = suspects()
    write_store(tmp_path, [row for row, _ in rows])
    run(options(tmp_path))
    flags = read_flags(tmp_path)
    assert [(f["sample_id"], f["reasons"]) for f in flags] == [
        (row.sample_id, reasons) for row, reasons in rows if reasons
    ]
    poor, twin, thin = flags
    assert (poor["final_iou"], poor["best_iou"], poor["clicks"]) == (0.4, 0.45, 2)
    assert twin["query"] == "<b>roof</b>"
    assert (twin["duplicate_of"], twin["duplicate_iou"], twin["same_query"]) == ("good", 1.0, False)
    assert (thin["radius"], thin["area"]) == (1.0, 38)
    found = json.loads((tmp_path / "out" / "quality.json").read_text())
    assert found["all"]["flagged"] == {
        "low-iou": 2,
        "duplicate": 1,
        "sliver": 1,
        "contradiction": 0,
        "any": 3,
    }
    assert found["max_clicks"] == 6
    # Of four clicked masks the first, the twin and the last reach 0.8 at once, the other two never.
    assert found["all"]["noc"]["80"] == {"mean": (3 * 1 + 2 * 6) / 5, "never": 0.4}
    page = (tmp_path / "out" / "quality.html").read_text()
    assert "<b>roof</b>" not in page
    assert "&lt;b&gt;roof&lt;/b&gt;" in page
    config = yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())
    assert config["min_iou"] == 0.5


def test_contradicting_samples_are_flagged_with_the_ceiling_that_they_leave(tmp_path, capsys):
    left, right = box_mask(0, 0, 40, 25), box_mask(0, 25, 40, 50)
    rows = [
        make_row(mask, [Click(x, 9)] * len(ious), ious, sample_id=name, query=query)
        for name, query, mask, x, ious in (
            ("one", "building", left, 9, [0.9]),
            ("two", "building", right, 30, [0.9, 0.6, 0.7]),
            ("three", "road", left, 9, [0.8, 0.9]),
            ("four", "tree", right, 30, [0.8]),
        )
    ]
    write_store(tmp_path, rows)
    run(options(tmp_path, duplicate_iou=1.0))
    assert [(line["sample_id"], line["reasons"]) for line in read_flags(tmp_path)] == [
        ("one", ["contradiction"]),
        ("two", ["contradiction"]),
    ]
    found = json.loads((tmp_path / "out" / "quality.json").read_text())
    # One answer to "building" is right once and has no common pixel with the other target: (1 + 0 + 1 + 1) / 4.
    assert found["contradictions"] == {"contradicting": 2, "share": 0.5, "questions": 1, "ceiling": 0.75}
    shown = capsys.readouterr().out
    assert "2 samples contradict others" in shown
    assert "mean IoU of at most 0.750" in shown
    assert "mean IoU 0.825 after the last click (best of each sequence: 0.875)" in shown
    assert "33.3 % of the clicks after the first lower the IoU; 25.0 % of the sequences end below" in shown
    assert "2 samples contradict others" in (tmp_path / "out" / "quality.html").read_text()


def test_the_clean_store_holds_the_other_samples_and_its_source(tmp_path, capsys):
    rows = suspects()
    write_store(tmp_path, [row for row, _ in rows], policy="center")
    run(options(tmp_path, drop=True))
    clean = tmp_path / "out" / "clean"
    assert list(store.read(clean)) == [row for row, reasons in rows if not reasons]
    manifest = store.read_manifest(clean)
    assert manifest["samples"] == 3
    assert manifest["policy"] == "center"
    source = manifest["filtered_from"]
    assert (source["samples"], source["dropped"]) == (6, 3)
    assert source["dropped_by_reason"] == {"low-iou": 2, "duplicate": 1, "sliver": 1, "contradiction": 0}
    assert source["limits"]["duplicate_iou"] == 0.95
    assert "3 samples in" in capsys.readouterr().out
    # Nothing of it is flagged again.
    again = options(tmp_path, store=str(clean), output=str(tmp_path / "again"))
    run(again)
    assert (tmp_path / "again" / "flags.jsonl").read_text() == ""
    with pytest.raises(GeoClickError, match="clean exists already"):
        run(options(tmp_path, drop=True))


def test_a_clean_store_of_many_rows_has_several_shards_and_replaces_an_unfinished_one(tmp_path, monkeypatch):
    monkeypatch.setattr(quality_report, "SHARD_SAMPLES", 7)
    rows = random_rows(3, 50)
    write_store(tmp_path, rows, shards=3)
    store.write_shard(tmp_path / "out" / "clean.partial", 5, 9, rows)
    run(options(tmp_path, drop=True, min_iou=0.8))
    dropped = {line["sample_id"] for line in read_flags(tmp_path)}
    expected = [row for row in store.read(tmp_path / "store") if row.sample_id not in dropped]
    clean = tmp_path / "out" / "clean"
    assert 0 < len(expected) < 50
    assert list(store.read(clean)) == expected
    assert len(list(clean.glob("*.parquet"))) == -(-len(expected) // 7)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        *("clean", "config.yaml", "flags.jsonl", "quality.html", "quality.json")
    ]


def test_a_clean_store_may_be_empty(tmp_path):
    write_store(tmp_path, [suspects()[1][0]])
    run(options(tmp_path, drop=True))
    assert list(store.read(tmp_path / "out" / "clean")) == []
    assert store.read_manifest(tmp_path / "out" / "clean")["samples"] == 0


def test_the_same_command_gives_the_same_bytes(tmp_path):
    write_store(tmp_path, random_rows(5, 60), shards=2)
    names = ("quality.html", "quality.json", "flags.jsonl")
    run(options(tmp_path))
    first = [(tmp_path / "out" / name).read_bytes() for name in names]
    run(options(tmp_path))
    assert [(tmp_path / "out" / name).read_bytes() for name in names] == first


def test_the_maximum_comes_from_the_option_the_manifest_or_the_longest_sequence(tmp_path):
    rows = [row for row, _ in suspects()]
    for folder, manifest, asked, expected in (
        ("a", {}, None, 6),
        ("b", {"clicks": None}, None, 2),
        ("c", {}, 20, 20),
    ):
        write_store(tmp_path / folder, rows, **manifest)
        run(options(tmp_path / folder, max_clicks=asked, worst=0, worst_per_group=0))
        found = json.loads((tmp_path / folder / "out" / "quality.json").read_text())
        assert found["max_clicks"] == len(found["all"]["iou_after_clicks"]) == expected


def test_several_sequences_of_a_sample_are_no_duplicates(tmp_path):
    mask = box_mask(5, 5, 25, 25)
    rows = [make_row(mask, [Click(15, 15)], [0.9], sample_id=name) for name in ("a", "a#2", "b", "b#2")]
    for folder, manifest, expected in (
        ("several", {"sequences": 2}, ["b", "b#2"]),
        ("one", {}, ["a#2", "b", "b#2"]),
    ):
        write_store(tmp_path / folder, rows, **manifest)
        run(options(tmp_path / folder, worst=0, worst_per_group=0))
        assert [line["sample_id"] for line in read_flags(tmp_path / folder)] == expected


def arguments(folder, *more):
    return [str(folder / "store"), "--root", str(folder / "root"), "--output", str(folder / "out"), *more]


def check_error(capsys, code, argv, *expected):
    assert main(argv) == code
    shown = capsys.readouterr().err.splitlines()
    errors = [line for line in shown if line.startswith("error:")]
    assert len(errors) == 1
    assert shown[-1] == errors[0]
    for text in expected:
        assert text in errors[0]


def test_errors_are_one_sentence(tmp_path, capsys):
    rows = [row for row, _ in suspects()]
    for name in ("none", "empty", "unfinished", "part", "rows", "good"):
        (tmp_path / name).mkdir()
    check_error(capsys, 1, arguments(tmp_path / "none"), "holds no click store")
    (tmp_path / "empty" / "store").mkdir()
    check_error(capsys, 1, arguments(tmp_path / "empty"), "holds no click store")
    store.write_shard(tmp_path / "unfinished" / "store", 0, 1, rows)
    check_error(capsys, 1, arguments(tmp_path / "unfinished"), "manifest.json", "geoclick synth")
    write_store(tmp_path / "part", rows, shards=2)
    (tmp_path / "part" / "store" / store.shard_name(1, 2)).unlink()
    check_error(capsys, 1, arguments(tmp_path / "part"), "1 of 2 shards")
    write_store(tmp_path / "rows", [])
    check_error(capsys, 1, arguments(tmp_path / "rows"), "holds no rows")
    good = tmp_path / "good"
    write_store(good, rows)
    check_error(capsys, 2, [*arguments(good)[:1], "--output", "x"], "Missing --root")
    check_error(capsys, 2, [*arguments(good), "--root", str(good / "nowhere")], "nowhere is not a folder")
    check_error(
        capsys, 1, [*arguments(good), "--root", str(good)], "train/images/a.png does not exist", "--root"
    )
    check_error(capsys, 2, [*arguments(good), "--tokenizer", str(good)], "tokenizer.json")
    check_error(capsys, 2, [*arguments(good), "--min-iou", "1.1"], "--min-iou must be 0 to 1")
    check_error(capsys, 2, [*arguments(good), "--duplicate-iou", "nan"], "--duplicate-iou must be 0")
    check_error(capsys, 2, ["--root", "x", "--output", "y"], "Missing STORE")
    assert not (good / "out").exists()


def test_other_runs_are_not_overwritten(tmp_path, capsys):
    write_store(tmp_path, [row for row, _ in suspects()])
    (tmp_path / "store" / "config.yaml").write_text("clicks: 6\n")
    into_the_store = [*arguments(tmp_path), "--output", str(tmp_path / "store")]
    check_error(capsys, 2, into_the_store, "was made by 'geoclick synth'")
    (tmp_path / "store" / "config.yaml").unlink()
    check_error(capsys, 2, into_the_store, "was made by 'geoclick synth'")


def test_a_broken_image_is_an_error_after_the_figures_are_written(tmp_path, capsys):
    write_store(tmp_path, [row for row, _ in suspects()])
    (tmp_path / "root" / "train" / "images" / "a.png").write_bytes(b"no image")
    check_error(capsys, 1, arguments(tmp_path), "a.png cannot be read as an image")
    assert len(read_flags(tmp_path)) == 3
    assert (tmp_path / "out" / "quality.json").exists()
    # Without pictures there is a page all the same.
    assert main(arguments(tmp_path, "--worst", "0", "--worst-per-group", "0")) == 0


def test_an_image_outside_the_root_is_an_error(tmp_path, capsys):
    write_store(tmp_path, [make_row(box_mask(5, 5, 25, 25), image="../outside.png")])
    check_error(capsys, 1, arguments(tmp_path), "has an image outside its dataset")


def test_the_command_line_runs_the_command(monkeypatch, tmp_path, capsys):
    write_store(tmp_path, [row for row, _ in suspects()])
    monkeypatch.setattr(sys, "argv", ["geoclick", "quality", *arguments(tmp_path)])
    assert cli.main() == 0
    assert "3 flagged (2 low-iou, 1 duplicate, 1 sliver, 0 contradiction)" in capsys.readouterr().out
