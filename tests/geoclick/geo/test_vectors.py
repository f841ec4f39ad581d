import json
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geoclick.errors import GeoClickError
from geoclick.geo import rasters, vectors
from geoclick.geo.tiles import Window
from tests import geotiffs

shapely = geotiffs.shapely
SIZE = (40, 60)


def raster(path, **profile):
    return rasters.open_raster(geotiffs.write_raster(path / "a.tif", geotiffs.noise(*SIZE), **profile))


@pytest.mark.parametrize("suffix", vectors.SUFFIXES)
def test_features_and_their_classes(tmp_path, suffix):
    shapes = [shapely.box(15, 0, 15.1, 0.1), shapely.Point(15, 0), None, shapely.box(16, 0, 16.1, 0.1)]
    path = geotiffs.write_vectors(
        tmp_path / f"a{suffix}",
        shapes,
        "EPSG:4326",
        name=list("abcd"),
        Label=["Dock", None, "", "Storage Tank "],
    )
    features = vectors.read_features(path)
    # `label` goes before `name`, whatever its letters' case.
    assert features.classes == ("Dock", "", "", "Storage Tank")
    assert len(features.ids) == len(set(features.ids)) == 4
    assert features.shapes[0].equals(shapes[0])
    assert features.shapes[2] is None
    assert not features.broken.any()


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"name": ["x"], "label": ["y"], "category": ["z"], "class": ["w"]}, ("w",)),
        ({"name": ["x"], "label": ["y"], "category": ["z"]}, ("z",)),
        ({"name": ["x"], "area": [3]}, ("x",)),
        ({"class": [3]}, ("3",)),
        ({"area": [3]}, None),
    ],
)
def test_the_first_attribute_that_is_there_is_the_class(tmp_path, fields, expected):
    path = geotiffs.write_vectors(tmp_path / "a.gpkg", [shapely.box(0, 0, 1, 1)], **fields)
    assert vectors.read_features(path).classes == expected


def test_integers_stay_integers_where_some_are_missing(tmp_path):
    content = {"type": "FeatureCollection", "features": []}
    for value in (3, None, 2.5):
        square = shapely.geometry.mapping(shapely.box(0, 0, 1, 1))
        content["features"].append({"type": "Feature", "geometry": square, "properties": {"class": value}})
    (tmp_path / "a.geojson").write_text(json.dumps(content))
    assert vectors.read_features(tmp_path / "a.geojson").classes == ("3", "", "2.5")


def test_a_file_without_features_is_no_failure(tmp_path):
    (tmp_path / "a.geojson").write_text(
        '\ufeff {"type": "FeatureCollection", "features": []}', encoding="utf-8"
    )
    assert len(vectors.read_features(tmp_path / "a.geojson").ids) == 0


def test_a_ring_that_is_none_is_broken_and_makes_no_noise(tmp_path):
    rings = [[[0, 0], [1, 1]], [[0, 0], [1, 0], [1, 1]]]
    features = [
        {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": {}}
        for ring in rings
    ]
    (tmp_path / "a.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = vectors.read_features(tmp_path / "a.geojson")
    assert found.broken[0]
    assert found.shapes[0] is None


def test_tables_beside_the_layer_do_not_matter_but_layers_do(tmp_path):
    box = [shapely.box(0, 0, 1, 1)]
    path = geotiffs.write_vectors(tmp_path / "a.gpkg", box, name=["x"])
    geotiffs.pyogrio.raw.write(
        path,
        None,
        [np.array(["red"], object)],
        ["style"],
        geometry_type=None,
        crs=None,
        layer="layer_styles",
        append=True,
    )
    assert vectors.read_features(path).classes == ("x",)
    geotiffs.write_vectors(path, box, layer="more", name=["y"])
    with pytest.raises(GeoClickError, match="one layer, not labels, more"):
        vectors.read_features(path)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.gpkg", b"", "neither a GeoPackage nor GeoJSON"),
        ("a.gpkg", b"SQLite format 3\0" + b"\0" * 200, "cannot be read as vectors"),
        ("a.geojson", b"{", "cannot be read as vectors"),
        ("a.geojson", b'{"type": "Topology"}', "cannot be read as vectors"),
        ("a.gpkg", b"<OGRVRTDataSource></OGRVRTDataSource>", "neither a GeoPackage nor GeoJSON"),
    ],
)
def test_what_is_no_vector_file_is_one_sentence(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(GeoClickError, match=words):
        vectors.read_features(tmp_path / name)


def test_without_a_reference_system_it_says_so(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = geotiffs.write_vectors(tmp_path / "a.gpkg", [shapely.box(0, 0, 1, 1)], None, name=["x"])
    with pytest.raises(GeoClickError, match="coordinate reference system"):
        vectors.read_features(path)
    with raster(tmp_path, crs=None) as opened, pytest.raises(GeoClickError, match="is not georeferenced"):
        vectors.check_georeferenced(opened)
    with raster(tmp_path) as opened:
        vectors.check_georeferenced(opened)


def test_degrees_become_the_pixels_that_the_projection_says(tmp_path):
    # On the central meridian of UTM at the equator the projection is known without a library: 15 E is 500,000 m, and
    # 0.002 degrees are 222.64 m of the ellipsoid's equator and 221.15 m of its meridian, times 0.9996.
    with raster(tmp_path) as opened:
        (moved,) = vectors.to_pixels(np.array([shapely.box(15, 0, 15.002, 0.002)]), "EPSG:4326", opened)
    assert shapely.bounds(moved) == pytest.approx((50, 50 - 22.106, 50 + 22.255, 50), abs=2e-3)


def test_a_shape_off_the_projection_spoils_no_other(tmp_path):
    shapes = np.array(
        [shapely.box(15, 0, 15.001, 0.001), shapely.box(200, 95, 201, 96), shapely.box(15, 0, 15.1, 0.1)]
    )
    with raster(tmp_path) as opened:
        moved = vectors.to_pixels(shapes, "EPSG:4326", opened)
        alone = vectors.to_pixels(shapes[2:], "EPSG:4326", opened)
        assert len(vectors.to_pixels(shapes[:0], "EPSG:4326", opened)) == 0
    assert [shape is None for shape in moved] == [False, True, False]
    assert moved[2].equals(alone[0])


def test_only_what_is_near_the_raster_is_reprojected(tmp_path):
    boxes = [(10, 10, 20, 20), (-5, -5, 1, 1), (59, 39, 70, 50), (500, 10, 510, 20), (10, -90, 20, -70)]
    places = [geotiffs.place(shapely.box(*box)) for box in boxes]
    for name, crs, shapes in (
        ("a.gpkg", geotiffs.UTM, places),
        ("b.geojson", "EPSG:4326", [geotiffs.to_degrees(shape) for shape in places]),
    ):
        path = geotiffs.write_vectors(tmp_path / name, [*shapes, None], crs, name=list("abcdef"))
        with raster(tmp_path) as opened:
            assert vectors.near(vectors.read_features(path), opened).tolist() == [0, 1, 2]


def test_a_turned_raster_finds_its_shapes(tmp_path):
    turned = geotiffs.rasterio.Affine(0, 10, 499_500, 10, 0, 500)  # columns go north, rows east
    place = shapely.transform(shapely.box(10, 20, 15, 28), lambda xy: xy[:, ::-1] * 10 + [499_500, 500])
    with raster(tmp_path, transform=turned) as opened:
        path = geotiffs.write_vectors(tmp_path / "a.gpkg", [place], name=["x"])
        features = vectors.read_features(path)
        assert vectors.near(features, opened).tolist() == [0]
        (moved,) = vectors.to_pixels(features.shapes, features.crs, opened)
    np.testing.assert_allclose(shapely.bounds(moved), (10, 20, 15, 28), atol=1e-6)


def complete_raster(shape):
    """GDAL's answer for the whole raster at once."""
    return geotiffs.features.rasterize([(shape, 1)], out_shape=SIZE, dtype=np.uint8).astype(bool)


@given(st.integers(0, 2**32 - 1), st.integers(3, 8), st.data())
def test_a_window_of_a_polygon_is_that_part_of_its_mask(seed, corners, data):
    # Corners from a generator: hypothesis would look for edges through a pixel's very center, where rounding decides.
    shape = shapely.Polygon(np.random.default_rng(seed).uniform((-20, -20), (80, 60), (corners, 2)))
    box = vectors.box_of(shape, SIZE)
    row, column = data.draw(st.integers(0, 39)), data.draw(st.integers(0, 59))
    window = Window(row, column, data.draw(st.integers(1, 40 - row)), data.draw(st.integers(1, 60 - column)))
    expected = complete_raster(shape)
    part = expected[row : row + window.height, column : column + window.width]
    if box is None:
        assert not expected.any()
    else:
        np.testing.assert_array_equal(vectors.rasterize(shape, box, window), part)


quarters = st.integers(-40, 260).map(lambda n: n / 4 + 0.125)


@given(quarters, quarters, quarters, quarters)
def test_the_box_of_a_rectangle_is_its_mask(x0, x1, y0, y1):
    (x0, x1), (y0, y1) = sorted((x0, x1)), sorted((y0, y1))
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    expected = (rows > y0) & (rows < y1) & (columns > x0) & (columns < x1)
    box = vectors.box_of(shapely.box(x0, y0, x1, y1), SIZE)
    found = np.zeros(SIZE, bool)
    if box is not None:
        found[box.row : box.row + box.height, box.column : box.column + box.width] = True
    np.testing.assert_array_equal(found, expected)
    if x0 < x1 and y0 < y1 and box is not None:
        whole = Window(0, 0, *SIZE)
        np.testing.assert_array_equal(vectors.rasterize(shapely.box(x0, y0, x1, y1), box, whole), expected)


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1), st.integers(1, 70))
def test_the_area_is_the_sum_of_the_mask(seed, block):
    shape = shapely.Polygon(np.random.default_rng(seed).uniform((-20, -20), (80, 60), (6, 2)))
    box = vectors.box_of(shape, SIZE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vectors, "BLOCK", block)
        found = 0 if box is None else vectors.area(shape, box)
    assert found == complete_raster(shape).sum()
