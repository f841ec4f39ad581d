"""Memory and time of maps of rasters, with steps of gray in place of the models."""

import json
import subprocess
import sys

import pytest

from benchmarks import class_maps, rasters
from tests.paths import REPO


def test_a_small_raster_is_measured(tmp_path):
    rasters.write_raster(tmp_path / "a.tif", 300)
    figures = class_maps.measure(tmp_path / "a.tif", tmp_path, "steps")
    assert figures["polygons"] > 10
    assert figures["peak_mb"] >= figures["before_mb"] > 0


@pytest.mark.slow
def test_memory_is_bounded_and_time_linear(tmp_path):
    """About a minute of CPU. 10,000 pixels are measured by the benchmark itself."""
    words = [sys.executable, "-m", "benchmarks.class_maps", "--sides", "2500", "5000"]
    subprocess.run([*words, "--output", tmp_path / "figures.json"], cwd=REPO, check=True, capture_output=True)
    small, large = json.loads((tmp_path / "figures.json").read_text()).values()
    assert large["peak_mb"] < 2000
    assert large["peak_mb"] < small["peak_mb"] + 200
    assert large["cpu_seconds"] < 5 * small["cpu_seconds"]
