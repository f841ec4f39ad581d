"""The scaling benchmark, on a few masks."""

import json

import pytest

from benchmarks import scaling
from geoclick import store


@pytest.mark.slow
def test_each_number_of_masks_is_measured(tmp_path):
    assert scaling.main(["--output", str(tmp_path), "--masks", "3", "60"]) == 0
    rows = json.loads((tmp_path / "scaling.json").read_text())
    assert [row["masks"] for row in rows] == [3, 60]
    for row in rows:
        clicked = list(store.read(tmp_path / f"{row['masks']}-clicks"))
        assert len(clicked) == row["masks"]
        assert row["peak_mb"] > 50
        assert row["cpu_seconds"] > 0
