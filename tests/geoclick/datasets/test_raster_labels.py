"""Label files of rasters, and instances without data."""

import json

import numpy as np
import pytest

from geoclick.datasets import ReadOptions, read
from geoclick.errors import GeoClickError
from tests import geotiffs
from tests.geoclick.datasets.test_raster import BOXES, HEIGHT, WIDTH, boxed, in_raster, make, places, taken

shapely = geotiffs.shapely


def test_an_instance_without_a_pixel_of_data_is_left_out_and_counted(tmp_path):
    pixels = geotiffs.noise(HEIGHT, WIDTH)
    pixels[pixels == 0] = 1
    left, top, right, bottom = BOXES["Dock"]
    pixels[:, top - 2 : bottom + 2, left - 2 : right + 2] = 0
    make(tmp_path, pixels=pixels, nodata=0)
    samples, left_out = taken(tmp_path, ReadOptions())
    assert [sample.category for sample in samples] == ["Hangar", "Road"]
    assert [(i.reason, i.count, i.error) for i in left_out] == [("only pixels without data", 1, "")]


def test_two_label_files_of_the_same_rasters_are_refused(tmp_path):
    make(tmp_path, labels="labels.gpkg")
    geotiffs.write_vectors(tmp_path / "train/labels.geojson", places(), **{"class": list(BOXES)})
    with pytest.raises(GeoClickError, match=r"labels\.gpkg and labels\.geojson .*remove one"):
        list(read("raster", tmp_path, "train"))


def test_polygons_in_a_geometry_collection_are_the_target(tmp_path):
    make(tmp_path, labels=None)
    (hangar, road, _) = places()
    inner = shapely.GeometryCollection([road, shapely.Point(0, 0)])
    shapes = [shapely.GeometryCollection([hangar, inner]), shapely.GeometryCollection([shapely.Point(0, 0)])]
    geotiffs.write_vectors(tmp_path / "train/a.geojson", shapes, **{"class": ["both", "point"]})
    (sample,), left = taken(tmp_path, ReadOptions())
    np.testing.assert_array_equal(sample.mask, boxed(*BOXES["Hangar"]) | boxed(*BOXES["Road"]))
    assert [(item.reason, item.count) for item in left] == [("no polygon", 1)]


def with_class(root, value):
    """Labels whose class is a JSON value."""
    make(root, labels="a.geojson")
    path = root / "train/a.geojson"
    content = json.loads(path.read_text())
    for feature in content["features"]:
        feature["properties"]["class"] = value
    path.write_text(json.dumps(content))


def test_a_class_that_is_a_list_of_several_is_one_sentence(tmp_path):
    with_class(tmp_path, ["a", "b"])
    with pytest.raises(GeoClickError, match=r"a\.geojson.*classes \['a', 'b'\]; write one class"):
        list(read("raster", tmp_path, "train", options=ReadOptions()))


def test_a_class_that_is_a_list_of_one_is_its_entry(tmp_path):
    with_class(tmp_path, ["a"])
    assert {sample.query for sample in taken(tmp_path, ReadOptions())[0]} == {"a"}


def test_by_class_a_tile_shows_all_of_a_class(tmp_path):
    second = (60, 30, 75, 50)
    make(tmp_path, labels="")
    shapes = [*places(), geotiffs.place(geotiffs.shapely.box(*second))]
    geotiffs.write_vectors(tmp_path / "train/a.gpkg", shapes, **{"class": [*BOXES, "Hangar"]})
    whole = {name.lower(): boxed(*box) for name, box in BOXES.items()}
    whole["hangar"] |= boxed(*second)
    samples, left = taken(tmp_path, ReadOptions(tile=50, overlap=20, by_class=True))
    assert left == []
    assert len({(s.image, s.query) for s in samples}) == len(samples) == len({s.sample_id for s in samples})
    together = {query: np.zeros((HEIGHT, WIDTH), bool) for query in whole}
    for sample in samples:
        shown = in_raster(sample, np.ones(sample.size, bool))
        np.testing.assert_array_equal(in_raster(sample, sample.mask), whole[sample.query] & shown)
        together[sample.query] |= in_raster(sample, sample.mask)
    for query, mask in whole.items():
        np.testing.assert_array_equal(together[query], mask)
    (hangar, *_) = taken(tmp_path, ReadOptions(tile=1000, by_class=True))[0]
    assert hangar.sample_id == "a/hangar-r0c0"
    np.testing.assert_array_equal(hangar.mask, whole["hangar"])
