"""Stores with targets in several parts."""

import json
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from geoclick import masks, store
from geoclick.data_synthesis.run import run
from geoclick.data_synthesis.shards import sequences
from tests.data_synthesis.disc_segmenter import DiscSegmenter
from tests.data_synthesis.job_process import start
from tests.data_synthesis.test_run import make_root, read_lines, settings, store_bytes, write_lines


@pytest.fixture
def root(tmp_path):
    return make_root(tmp_path / "data")


@pytest.fixture
def scattered(root):
    """Targets of one to three discs."""
    rows, lines = np.ogrid[:40, :50], read_lines(root / "train/samples.jsonl")
    for index, line in enumerate(lines):
        mask = np.zeros((40, 50), bool)
        for x, y in [(10, 12), (38, 10), (25, 32)][: 1 + index % 3]:
            mask |= (rows[1] - x) ** 2 + (rows[0] - y) ** 2 <= 49
        line |= {"mask": masks.encode_rle(mask), "task": "referring"}
    write_lines(root, lines)
    return root


@pytest.mark.parametrize("mode", ["components", "auto"])
def test_targets_of_several_parts(scattered, tmp_path, mode):
    run(settings(scattered, tmp_path / "one"), DiscSegmenter())
    run(settings(scattered, tmp_path / "parts", parts=mode), DiscSegmenter())
    for index, (one, row) in enumerate(
        zip(*map(store.read, (tmp_path / "one", tmp_path / "parts")), strict=True)
    ):
        assert (one.parts, one.policy) == ((len(one.clicks),), "centre+multimask-first+feedback")
        assert row.policy == f"centre+multimask-first+feedback+parts-{mode}"
        assert sum(row.parts) == len(row.clicks) == len(row.ious)
        assert mode == "components" or max(row.ious) >= max(one.ious)
        if index % 3 == 0:
            assert (row.clicks, row.ious) == (one.clicks, one.ious)
        if mode == "components":
            assert len(row.parts) == 1 + index % 3
            assert all(part[0].positive for part in row.sequences)
            places = [(part[0].x, part[0].y) for part in row.sequences]
            assert places == sorted(places)
    metrics = json.loads((tmp_path / "parts/metrics.json").read_text())
    assert sum(group["sequences"] for group in metrics["parts"].values()) == 12
    assert json.loads((tmp_path / "parts/manifest.json").read_text())["parts"] == mode
    with Image.open(tmp_path / "parts/sheet.png") as sheet:
        assert sheet.size[0] > 1000


def test_the_order_of_parts_is_recorded_where_it_is_not_the_default(scattered, tmp_path):
    options = {"parts": "components", "part_order": "size", "sheet": 0}
    run(settings(scattered, tmp_path / "out", **options), DiscSegmenter())
    rows = list(store.read(tmp_path / "out"))
    policy = "centre+multimask-first+feedback+parts-components+part-order-size"
    assert {row.policy for row in rows} == {policy}
    assert json.loads((tmp_path / "out/manifest.json").read_text())["part_order"] == "size"


def test_useless_parts_and_clicks_are_counted(scattered, tmp_path):
    run(settings(scattered, tmp_path / "out", parts="components", iou_target=1.0), DiscSegmenter())
    counted = Counter()
    for line in read_lines(tmp_path / "out/dropped.jsonl"):
        counted[line["reason"]] += line["count"]
    assert counted.keys() == {sequences.NO_GAIN}
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    assert metrics["dropped"] == dict(counted)


@pytest.mark.parametrize("order", ["left-to-right", "size"])
def test_batch_and_shards_change_no_row_in_parts(scattered, tmp_path, order):
    options = {"parts": "components", "policy": "random", "sequences": 2, "part_order": order}
    run(settings(scattered, tmp_path / "a", **options), DiscSegmenter())
    run(settings(scattered, tmp_path / "b", batch=2, image_batch=1, shards=1, **options), DiscSegmenter())
    assert list(store.read(tmp_path / "a")) == list(store.read(tmp_path / "b"))
    assert any(len(row.parts) > 1 for row in store.read(tmp_path / "a"))


def test_what_parts_leave_out_is_counted(root, tmp_path):
    lines = read_lines(root / "train/samples.jsonl")[:1]
    mask = np.zeros((40, 50), bool)
    mask[5:15, 5:15] = mask[25:35, 30:40] = mask[30, 10] = mask[5:15, 16] = True
    write_lines(root, [lines[0] | {"mask": masks.encode_rle(mask)}])
    run(settings(root, tmp_path / "out", parts="components", shards=1), DiscSegmenter())
    assert read_lines(tmp_path / "out/dropped.jsonl") == [
        {"item": "s00", "reason": "component joined to a near one", "count": 1},
        {"item": "s00", "reason": "small part", "count": 1},
        {"item": "s00", "reason": sequences.NO_GAIN, "count": 8},
    ]


@pytest.mark.slow
def test_two_processes_give_the_bytes_of_one_in_parts(scattered, tmp_path):
    options = {"parts": "components", "shards": 6, "batch": 1, "sheet": 0}
    run(settings(scattered, tmp_path / "whole", **options), DiscSegmenter())
    expected = store_bytes(tmp_path / "whole")
    jobs = [start(scattered, tmp_path / "out", rank, 2, parts="components") for rank in (0, 1)]
    for job in jobs:
        job.communicate()
    assert [job.returncode for job in jobs] == [0, 0]
    assert store_bytes(tmp_path / "out") == expected
    assert any(len(row.parts) > 1 for row in store.read(tmp_path / "out"))
