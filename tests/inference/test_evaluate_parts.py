"""Evaluations of targets with several parts: records, scores by instance, the report."""

import json
from dataclasses import replace

import numpy as np
import pytest

from geoclick import masks, store
from geoclick.clicks import Click
from geoclick.inference import evaluate
from tests.inference.conftest import SIZE

PARTS = [(Click(12, 10), Click(30, 40, False)), (Click(50, 30),)]


@pytest.fixture
def several(dataset, click_store, tmp_path):
    """The first sample has two objects, which it lists, and the second two components; the store has parts for both."""
    path = dataset / "test/samples.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    objects = np.zeros((2, *SIZE), bool)
    objects[0, 4:20, 4:20] = objects[1, 4:20, 20:40] = True
    apart = objects[0].copy()
    apart[30:40, 40:60] = True
    lines[0] |= {
        "mask": masks.encode_rle(objects.any(0)),
        "instances": [masks.encode_rle(o) for o in objects],
    }
    lines[1] |= {"mask": masks.encode_rle(apart)}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    rows = [
        replace(row, clicks=sum(PARTS, ()), parts=(2, 1), ious=(0.5,) * 3) if i < 2 else row
        for i, row in enumerate(store.read(click_store))
    ]
    store.write_shard(click_store, 0, 1, rows)
    return dataset


def run(dataset, click_store, output, *flags):
    words = ["--root", dataset, "--predictor", "oracle", "--clicks", click_store, "--output", output, *flags]
    assert evaluate.main([str(word) for word in words]) == 0
    records = [json.loads(line) for line in (output / "predictions.jsonl").read_text().splitlines()]
    return records, json.loads((output / "metrics.json").read_text())


@pytest.mark.parametrize("decode", ["replay", "joint"])
def test_parts_and_instances_are_recorded_and_reported(
    several, click_store, tiny_segmenter, tmp_path, capsys, decode
):
    records, metrics = run(several, click_store, tmp_path / "run", "--decode", decode)
    for record in records[:2]:
        assert [[Click(*click) for click in part["clicks"]] for part in record["parts"]] == [
            list(part) for part in PARTS
        ]
        united = np.logical_or.reduce([masks.decode_rle(part["mask"]) for part in record["parts"]])
        np.testing.assert_array_equal(united, masks.decode_rle(record["mask"]))
        assert (record["instances"]["true"], record["instances"]["predicted"]) == (2, 2)
    assert not any({"parts", "instances"} & record.keys() for record in records[2:])
    matched = sum(record["instances"]["matched"] for record in records[:2])
    assert metrics["instances"] == {
        "n": 2,
        "true": 4,
        "predicted": 4,
        "matched": matched,
        "precision": matched / 4,
        "recall": matched / 4,
        "f1": matched / 4,
        "count_right": 1.0,
    }
    kinds = {name: block["n"] for name, block in metrics["by_query_kind"].items()}
    assert list(kinds)[-1] == "several parts"
    assert kinds["several parts"] == 2
    assert sum(kinds.values()) == len(records) + 2
    assert f"instances of 2 targets with several parts: F1 {matched / 4:.3f}" in capsys.readouterr().out
    page = (tmp_path / "run/report.html").read_text(encoding="utf-8")
    assert "Instances of targets with several parts" in page
    assert "are of another kind as well" in page
    assert "its clicks have the number of the part" in page


def test_without_such_targets_nothing_is_said(dataset, click_store, tiny_segmenter, tmp_path, capsys):
    _, metrics = run(dataset, click_store, tmp_path / "run")
    assert "instances" not in metrics
    assert "several parts" not in metrics["by_query_kind"]
    assert "nstances of" not in capsys.readouterr().out + (tmp_path / "run/report.html").read_text()


@pytest.mark.parametrize(
    ("instances", "message"),
    [
        ("all", "instances must be a list of RLEs"),
        ([5], "an instance must be an RLE, not 5"),
        ([{"size": [3, 3], "counts": "x"}], "3x3"),
        ([{"size": list(SIZE), "counts": "broken"}], "RLE"),
    ],
)
def test_broken_instances_are_one_sentence(dataset, tmp_path, capsys, instances, message):
    path = dataset / "test/samples.jsonl"
    first, *rest = path.read_text().splitlines()
    path.write_text("\n".join([json.dumps(json.loads(first) | {"instances": instances}), *rest]) + "\n")
    words = ["--root", dataset, "--predictor", "noisy", "--output", tmp_path / "run"]
    assert evaluate.main([str(word) for word in words]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
