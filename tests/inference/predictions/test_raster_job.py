"""Rasters from texts to masks and vectors: places, seams, pixels without data, several texts."""

import json
from math import cos, radians, sin

import numpy as np
import pytest
from PIL import Image
from rasterio import Affine
from scipy import ndimage

from geoclick import images
from geoclick.inference.predictions import overlays
from tests import geotiffs
from tests.inference.predictions.thresholds import Thresholds, predict

rasterio, pyogrio, shapely = geotiffs.rasterio, geotiffs.pyogrio, geotiffs.shapely
RADIUS, SQUARED = 6378137.0, 0.0066943799901413
"""WGS 84: the radius at the equator in meters, and the squared eccentricity."""

ANGLE = radians(25)
PLACES = {
    "EPSG:32633": Affine(0.5, 0, 600_100, 0, -0.5, 5_000_200),
    "EPSG:3857": Affine(
        0.6 * cos(ANGLE), 0.6 * sin(ANGLE), 1_200_000, 0.6 * sin(ANGLE), -0.6 * cos(ANGLE), 6_100_000
    ),
    "EPSG:4326": Affine(4e-6, 0, 13.4, 0, 3e-6, 52.5),
}
"""The second is rotated, the third has its first row in the south."""


def utm_33(longitude, latitude):
    """Degrees as easting and northing: Krueger's series to the third order of n, good to a millimeter."""
    flat = 1 / 298.257223563
    n = flat / (2 - flat)
    east, north = np.radians(longitude - 15), np.radians(latitude)
    scale = RADIUS / (1 + n) * (1 + n**2 / 4)
    factor = 2 * n**0.5 / (1 + n)
    t = np.sinh(np.arctanh(np.sin(north)) - factor * np.arctanh(factor * np.sin(north)))
    xi, eta = np.arctan2(t, np.cos(east)), np.arctanh(np.sin(east) / np.sqrt(1 + t**2))
    alpha = (
        n / 2 - 2 / 3 * n**2 + 5 / 16 * n**3,
        13 / 48 * n**2 - 3 / 5 * n**3,
        61 / 240 * n**3,
    )
    x, y = eta, xi
    for j, a in enumerate(alpha, start=1):
        x = x + a * np.cos(2 * j * xi) * np.sinh(2 * j * eta)
        y = y + a * np.sin(2 * j * xi) * np.cosh(2 * j * eta)
    return 500_000 + 0.9996 * scale * x, 0.9996 * scale * y


def projected(crs, longitude, latitude):
    """Degrees in the coordinates of `crs`, by the formulas of its projection."""
    if crs == "EPSG:4326":
        return longitude, latitude
    if crs == "EPSG:32633":
        return utm_33(longitude, latitude)
    return RADIUS * np.radians(longitude), RADIUS * np.arctanh(np.sin(np.radians(latitude)))


def ground_area(corners):
    """The area of a small polygon on the ellipsoid, by the radii of curvature; corners in degrees [N, 2]."""
    latitude = np.radians(corners[:, 1].mean())
    denominator = 1 - SQUARED * np.sin(latitude) ** 2
    east = RADIUS / denominator**0.5 * np.cos(latitude)
    north = RADIUS * (1 - SQUARED) / denominator**1.5
    x, y = (np.radians(corners - corners.mean(0)) * [east, north]).T
    return abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) / 2


def corner(transform, column, row):
    """The coordinates of a corner of pixels, by the formula of a world file."""
    a, b, c, d, e, f = transform[:6]
    return a * column + b * row + c, d * column + e * row + f


def scene(height=150, width=190, seed=0):
    """Gray values, uint8 [1, H, W], with bright and dark blobs and a bright bar across."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).random((height, width)), 4)
    low, high = np.quantile(noise, [0.0, 1.0])
    values = (1 + (noise - low) / (high - low) * 254).astype(np.uint8)
    values[height // 2 : height // 2 + 5] = 250
    return values[None]


def read_layer(path, layer):
    meta, _, geometry, fields = pyogrio.raw.read(path, layer=layer)
    return meta["crs"], shapely.from_wkb(geometry), dict(zip(meta["fields"], fields, strict=True))


@pytest.mark.parametrize("crs", PLACES)
def test_masks_polygons_and_clicks_lie_where_the_image_lies(crs, tmp_path):
    values, transform = scene(), PLACES[crs]
    path = geotiffs.write_raster(tmp_path / "city.tif", values, crs=crs, transform=transform)
    assert predict(tmp_path / "out", [path], tile=64, overlap=16) == {}
    mask = values[0] > 128
    with rasterio.open(tmp_path / "out/city.mask.tif") as raster:
        assert (raster.crs.to_string(), raster.nodata, raster.compression.value) == (crs, 255, "DEFLATE")
        assert raster.profile["tiled"]
        assert raster.transform.almost_equals(transform, 1e-12)
        np.testing.assert_array_equal(raster.read(1), mask)
    np.testing.assert_array_equal(images.read_gray(tmp_path / "out/city.mask.png"), mask * np.uint8(255))

    found, shapes, fields = read_layer(tmp_path / "out/city.gpkg", "objects")
    count = ndimage.label(mask)[1]
    assert (found, len(shapes)) == (crs, count)
    shapely.prepare(shapes)
    for row, column in np.random.default_rng(0).integers(0, mask.shape, (200, 2)):
        inside = shapely.contains_xy(shapes, *corner(transform, column + 0.5, row + 0.5))
        assert inside.sum() == mask[row, column]
    pixel = (PLACES[crs].determinant ** 2) ** 0.25
    _, degrees, own = read_layer(tmp_path / "out/city.geojson", "objects")
    for shape, turned, area in zip(shapes, degrees, own["area_m2"], strict=True):
        corners = shapely.get_coordinates(shape.exterior)
        ring = shapely.get_coordinates(turned.exterior)
        # GeoJSON has the same corners in degrees, in its own direction and from its own first corner.
        there = np.stack(projected(crs, ring[:, 0], ring[:, 1]), axis=1)
        distances = np.abs(there[:, None] - corners[None]).max(2)
        assert distances.min(1).max() < 0.01 * pixel
        inner = sum(ground_area(shapely.get_coordinates(hole)) for hole in turned.interiors)
        assert area == pytest.approx(ground_area(ring[:-1]) - inner, rel=1e-4)
    assert sum(own["pixels"]) == mask.sum()
    np.testing.assert_array_equal(own["pixels"], fields["pixels"])
    for one in (own, fields):
        assert (one["score"] > 0).all()
        np.testing.assert_allclose(one["confidence"], one["score"] / 2, rtol=1e-6)

    _, points, fields = read_layer(tmp_path / "out/city.gpkg", "clicks")
    record = json.loads((tmp_path / "out/city.json").read_text())
    assert len(points) == len(record["clicks"]) > 6
    for point, click in zip(points, record["clicks"], strict=True):
        assert mask[int(click["y"]), int(click["x"])]
        expected = corner(transform, click["x"] + 0.5, click["y"] + 0.5)
        assert np.abs(np.subtract((point.x, point.y), expected)).max() < 1e-6 * pixel
    assert set(fields["query"]) == {"bright"}
    assert record["vectors"] == ["city.gpkg", "city.geojson"]
    assert (record["crs"], record["polygons"], record["mask_area"]) == (crs, count, mask.sum())


def test_seams_are_merged_and_objects_joined(tmp_path):
    path = geotiffs.write_raster(tmp_path / "a.tif", scene())
    assert predict(tmp_path / "one", [path], tile=400) == {}
    assert predict(tmp_path / "many", [path], tile=50, overlap=12) == {}
    with (
        rasterio.open(tmp_path / "one/a.mask.tif") as one,
        rasterio.open(tmp_path / "many/a.mask.tif") as many,
    ):
        np.testing.assert_array_equal(one.read(), many.read())
    single, joined = (read_layer(tmp_path / f"{name}/a.gpkg", "objects") for name in ("one", "many"))
    assert shapely.equals(single[1], joined[1]).all()
    np.testing.assert_array_equal(single[2]["area_m2"], joined[2]["area_m2"])
    assert set(single[2]["windows"]) == {1}
    assert joined[2]["windows"].max() >= 5  # the bar


@pytest.mark.parametrize("radius", [2, 5])
def test_seams_of_a_model_that_looks_around_differ_near_the_borders_of_windows_only(radius, tmp_path):
    path = geotiffs.write_raster(tmp_path / "a.tif", scene())
    for name, tile in (("one", 400), ("many", 50)):
        predictor = Thresholds(radius)
        assert predict(tmp_path / name, [path], predictor=predictor, tile=tile, overlap=12) == {}
    masks = [images.read_gray(tmp_path / f"{name}/a.mask.png") > 0 for name in ("one", "many")]
    rows, columns = np.nonzero(masks[0] != masks[1])
    record = json.loads((tmp_path / "many/a.json").read_text())
    borders = [
        np.array([start + edge for start in record[f"window_{axis}"] for edge in (0, 50)])
        for axis in ("rows", "columns")
    ]
    near = np.minimum(
        np.abs(rows[:, None] + 0.5 - borders[0]).min(1), np.abs(columns[:, None] + 0.5 - borders[1]).min(1)
    )
    assert 0 < len(rows) < 0.05 * masks[0].size
    assert near.max() < radius


def test_pixels_without_data_are_not_asked_not_masked_and_counted(tmp_path):
    values = scene()
    values[:, :70] = 255
    values[:, 100:110, 20:40] = 255
    path = geotiffs.write_raster(tmp_path / "a.tif", values, nodata=255)
    predictor = Thresholds()
    assert predict(tmp_path / "out", [path], predictor=predictor, tile=50) == {}
    assert len(predictor.shown) == 8
    valid = values[0] != 255
    with rasterio.open(tmp_path / "out/a.mask.tif") as raster:
        np.testing.assert_array_equal(raster.read(1), np.where(valid, values[0] > 128, 255))
    record = json.loads((tmp_path / "out/a.json").read_text())
    assert record["no_data"] == pytest.approx(1 - valid.mean(), abs=1e-6)
    assert [window["number"] for window in record["windows"]] == list(range(4, 12))
    assert not (images.read_gray(tmp_path / "out/a.mask.png") > 0)[~valid].any()


def test_several_texts_share_the_vectors(tmp_path, capsys):
    path = geotiffs.write_raster(tmp_path / "a.tif", scene())
    assert predict(tmp_path / "out", [path], ["bright", "dark"], tile=100) == {}
    ends = ("mask.tif", "mask.png", "overlay.png", "json")
    names = {f"a.{text}.{end}" for text in ("bright", "dark") for end in ends} | {"a.gpkg", "a.geojson"}
    assert {file.name for file in (tmp_path / "out").iterdir()} == names
    _, shapes, fields = read_layer(tmp_path / "out/a.gpkg", "objects")
    assert list(dict.fromkeys(fields["query"])) == ["bright", "dark"]
    assert not shapely.union_all(shapes[fields["query"] == "bright"]).overlaps(
        shapely.union_all(shapes[fields["query"] == "dark"])
    )
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith(f"{path}, bright: ok, 4 clicks, ")
    assert "asked in 4 of 4 windows of 100 pixels" in lines[0]
    assert lines[0].endswith(f"; {len(shapes)} polygons")


def test_a_text_that_fails_does_not_lose_the_others(tmp_path):
    path = geotiffs.write_raster(tmp_path / "a.tif", scene())
    failures = predict(tmp_path / "out", [path], ["nothing", "bright"], tile=100)
    assert failures == {path: {"nothing": "The server does not answer."}}
    names = {file.name for file in (tmp_path / "out").iterdir()}
    assert names == {
        *(f"a.bright.{end}" for end in ("mask.tif", "mask.png", "overlay.png", "json")),
        "a.gpkg",
        "a.geojson",
    }


def test_a_coarser_resolution_is_written_at_its_place(tmp_path):
    path = geotiffs.write_raster(tmp_path / "a.tif", scene(160, 200))
    assert predict(tmp_path / "out", [path], resolution=40 / 0.9996, tile=30, overlap=4) == {}
    record = json.loads((tmp_path / "out/a.json").read_text())
    assert (record["size"], record["mask_size"]) == ([160, 200], [40, 50])
    with rasterio.open(tmp_path / "out/a.mask.tif") as raster:
        assert raster.shape == (40, 50)
        assert tuple(raster.bounds) == rasterio.open(path).bounds
    # Clicks of the record are in pixels of the file.
    _, points, _ = read_layer(tmp_path / "out/a.gpkg", "clicks")
    for point, click in zip(points, record["clicks"], strict=True):
        expected = corner(rasterio.open(path).transform, click["x"] + 0.5, click["y"] + 0.5)
        assert (point.x, point.y) == pytest.approx(expected)


def test_the_overlay_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(overlays, "LONGEST", 80)
    path = geotiffs.write_raster(tmp_path / "a.tif", np.repeat(scene(), 3, axis=0))
    assert predict(tmp_path / "out", [path], tile=40) == {}
    with Image.open(tmp_path / "out/a.overlay.png") as picture:
        assert picture.width == 80
        # The query is below the image.
        assert picture.height > 63
        drawn = np.asarray(picture)[:63].astype(int)
    with rasterio.open(path) as raster:
        shown = raster.read(out_shape=(3, 63, 80), resampling=rasterio.enums.Resampling.average)
    mask = images.read_gray(tmp_path / "out/a.mask.png") > 0
    inside = np.asarray(Image.fromarray(mask).resize((80, 63), Image.Resampling.NEAREST))
    difference = np.abs(drawn - shown.transpose(1, 2, 0)).max(2)
    assert difference[inside].mean() > 60
    assert np.median(difference[~inside]) < 12
