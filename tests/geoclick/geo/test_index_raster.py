"""GeoTIFFs of classes, written row by row."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoclick.errors import GeoClickError
from geoclick.geo import index_raster, writing
from geoclick.geo.index_raster import IndexWriter
from tests import geotiffs
from tests.geoclick.geo.class_maps import COLORS, NAMES, write_map
from tests.geoclick.geo.test_writing import PLACES

rasterio = geotiffs.rasterio


@pytest.mark.parametrize("name", PLACES)
def test_the_index_raster(name, tmp_path):
    labels = np.random.default_rng(0).choice([0, 1, 2, writing.NO_DATA], (40, 60))
    place = PLACES[name]
    path = tmp_path / "a.mask.tif"
    for _ in range(2):
        write_map(path, labels, np.ones(labels.shape), place)
    assert [file.name for file in tmp_path.iterdir()] == ["a.mask.tif"]
    with rasterio.open(path) as raster:
        assert raster.crs == rasterio.crs.CRS.from_string(place.crs)
        assert raster.transform.almost_equals(place.transform, 1e-12)
        assert (raster.count, raster.dtypes, raster.nodata) == (1, ("uint8",), writing.NO_DATA)
        np.testing.assert_array_equal(raster.read(1), labels)
        table = raster.colormap(1)
        assert [table[number][:3] for number in range(3)] == [*COLORS]
        assert [raster.tags(1)[f"class_{number}"] for number in range(3)] == [*NAMES]


@given(st.integers(1, 700), st.integers(1, 40), st.data())
def test_rows_in_any_portions_give_the_same_file(tmp_path_factory, height, width, data):
    values = np.random.default_rng(height).integers(0, 4, (height, width)).astype(np.uint8)
    values[values == 3] = writing.NO_DATA
    path = tmp_path_factory.mktemp("index") / "a.tif"
    writer = IndexWriter(path, values.shape, "", None, colors={0: (1, 2, 3)}, description="a map")
    top = 0
    while top < height:
        rows = data.draw(st.integers(1, 400))
        writer.write(values[top : top + rows])
        top += rows
    writer.close()
    np.testing.assert_array_equal(index_raster.read(path), values)
    np.testing.assert_array_equal(writer.counts, np.bincount(values.ravel(), minlength=256))
    with rasterio.open(path) as raster:
        assert (raster.crs, raster.descriptions, raster.block_shapes) == (None, ("a map",), [(256, 256)])


def test_a_file_that_differs_from_what_was_written_is_an_error_and_removed(tmp_path, monkeypatch):
    writer = IndexWriter(tmp_path / "a.tif", (4, 5), "", None, colors={})
    writer.write(np.ones((4, 5), np.uint8))
    monkeypatch.setattr(index_raster, "_counts", lambda path: np.zeros(256, np.int64))
    with pytest.raises(OSError, match="could not be written completely"):
        writer.close()
    assert list(tmp_path.iterdir()) == []


def test_a_broken_file_is_one_sentence(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"II*\0")
    with pytest.raises(GeoClickError, match=r"cannot be read .*; predict it again"):
        index_raster.read(tmp_path / "a.tif")
