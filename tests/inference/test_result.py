"""Results as pictures and as polygons, in pixels or on the ground."""

import json

import numpy as np
import pytest

from geoclick.clicks import Click
from geoclick.errors import GeoClickError
from geoclick.geo import georeference
from geoclick.inference import result
from geoclick.inference.generative.prediction import Prediction
from geoclick.pages import captions, click_drawing
from tests import geotiffs
from tests.geotiffs import rasterio, shapely

SIZE = (60, 80)


@pytest.fixture
def mask():
    """An L of 500 pixels, and a square of 100 pixels with a hole of 4 that touches it at a corner."""
    mask = np.zeros(SIZE, bool)
    mask[10:30, 10:30] = True
    mask[10:20, 30:40] = True
    mask[20:30, 40:50] = True
    mask[24:26, 44:46] = False
    return mask


def make(mask, source=None, score=0.75):
    image = np.random.default_rng(0).integers(0, 256, (*mask.shape, 3), dtype=np.uint8)
    return result.of(
        Prediction(mask, (Click(12, 12),), "+(1,2)", "ok", score=score, confidence=score and 0.5),
        "the roof",
        image,
        source,
    )


def shapes(collection):
    return [shapely.geometry.shape(feature["geometry"]) for feature in collection["features"]]


def test_pixels_without_georeference(mask):
    found = make(mask).to_geojson(tolerance=0)
    assert json.loads(json.dumps(found)) == found
    assert found["coordinates_are"] == result.PIXELS
    assert [feature["properties"] for feature in found["features"]] == [
        {"id": number, "query": "the roof", "pixels": pixels, "area_m2": None, "score": 0.75}
        | {"confidence": 0.5, "parts": 0}
        for number, pixels in enumerate((500, 96), start=1)
    ]
    ell, square = shapes(found)
    assert ell.equals(shapely.union(shapely.box(10, 10, 30, 30), shapely.box(30, 10, 40, 20)))
    assert square.equals(shapely.difference(shapely.box(40, 20, 50, 30), shapely.box(44, 24, 46, 26)))


def test_degrees_of_a_geotiff(mask, tmp_path):
    path = geotiffs.write_raster(tmp_path / "a.tif", geotiffs.noise(*SIZE))
    exact, pixels = (make(mask, source).to_geojson(tolerance=0) for source in (path, None))
    assert exact["coordinates_are"] == result.DEGREES
    for one, other in zip(shapes(exact), shapes(pixels), strict=True):
        expected = geotiffs.to_degrees(geotiffs.place(other))
        assert shapely.hausdorff_distance(one, expected) < 1e-8
        assert one.exterior.is_ccw  # RFC 7946
    areas = [feature["properties"]["area_m2"] for feature in exact["features"]]
    # 10 m pixels, with UTM's scale of 0.9996 at its middle.
    properties = [feature["properties"] for feature in exact["features"]]
    assert [(one["query"], one["score"], one["confidence"]) for one in properties] == [
        ("the roof", 0.75, 0.5)
    ] * 2
    assert areas == pytest.approx([50_000 / 0.9996**2, 9_600 / 0.9996**2], rel=1e-4)


def test_polygons_stay_within_the_tolerance(tmp_path):
    rows, columns = np.mgrid[:120, :120]
    disc = (rows - 60) ** 2 + (columns - 55) ** 2 < 45**2
    (exact,) = shapes(make(disc).to_geojson(tolerance=0))
    (simple,) = shapes(make(disc).to_geojson())
    assert len(simple.exterior.coords) < 0.35 * len(exact.exterior.coords)
    assert 0 < shapely.hausdorff_distance(exact.exterior, simple.exterior) <= result.TOLERANCE


@pytest.mark.parametrize("place", [False, True])
def test_an_empty_mask_has_no_polygons(tmp_path, place):
    path = geotiffs.write_raster(tmp_path / "a.tif", geotiffs.noise(*SIZE)) if place else None
    found = make(np.zeros(SIZE, bool), path, score=None).to_geojson()
    assert found["features"] == []
    assert found["coordinates_are"] == (result.DEGREES if place else result.PIXELS)


@pytest.mark.parametrize("place", [False, True])
def test_an_unknown_score_is_null(mask, tmp_path, place):
    path = geotiffs.write_raster(tmp_path / "a.tif", geotiffs.noise(*SIZE)) if place else None
    found = make(mask, path, score=None).to_geojson()
    properties = [feature["properties"] for feature in found["features"]]
    assert [(one["score"], one["confidence"]) for one in properties] == [(None, None)] * 2


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_file_without_georeference_has_pixels(mask, tmp_path):
    path = tmp_path / "a.tif"
    with rasterio.open(
        path, "w", driver="GTiff", count=3, height=SIZE[0], width=SIZE[1], dtype="uint8"
    ) as file:
        file.write(geotiffs.noise(*SIZE))
    assert georeference.read(path).transform is None
    assert make(mask, path).to_geojson()["coordinates_are"] == result.PIXELS


def test_a_file_that_is_gone_is_one_sentence(mask, tmp_path):
    with pytest.raises(GeoClickError, match="does not exist"):
        make(mask, tmp_path / "gone.tif").to_geojson()


def test_the_overlay_is_that_of_the_command(mask):
    one = make(mask)
    picture = one.overlay()
    drawn = click_drawing.overlay(one.image, one.mask, one.clicks)
    assert drawn.shape[:2] == (384, 512)
    assert picture.width == 512
    np.testing.assert_array_equal(np.asarray(picture)[:384], drawn)
    np.testing.assert_array_equal(np.asarray(picture), captions.below(drawn, one.query))
    assert (np.asarray(picture) != np.asarray(make(np.zeros_like(mask)).overlay())).any()


def test_a_result_is_the_prediction_with_its_image(mask):
    one = make(mask)
    assert (one.status, one.text, one.score, one.query, one.source) == (
        "ok",
        "+(1,2)",
        0.75,
        "the roof",
        None,
    )
