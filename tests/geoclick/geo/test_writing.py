"""Maps of classes as GeoPackage and GeoJSON; their coordinates against independent computations."""

import json
from math import cos, radians, sin

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from rasterio import Affine
from skimage import measure

from geoclick.errors import GeoClickError
from geoclick.geo import vectors, writing
from geoclick.geo.georeference import Georeference
from geoclick.geo.tiles import Window
from tests import geotiffs
from tests.geoclick.geo.class_maps import NAMES, regions_of

rasterio, pyogrio, shapely = geotiffs.rasterio, geotiffs.pyogrio, geotiffs.shapely
UTM = Georeference("EPSG:32633", Affine(0.5, 0, 500_100, 0, -0.5, 5_000_200), None)
ANGLE = radians(30)
ROTATED = Georeference(
    "EPSG:3857",
    Affine(2 * cos(ANGLE), 2 * sin(ANGLE), 1_200_000, 2 * sin(ANGLE), -2 * cos(ANGLE), 6_100_000),
    None,
)
DEGREES = Georeference("EPSG:4326", Affine(1e-5, 0, 15.25, 0, -1e-5, 50.5), None)
PLACES = {"utm": UTM, "rotated": ROTATED, "degrees": DEGREES}


@pytest.fixture
def labels():
    """[40, 60]: a building with a courtyard, a road across, and two pixels of a building that touch at a corner."""
    values = np.zeros((40, 60), np.int32)
    values[5:15, 10:30] = 1
    values[8:10, 12:16] = 0
    values[25:28] = 2
    values[32, 40] = values[33, 41] = 1
    values[:, 55:] = writing.NO_DATA
    return values


@pytest.fixture
def confidence():
    return np.random.default_rng(0).random((40, 60)).astype(np.float32)


def corners(window, transform):
    """The corners of a window as coordinates, by the formula of a world file."""
    row, column, height, width = window
    points = [(column, row), (column + width, row), (column + width, row + height), (column, row + height)]
    a, b, c, d, e, f = transform[:6]
    return {(a * x + b * y + c, d * x + e * y + f) for x, y in points}


def same_points(found, expected, tolerance):
    """Whether each of the expected points has a partner, and as many are found."""
    found = np.array(sorted({(round(x, 9), round(y, 9)) for x, y in found}))
    distances = np.abs(found[:, None] - np.array(sorted(expected))[None]).max(-1)
    return (
        len(found) == len(expected)
        and (distances.min(0) < tolerance).all()
        and (distances.min(1) < tolerance).all()
    )


@pytest.mark.parametrize("name", PLACES)
def test_the_coordinates_of_polygons(labels, confidence, name, tmp_path):
    place = PLACES[name]
    regions = regions_of(tmp_path, labels, confidence, place)
    # Background, building, courtyard, road, background below, two pixels: no data is no region.
    assert regions.labels.tolist() == [0, 1, 0, 2, 0, 1, 1]
    assert regions.pixels.sum() == (labels != writing.NO_DATA).sum()
    building = regions.shapes[1]
    tolerance = 1e-6 * abs(place.transform.determinant) ** 0.5
    assert same_points(building.exterior.coords, corners((5, 10, 10, 20), place.transform), tolerance)
    (hole,) = building.interiors
    assert same_points(hole.coords, corners((8, 12, 2, 4), place.transform), tolerance)
    inside = labels == 1
    inside[30:] = False
    assert regions.pixels[1] == inside.sum() == 192
    assert regions.confidence[1] == pytest.approx(confidence[inside].mean(), rel=1e-6)
    assert regions.confidence[3] == pytest.approx(confidence[labels == 2].mean(), rel=1e-6)


@pytest.mark.parametrize("name", PLACES)
@pytest.mark.parametrize("suffix", vectors.SUFFIXES)
def test_written_files_give_the_map_again(labels, confidence, name, suffix, tmp_path):
    place = PLACES[name]
    regions = regions_of(tmp_path, labels, confidence, place)
    path = tmp_path / f"a{suffix}"
    for _ in range(2):  # the second replaces the first
        writing.write_polygons(path, regions, NAMES, place.crs)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    found = vectors.read_features(path)
    assert found.classes == tuple(NAMES[number] for number in regions.labels)
    crs = rasterio.crs.CRS.from_user_input(found.crs)
    assert crs == rasterio.crs.CRS.from_string(place.crs if suffix == ".gpkg" else "OGC:CRS84") or (
        suffix == ".geojson" and crs.to_epsg() == 4326
    )
    image = geotiffs.write_raster(
        tmp_path / "a.tif", np.ones((1, 40, 60), np.uint8), crs=place.crs, transform=place.transform
    )
    with rasterio.open(image) as raster:
        shapes = vectors.to_pixels(found.shapes, found.crs, raster)
    painted = np.full(labels.shape, writing.NO_DATA)
    everything = Window(0, 0, 40, 60)
    for shape, number in zip(shapes, regions.labels, strict=True):
        own = vectors.rasterize(shape, everything, everything)
        assert (painted[own] == writing.NO_DATA).all()
        painted[own] = number
    np.testing.assert_array_equal(painted, labels)


def test_fields_and_the_frame_of_geojson(labels, confidence, tmp_path):
    regions = regions_of(tmp_path, labels, confidence, UTM)
    writing.write_polygons(tmp_path / "a.geojson", regions, NAMES, UTM.crs)
    content = json.loads((tmp_path / "a.geojson").read_text())
    assert "crs" not in content  # longitude and latitude, RFC 7946
    properties = [feature["properties"] for feature in content["features"]]
    assert properties[1].keys() == {"class", "index", "pixels", "area_m2", "confidence"}
    assert (properties[1]["class"], properties[1]["index"], properties[1]["pixels"]) == ("building", 1, 192)
    assert properties[1]["confidence"] == pytest.approx(regions.confidence[1], rel=1e-6)
    x, y = content["features"][0]["geometry"]["coordinates"][0][0]
    from rasterio import warp

    (lon,), (lat,) = warp.transform("EPSG:32633", "EPSG:4326", [500_100], [5_000_200])
    ring = np.array(content["features"][0]["geometry"]["coordinates"][0])
    assert np.abs(ring - [lon, lat]).max(1).min() < 1e-8
    assert (abs(x - 15) < 0.01, abs(y - 45.15) < 0.01) == (True, True)


def ellipsoid_area(south, north, west, east):
    """Area of a box of degrees on WGS 84 in square meters, by the closed formula of its zone."""
    a, e = 6_378_137.0, 0.0818191908426215

    def zone(latitude):
        s = sin(radians(latitude))
        return s / (1 - (e * s) ** 2) + np.log((1 + e * s) / (1 - e * s)) / (2 * e)

    return a**2 * (1 - e**2) / 2 * radians(east - west) * (zone(north) - zone(south))


def test_areas_are_those_on_the_ground():
    boxes = np.array([shapely.box(15, 50, 15.01, 50.02), shapely.box(-70, -33.5, -69, -33)])
    expected = [ellipsoid_area(50, 50.02, 15, 15.01), ellipsoid_area(-33.5, -33, -70, -69)]
    np.testing.assert_allclose(writing.ground_areas(boxes, "EPSG:4326", 1), expected, rtol=1e-7)
    # Web Mercator is enlarged 1 / cos(60 degrees) in both directions, here at 60 degrees north.
    mercator = shapely.box(0, 8_399_737, 1000, 8_400_737)
    area = writing.ground_areas(np.array([mercator]), "EPSG:3857", 50)[0]
    assert area == pytest.approx(1e6 / 4, rel=0.01)
    # The scale of UTM is 0.9996 in its middle.
    utm = np.array([shapely.box(499_000, 5_000_000, 501_000, 5_001_000)])
    assert writing.ground_areas(utm, "EPSG:32633", 50)[0] == pytest.approx(2e6 / 0.9996**2, rel=1e-6)
    local = 'LOCAL_CS["site",UNIT["metre",1]]'
    assert np.isnan(writing.ground_areas(utm, local, 50)).all()
    assert len(writing.ground_areas(utm[:0], "EPSG:32633", 50)) == 0


@given(
    hnp.arrays(np.int32, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 2)),
    st.sampled_from(sorted(PLACES)),
    st.integers(1, 13),
)
@settings(max_examples=60, deadline=None)
def test_polygons_are_valid_and_cover_every_pixel_once(tmp_path_factory, labels, name, side):
    labels = np.where(labels == 2, writing.NO_DATA, labels)
    transform = PLACES[name].transform
    confidence = np.random.default_rng(0).random(labels.shape).astype(np.float32)
    regions = regions_of(tmp_path_factory.mktemp("map"), labels, confidence, PLACES[name], side)
    assert regions.pixels.sum() == (labels != writing.NO_DATA).sum()
    assert shapely.is_valid(regions.shapes).all()
    pixel = abs(transform.determinant)
    np.testing.assert_allclose(shapely.area(regions.shapes), regions.pixels * pixel, rtol=1e-4)
    rows, columns = np.nonzero(labels != writing.NO_DATA)
    centers = [transform @ (x + 0.5, y + 0.5) for x, y in zip(columns, rows, strict=True)]
    for row, column, center in zip(rows, columns, centers, strict=True):
        inside = shapely.contains_xy(regions.shapes, *center)
        assert inside.sum() == 1
        assert regions.labels[inside][0] == labels[row, column]
    # The regions are those of the complete map, in the order of their first pixels, whatever the windows.
    parts = measure.label(np.where(labels == writing.NO_DATA, 0, labels + 1), background=0, connectivity=1)
    numbers, counts = np.unique(parts[parts > 0], return_counts=True)
    np.testing.assert_array_equal(regions.pixels, counts)
    means = [confidence[parts == number].mean(dtype=np.float64) for number in numbers]
    np.testing.assert_allclose(regions.confidence, means, rtol=1e-6)


def test_a_map_without_data_has_no_polygons(tmp_path):
    empty = np.full((5, 6), writing.NO_DATA)
    regions = regions_of(tmp_path, empty, np.ones((5, 6)), UTM)
    assert len(regions) == 0
    for suffix in vectors.SUFFIXES:
        writing.write_polygons(tmp_path / f"a{suffix}", regions, NAMES, UTM.crs)
        assert len(vectors.read_features(tmp_path / f"a{suffix}").ids) == 0


def test_a_link_is_not_followed(labels, confidence, tmp_path):
    (tmp_path / "other").write_text("x")
    (tmp_path / "a.gpkg").symlink_to(tmp_path / "other")
    regions = regions_of(tmp_path, labels, confidence, UTM)
    with pytest.raises(GeoClickError, match="is a link"):
        writing.write_polygons(tmp_path / "a.gpkg", regions, NAMES, UTM.crs)


def test_a_place_that_is_not_on_earth_is_one_sentence(labels, confidence, tmp_path):
    place = Georeference('LOCAL_CS["site",UNIT["metre",1]]', UTM.transform, None)
    regions = regions_of(tmp_path, labels, confidence, place)
    writing.write_polygons(tmp_path / "a.gpkg", regions, NAMES, place.crs)
    with pytest.raises(GeoClickError, match="cannot be written") as error:
        writing.write_polygons(tmp_path / "a.geojson", regions, NAMES, place.crs)
    assert "\n" not in str(error.value)
    assert [file.name for file in tmp_path.iterdir()] == ["a.gpkg"]


def test_a_polygon_that_gdal_would_not_read_from_geojson_is_only_in_the_geopackage(
    labels, confidence, tmp_path, monkeypatch
):
    regions = regions_of(tmp_path, labels, confidence, UTM)
    most = shapely.get_num_coordinates(regions.shapes).max()
    for limit in (most, most - 1):
        monkeypatch.setattr(writing, "MAX_CORNERS", limit)
        writing.write_polygons(tmp_path / "a.gpkg", regions, NAMES, UTM.crs)
        if limit == most:
            writing.write_polygons(tmp_path / "a.geojson", regions, NAMES, UTM.crs)
            continue
        message = rf"^a.geojson is not written, since a polygon has {most} corners, .*; use the GeoPackage\.$"
        with pytest.raises(GeoClickError, match=message):
            writing.write_polygons(tmp_path / "a.geojson", regions, NAMES, UTM.crs)
    assert [file.name for file in tmp_path.iterdir()] == ["a.gpkg"]


def test_the_largest_polygon_of_geojson_can_be_read(tmp_path):
    angles = np.linspace(0, 2 * np.pi, writing.MAX_CORNERS)  # the last one closes the ring
    ring = np.stack([500_000 + 9000 * np.cos(angles), 5_000_000 + 9000 * np.sin(angles)], axis=1)
    polygon = np.array([shapely.Polygon(ring)], object)
    assert shapely.get_num_coordinates(polygon)[0] == writing.MAX_CORNERS
    layer = writing.Layer("x", polygon, {"class": np.array(["a"], object)})
    writing.write_layers(tmp_path / "a.geojson", [layer], UTM.crs)
    assert len(vectors.read_features(tmp_path / "a.geojson").ids) == 1
