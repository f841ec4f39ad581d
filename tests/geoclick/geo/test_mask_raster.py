"""Masks that are joined from windows and written while they come, and their objects as polygons."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from geoclick.errors import GeoClickError
from geoclick.geo import mask_raster, objects, tiles, vectors
from geoclick.geo.mask_raster import MaskWriter
from geoclick.geo.objects import Pieces
from geoclick.geo.tiles import Window
from tests import geotiffs

rasterio, shapely = geotiffs.rasterio, geotiffs.shapely
PLACE = (geotiffs.UTM, rasterio.Affine(0.5, 0, geotiffs.LEFT, 0, -0.5, geotiffs.TOP))


def write(path, mask, valid, tile, overlap, longest=50, scores=None):
    """Write a mask window by window; returns the writer and the pieces."""
    grid = tiles.cut(mask.shape, tile, overlap)
    writer = MaskWriter(path, grid, mask.shape, *PLACE, name="a road", longest=longest)
    pieces = Pieces()
    for number, place in enumerate(tiles.all_tiles(grid)):
        window = tiles.window(grid, place)
        own, data = tiles.crop(mask & valid, window), tiles.crop(valid, window)
        if data.any():
            writer.add(place, own, None if data.all() else data)
            given = (None, None) if scores is None else (scores[number], scores[number] / 2)
            pieces.add(own, window, number, *given)
        else:
            writer.add(place, None, None)
    writer.close()
    return writer, pieces


def blobs(height, width, seed, share=0.5):
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).random((height, width)), 2)
    return noise > np.quantile(noise, 1 - share)


@settings(max_examples=40)
@given(st.integers(1, 700), st.integers(1, 90), st.integers(4, 600), st.data())
def test_the_file_is_the_union_of_the_windows(tmp_path_factory, height, width, tile, data):
    overlap = data.draw(st.integers(0, min(tile - 1, 40)))
    seed = data.draw(st.integers(0, 9))
    mask = blobs(height, width, seed)
    valid = np.ones_like(mask)
    valid[: data.draw(st.integers(0, height)), : data.draw(st.integers(0, width))] = False
    path = tmp_path_factory.mktemp("mask") / "a.tif"
    writer, _ = write(path, mask, valid, tile, overlap)
    with rasterio.open(path) as raster:
        written = raster.read(1)
        assert (raster.nodata, raster.descriptions, raster.crs.to_string()) == (255, ("a road",), PLACE[0])
        assert raster.transform == PLACE[1]
        assert (raster.block_shapes, raster.compression.value) == ([(256, 256)], "DEFLATE")
    np.testing.assert_array_equal(written, np.where(valid, mask, 255))
    np.testing.assert_array_equal(mask_raster.read_mask(path), mask & valid)
    assert (writer.area, writer.no_data) == ((mask & valid).sum(), (~valid).sum())
    # A pixel of the reduced mask is set where one of its pixels is.
    rows, columns = np.nonzero(mask & valid)
    h, w = writer.small.shape
    expected = np.zeros((h, w), bool)
    expected[rows * h // height, columns * w // width] = True
    np.testing.assert_array_equal(writer.small, expected)


def test_a_file_that_is_not_finished_is_removed(tmp_path):
    grid = tiles.cut((600, 40), 40, 0)
    writer = MaskWriter(tmp_path / "a.tif", grid, (600, 40), *PLACE, name="x", longest=50)
    writer.add((0, 0), np.ones((40, 40), bool), None)
    writer.add((14, 0), np.ones((40, 40), bool), None)
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif.partial"]
    writer.abort(GeoClickError("cut short"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("share", [0.2, 0.5])
def test_objects_are_the_components_of_the_complete_mask(tmp_path, seed, share):
    mask = blobs(230, 170, seed, share)
    mask[100:104] = True  # across all windows
    valid = np.ones_like(mask)
    valid[:30, :40] = False
    scores = np.random.default_rng(seed).random(100)
    writer, pieces = write(tmp_path / "a.tif", mask, valid, 64, 16, scores=scores)
    found = objects.from_file(writer.path, pieces, *PLACE, tolerance=0)
    labels, count = ndimage.label(mask & valid)
    assert len(found) == count
    first = np.array([np.argwhere(labels == number)[0] for number in range(1, count + 1)])
    assert first[:, 0].tolist() == sorted(first[:, 0])
    np.testing.assert_array_equal(found.pixels, np.bincount(labels.ravel())[1:])
    np.testing.assert_allclose(found.areas, found.pixels * 0.25 / 0.9996**2, rtol=1e-4)
    assert shapely.is_valid(found.shapes).all()
    inverse = ~PLACE[1]
    grid = tiles.cut(mask.shape, 64, 16)
    windows = [tiles.window(grid, place) for place in tiles.all_tiles(grid)]
    for number in range(count):
        own = labels == number + 1
        drawn = rasterio.features.rasterize(
            [(shapely.transform(found.shapes[number], lambda xy: vectors.apply(inverse, *xy.T)), 1)],
            out_shape=mask.shape,
            dtype=np.uint8,
        )
        np.testing.assert_array_equal(drawn, own)
        shares = np.array([tiles.crop(own, window).sum() for window in windows])
        assert found.joined[number] == (shares > 0).sum()
        assert found.windows[number] == shares.argmax()
        assert found.scores[number] == pytest.approx((shares * scores[: len(shares)]).sum() / shares.sum())
    np.testing.assert_allclose(found.confidences, found.scores / 2)


@pytest.mark.parametrize(("tolerance", "share"), [(1.0, 0.9), (1.5, 0.5), (3.0, 0.4)])
def test_polygons_are_within_the_tolerance_of_the_outlines(tmp_path, tolerance, share):
    mask = blobs(120, 150, 5)
    writer, pieces = write(tmp_path / "a.tif", mask, np.ones_like(mask), 200, 0)
    exact, simple = (objects.from_file(writer.path, pieces, *PLACE, tolerance=t) for t in (0, tolerance))
    distances = shapely.hausdorff_distance(exact.shapes, simple.shapes)
    assert 0 < distances.max() <= tolerance * 0.5 + 1e-9
    assert shapely.is_valid(simple.shapes).all()
    corners = [shapely.get_num_coordinates(found.shapes).sum() for found in (simple, exact)]
    assert corners[0] < share * corners[1]
    np.testing.assert_array_equal(exact.areas, simple.areas)


def test_noise_and_an_empty_mask_have_objects_too(tmp_path):
    noise = np.random.default_rng(0).random((90, 80)) > 0.5
    writer, pieces = write(tmp_path / "a.tif", noise, np.ones_like(noise), 32, 8)
    found = objects.from_file(writer.path, pieces, *PLACE, tolerance=0)
    assert len(found) == ndimage.label(noise)[1]
    assert np.isnan(found.scores).all()
    assert np.isnan(found.confidences).all()
    empty = np.zeros_like(noise)
    writer, pieces = write(tmp_path / "b.tif", empty, np.ones_like(noise), 32, 8)
    assert len(objects.from_file(writer.path, pieces, *PLACE, tolerance=1.0)) == 0
    pieces.add(np.zeros((3, 3), bool), Window(0, 0, 3, 3), 0, 0.5)
    assert pieces.points == []
