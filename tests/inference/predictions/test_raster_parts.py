"""Rasters whose answers have several parts: records, polygons and clicks part by part, across windows."""

import json

import numpy as np
import pytest
from PIL import Image

from geoclick.clicks import Click
from geoclick.geo import writing
from geoclick.inference.generative.prediction import Prediction
from geoclick.inference.predictions import overlays
from geoclick.instances import of_mask
from geoclick.pages import click_drawing
from tests import geotiffs
from tests.inference.predictions.test_raster_job import read_layer
from tests.inference.predictions.thresholds import Thresholds, predict

PLACE = geotiffs.rasterio.Affine(1, 0, 1000, 0, -1, 2000)
TOUCHING, ACROSS, ALONE, HALVES = 200, 220, 240, 250


class OneForEachValue(Thresholds):
    """The bright values are parts of the answer, each with a click on its first pixel."""

    def answer(self, image, text):
        gray = image[..., 0]
        values = [value for value in np.unique(gray).tolist() if value > 128]
        masks = [gray == value for value in values]
        firsts = [divmod(int(mask.argmax()), mask.shape[1]) for mask in masks]
        clicks = tuple(Click(float(column), float(row)) for row, column in firsts)
        instances = tuple(
            of_mask((click,), mask, score=value / 1000)
            for click, mask, value in zip(clicks, masks, values, strict=True)
        )
        mask, instances = gray > 128, instances if len(instances) > 1 else ()
        return Prediction(mask, clicks, text, "ok", score=0.5, confidence=0.25, instances=instances)


@pytest.fixture
def values():
    """Touching buildings of which one continues in the next window, one alone, and two halves of one."""
    values = np.full((60, 150), 10, np.uint8)
    values[10:30, 20:45] = TOUCHING
    values[10:30, 45:90] = ACROSS
    values[40:50, 120:140] = ALONE
    values[40:50, 10:20] = values[40:50, 30:38] = HALVES
    return values


def run(values, folder, **options):
    path = geotiffs.write_raster(
        folder / "city.tif", values[None], transform=geotiffs.rasterio.Affine(1, 0, 0, 0, -1, 0)
    )
    options = {"tile": 64, "overlap": 16} | options
    assert predict(folder / "out", [path], predictor=OneForEachValue(), **options) == {}
    return json.loads((folder / "out/city.json").read_text())


def test_each_part_is_a_feature_with_its_own_id_across_windows(values, tmp_path):
    run(values, tmp_path)
    _, shapes, fields = read_layer(tmp_path / "out/city.gpkg", "objects")
    found = {
        round(1000 * score): (int(pixels), int(windows), int(parts))
        for score, pixels, windows, parts in zip(
            *(fields[name] for name in ("score", "pixels", "windows", "parts")), strict=True
        )
    }
    assert fields["id"].tolist() == [1, 2, 3, 4]
    # Of the three windows the second sees one part only, of score 0.5, which joins its parts in the others.
    mean = round((380 * 220 + 840 * 500 + 80 * 220) / 1300)
    assert found == {
        TOUCHING: (500, 1, 1),
        mean: (900, 3, 3),
        HALVES: (180, 1, 1),
        ALONE: (200, 1, 1),
    }
    assert sorted(shape.area for shape in shapes) == [180, 200, 500, 900]
    features = json.loads((tmp_path / "out/city.geojson").read_text())["features"]
    assert [feature["properties"]["id"] for feature in features] == [1, 2, 3, 4]
    assert {feature["geometry"]["type"] for feature in features} == {"MultiPolygon"}


def test_the_record_and_the_clicks_name_windows_and_parts(values, tmp_path):
    record = run(values, tmp_path)
    parts = record["parts"]
    assert [(part["window"], part["area"]) for part in parts] == [
        *((0, area) for area in (500, 380, 180)),
        *((2, area) for area in (80, 200)),
    ]
    assert parts[0]["box"] == [20, 10, 44, 29]
    assert parts[0]["clicks"] == [{"x": 20.0, "y": 10.0, "positive": True}]
    _, points, fields = read_layer(tmp_path / "out/city.gpkg", "clicks")
    assert len(points) == len(record["clicks"])
    assert fields["part"].tolist() == [1, 2, 3, 0, 1, 2]


def test_answers_of_one_part_are_components_as_before(values, tmp_path):
    record = run(np.where(values > 128, TOUCHING, values).astype(np.uint8), tmp_path)
    assert "parts" not in record
    _, _, fields = read_layer(tmp_path / "out/city.gpkg", "objects")
    assert sorted(fields["pixels"].tolist()) == [80, 100, 200, 1400]
    assert set(fields["parts"].tolist()) == {0}


def test_a_layer_has_one_type_of_polygons(values, tmp_path):
    values[40:50, 30:38] = 10
    run(values, tmp_path)
    meta = geotiffs.pyogrio.read_info(tmp_path / "out/city.gpkg", layer="objects")
    assert meta["geometry_type"] == "Polygon"
    empty = writing.polygon_layer("objects", np.zeros(0, object), {})
    assert empty.geometry == "Polygon"


def test_pixels_without_data_are_in_no_part(values, tmp_path):
    values[10:20] = 0
    path = geotiffs.write_raster(tmp_path / "city.tif", values[None], nodata=0)
    predict(tmp_path / "out", [path], predictor=OneForEachValue(), tile=64, overlap=16)
    record = json.loads((tmp_path / "out/city.json").read_text())
    assert record["parts"][0]["area"] == 250


def test_parts_are_drawn_in_their_colors(values, tmp_path, monkeypatch):
    run(values, tmp_path)
    with Image.open(tmp_path / "out/city.overlay.png") as picture:
        pixels = np.asarray(picture)
    for color in click_drawing.PART_COLORS[:3]:
        assert (pixels == color).all(axis=-1).any()
    one = of_mask((Click(2, 2),), np.ones((4, 4), bool))
    drawn = overlays.draw(np.zeros((20, 30, 3), np.uint8), np.zeros((20, 30), bool), [], (40, 60), [one])
    assert (drawn[:2, :2] != 0).any()


@pytest.mark.parametrize("instances", [[], [of_mask((Click(2, 2),), np.ones((4, 4), bool))]])
def test_the_query_moves_and_hides_no_pixel(instances):
    picture, mask = np.full((600, 700, 3), 90, np.uint8), np.zeros((600, 700), bool)
    mask[300:, 200:] = True
    plain = overlays.draw(picture, mask, [Click(9, 9)], (1200, 1400), instances)
    assert plain.shape == picture.shape
    for query in ("the road", "all the roads of this large city " * 40):
        drawn = overlays.draw(picture, mask, [Click(9, 9)], (1200, 1400), instances, query)
        assert drawn.shape[1:] == picture.shape[1:]
        np.testing.assert_array_equal(drawn[:600], plain)
        assert (drawn[600:] < 100).any()
