"""Memory and time of rasters: bounded and linear, with a threshold in place of the models."""

import json
import subprocess
import sys

import pytest

from benchmarks import rasters
from tests import geotiffs
from tests.paths import REPO


def test_a_raster_of_the_benchmark_is_what_its_name_says(tmp_path):
    rasters.write_raster(tmp_path / "a.tif", 300)
    with geotiffs.rasterio.open(tmp_path / "a.tif") as raster:
        assert (raster.shape, raster.count, raster.crs.to_string()) == ((300, 300), 3, "EPSG:32633")
        assert raster.read().std() > 10
    figures = rasters.measure(tmp_path / "a.tif", tmp_path, "threshold", 128, 16)
    assert figures["windows"] == 9
    assert figures["polygons"] > 0


def test_the_distance_to_the_borders_of_windows():
    # Windows of rows 0 to 3 and 2 to 5 of six: the borders inside are rows 2 and 3.
    assert rasters.to_borders([0, 2], 4, 6).tolist() == [2, 1, 0, 0, 1, 2]
    assert rasters.to_borders([0], 6, 6).tolist() == [6] * 6


def test_windows_differ_from_a_single_pass_only_near_their_borders():
    figures = rasters.seams(300, "threshold", 128, 16)
    assert figures["differing"] > 0
    assert figures["largest_distance"] < rasters.SMOOTH // 2 + 1
    assert figures["iou"] > 0.99


@pytest.mark.slow
def test_memory_is_bounded_and_time_linear(tmp_path):
    """About 40 s of CPU. 10,000 pixels are measured by the benchmark itself."""
    words = [sys.executable, "-m", "benchmarks.rasters", "--sides", "2500", "5000"]
    subprocess.run([*words, "--output", tmp_path / "figures.json"], cwd=REPO, check=True, capture_output=True)
    small, large = json.loads((tmp_path / "figures.json").read_text()).values()
    assert large["peak_mb"] < 2000
    assert large["peak_mb"] < small["peak_mb"] + 100  # four times the pixels have 75 MB as RGB
    assert large["cpu_seconds"] < 5 * small["cpu_seconds"]
