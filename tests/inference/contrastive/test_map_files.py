"""The files of `geoclick predict --classes` for GeoTIFFs, through the command."""

import json
import shlex
from math import cos, radians, sin

import numpy as np
import pytest
from PIL import Image
from rasterio import Affine, warp

from geoclick import config
from geoclick.geo import vectors
from geoclick.inference import predict
from geoclick.inference.evaluation.options import EvaluateOptions
from geoclick.scenes.copies.semantic import paint
from tests import geotiffs

rasterio, shapely = geotiffs.rasterio, geotiffs.shapely
CLASSES = "background; building, roof; road; water: blue; field; tree, forest"
ANGLE = radians(25)
PLACES = {
    "EPSG:32633": Affine(0.3, 0, 500_100, 0, -0.3, 5_000_200),
    "EPSG:3857": Affine(
        0.6 * cos(ANGLE), 0.6 * sin(ANGLE), 1_200_000, 0.6 * sin(ANGLE), -0.6 * cos(ANGLE), 6_100_000
    ),
}


@pytest.fixture(scope="module")
def pixels():
    """[3, 200, 256] of a scene, with a border of zeros on the left and a hole."""
    values = np.asarray(paint("loveda", 0, 1)[0])[:400:2, :512:2].transpose(2, 0, 1).clip(1).copy()
    values[:, :, :20] = 0
    values[:, 90:100, 100:130] = 0
    return values


def run(capsys, *words):
    code = predict.main([*map(str, words)])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    assert "Warning" not in captured.err
    return code, (captured.out + captured.err).strip().splitlines()


def corner(transform, column, row):
    """The coordinates of a corner of pixels, by the formula of a world file."""
    a, b, c, d, e, f = transform[:6]
    return a * column + b * row + c, d * column + e * row + f


@pytest.mark.parametrize("crs", PLACES)
def test_the_polygons_and_the_raster_lie_where_the_image_lies(pixels, crs, tmp_path, capsys):
    transform = PLACES[crs]
    path = geotiffs.write_raster(tmp_path / "in/scene.tif", pixels, crs=crs, transform=transform, nodata=0)
    out = tmp_path / "out"
    words = (path, "--classes", CLASSES, "--points-per-side", 8, "--output", out)
    code, lines = run(capsys, *words)
    assert code == 0
    names = {"config.yaml", *(f"scene.{end}" for end in ("json", "gpkg", "geojson", "mask.tif", "mask.png"))}
    assert {file.name for file in out.iterdir()} == names | {"scene.overlay.png"}
    record = json.loads((out / "scene.json").read_text())
    with rasterio.open(out / "scene.mask.tif") as raster:
        assert (raster.crs.to_string(), raster.nodata) == (crs, 255)
        assert raster.transform.almost_equals(transform, 1e-12)
        mask, table = raster.read(1), raster.colormap(1)
    with Image.open(out / "scene.mask.png") as image:
        np.testing.assert_array_equal(np.asarray(image), mask)
    valid = (pixels != 0).any(0)
    np.testing.assert_array_equal(mask == 255, ~valid)
    assert record["no_data"] == pytest.approx((~valid).mean(), abs=1e-6)
    for row in record["classes"]:
        assert row["share"] == pytest.approx((mask[valid] == row["index"]).mean(), abs=1e-6)
        assert list(table[row["index"]][:3]) == row["color"]
    assert (record["crs"], record["transform"]) == (crs, list(transform[:6]))
    assert record["vectors"] == ["scene.gpkg", "scene.geojson"]
    line = next(line for line in lines if line.startswith(f"{path}: "))
    assert f"{(~valid).mean():.1%} of the pixels have no data; " in line
    assert line.endswith(f"; {record['polygons']} polygons")

    found = vectors.read_features(out / "scene.gpkg")
    assert len(found.ids) == record["polygons"] > 10
    numbers = {row["name"]: row["index"] for row in record["classes"]}
    shapely.prepare(found.shapes)
    for y, x in np.random.default_rng(0).integers(0, (200, 256), (300, 2)):
        inside = shapely.contains_xy(found.shapes, *corner(transform, x + 0.5, y + 0.5))
        own = [numbers[name] for name, hit in zip(found.classes, inside, strict=True) if hit]
        assert own == ([mask[y, x]] if valid[y, x] else [])
    # GeoJSON has the same corners in degrees.
    degrees = vectors.read_features(out / "scene.geojson")
    xy = shapely.get_coordinates(found.shapes[0].exterior)
    expected = np.stack(warp.transform(crs, "EPSG:4326", xy[:, 0], xy[:, 1]), axis=1)
    ring = shapely.get_coordinates(degrees.shapes[0].exterior)
    assert all(np.abs(ring - point).max(1).min() < 1e-8 for point in expected)
    # The same command again replaces the files; a file of another origin is not replaced.
    assert run(capsys, *words)[0] == 0
    (out / "scene.json").unlink()
    (out / "config.yaml").unlink()
    code, lines = run(capsys, *words)
    assert (code, "scene." in lines[-1]) == (2, True)


def test_a_tiff_without_a_place_says_so_and_has_no_polygons(pixels, tmp_path, capsys):
    path = geotiffs.write_raster(tmp_path / "a.tif", pixels, crs=None, transform=None, nodata=0)
    out = tmp_path / "out"
    code, lines = run(capsys, path, "--classes", CLASSES, "--method", "clip", "--output", out)
    assert code == 0
    assert any("no polygons, since it is not georeferenced" in line for line in lines)
    assert {file.name for file in out.iterdir()} == {
        "config.yaml",
        *(f"a.{end}" for end in ("json", "mask.png", "mask.tif", "overlay.png")),
    }
    record = json.loads((out / "a.json").read_text())
    assert (record["crs"], record["vectors"], record["polygons"]) == (None, [], 0)
    assert record["no_data"] == pytest.approx((pixels == 0).all(0).mean(), abs=1e-6)


def test_an_image_without_data_has_no_class(pixels, tmp_path, capsys):
    path = geotiffs.write_raster(tmp_path / "a.tif", np.zeros_like(pixels), nodata=0)
    out = tmp_path / "out"
    code, lines = run(capsys, path, "--classes", CLASSES, "--method", "clip", "--output", out)
    assert code == 0
    assert f"{path}: no class; 100.0% of the pixels have no data; 0 polygons" in lines
    assert json.loads((out / "a.json").read_text())["polygons"] == 0


@pytest.mark.parametrize(
    "words",
    [(), ("--method", "maskclip"), ("--select", "soft-vote")],
)
def test_the_next_command_is_one_that_evaluate_takes(pixels, words, tmp_path, capsys):
    path = geotiffs.write_raster(tmp_path / "a.tif", pixels[:, :64, :64])
    more = ("--classes", "road; water", *words, "--output", tmp_path / "out")
    if "maskclip" not in words:
        more += ("--points-per-side", 2)
    code, lines = run(capsys, path, *more)
    assert code == 0
    (line,) = (line for line in lines if line.startswith("next: geoclick evaluate "))
    options = config.parse(EvaluateOptions, shlex.split(line)[3:], prog="", description="", example="")
    assert options.predictor == (words[1] if "--method" in words else "contrastive")


def test_the_next_command_names_the_models():
    options = predict.PredictOptions(images=("a",), classes="a", method="clip", clip="x", clip_checkpoint="y")
    assert predict.models_of(options) == ["--clip", "x", "--clip-checkpoint", "y"]
    options = predict.PredictOptions(images=("a",), classes="a", segmenter="sam_vit_b", checkpoint="z")
    assert predict.models_of(options) == ["--segmenter", "sam_vit_b", "--segmenter-checkpoint", "z"]
