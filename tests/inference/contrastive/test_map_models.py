"""Maps of many images and of rasters by windows, without models: what is written, resumed and left out."""

import json
import os

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from geoclick import images
from geoclick.geo import georeference, reading, vectors
from geoclick.geo.reading import PixelOptions
from geoclick.inference.contrastive import map_files
from geoclick.inference.predictions import overlays
from geoclick.pages import class_drawing
from tests import geotiffs
from tests.geoclick.geo import class_maps
from tests.inference.contrastive.gray_maps import QUERY, GrayMaps, predict

rasterio, shapely = geotiffs.rasterio, geotiffs.shapely


def scene(height=150, width=190, seed=0):
    """Gray values, uint8 [1, H, W], of large and small regions; a bar crosses all windows."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).random((height, width)), 3)
    values = (1 + (noise - noise.min()) / np.ptp(noise) * 254).astype(np.uint8)
    values[height // 2 : height // 2 + 5] = 250
    return values[None]


def content(folder):
    """The bytes of all files; a GeoPackage holds its time."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".gpkg"}


def test_the_files_of_a_raster_are_those_of_its_complete_map(tmp_path):
    values = scene()
    values[:, :, 150:] = 255
    values[:, 20:30, 20:40] = 255
    path = geotiffs.write_raster(tmp_path / "a.tif", np.repeat(values, 3, axis=0), nodata=255)
    pipeline = GrayMaps()
    assert predict(tmp_path / "out", [path], pipeline) == {}
    # Equal windows of at most 64 pixels, without the columns that have no data.
    assert set(pipeline.shown) == {(50, 63), (50, 64)}
    assert len(pipeline.shown) == 3 * 3

    image, place = reading.read_image(path), georeference.read(path)
    whole = map_files.with_no_data(GrayMaps().decide(image), place.valid)
    totals = map_files.Totals()
    totals.add(whole)
    classes, rows = pipeline.classes, totals.rows(pipeline.classes)
    with rasterio.open(tmp_path / "out/a.mask.tif") as raster:
        np.testing.assert_array_equal(raster.read(1), whole.labels)
        assert [raster.tags(1)[f"class_{n}"] for n in range(4)] == ["dark", "dim", "light", "bright"]
        assert raster.colormap(1)[3][:3] == (255, 0, 0)
        assert raster.profile["tiled"]
    map_files.write_mask(tmp_path / "mask.png", whole.labels, classes)
    assert (tmp_path / "out/a.mask.png").read_bytes() == (tmp_path / "mask.png").read_bytes()
    drawn = class_drawing.overlay(image, whole.labels, classes.colors, map_files.legend(rows, totals.no_data))
    with Image.open(tmp_path / "out/a.overlay.png") as overlay:
        np.testing.assert_array_equal(np.asarray(overlay), drawn)
    record = json.loads((tmp_path / "out/a.json").read_text())
    for row, expected in zip(record["classes"], rows, strict=True):
        assert (row["share"], row["confidence"]) == (expected.share, expected.confidence)
    assert record["no_data"] == round(float((~place.valid).mean()), 6)
    assert (record["size"], record["mask_size"], record["proposals"]) == ([150, 190], [150, 190], 18)

    # Polygons as those of a map that was written in one piece.
    regions = class_maps.regions_of(tmp_path, whole.labels, whole.confidence, place, side=400)
    found = vectors.read_features(tmp_path / "out/a.gpkg")
    assert len(found.shapes) == record["polygons"] == len(regions) > 30
    assert shapely.equals_exact(found.shapes, regions.shapes, tolerance=1e-6).all()
    assert found.classes == tuple(classes.names[number] for number in regions.labels)
    features = json.loads((tmp_path / "out/a.geojson").read_text())["features"]
    for name, values in (("confidence", regions.confidence), ("area_m2", regions.areas)):
        np.testing.assert_allclose([one["properties"][name] for one in features], values, rtol=1e-9)


def test_a_coarser_resolution_is_written_at_its_place(tmp_path):
    path = geotiffs.write_raster(tmp_path / "a.tif", scene(160, 200))
    assert predict(tmp_path / "out", [path], resolution=40 / 0.9996) == {}
    record = json.loads((tmp_path / "out/a.json").read_text())
    assert (record["size"], record["mask_size"]) == ([160, 200], [40, 50])
    with rasterio.open(tmp_path / "out/a.mask.tif") as raster, rasterio.open(path) as source:
        assert raster.shape == (40, 50)
        assert tuple(raster.bounds) == tuple(source.bounds)
        means = source.read(1).reshape(40, 4, 50, 4).mean((1, 3))
        assert np.abs(raster.read(1) - means // 64).max() <= 1
        assert (raster.read(1) == means // 64).mean() > 0.97
    found = vectors.read_features(tmp_path / "out/a.gpkg")
    assert shapely.area(found.shapes).sum() == pytest.approx(160 * 200 * geotiffs.PIXEL**2)
    png = tmp_path / "b.png"
    images.write_png(png, np.zeros((20, 20, 3), np.uint8))
    (error,) = predict(tmp_path / "out", [png], resolution=2.0)[png].values()
    assert error == f"{png} has no place on Earth, which --resolution needs; leave it out."


def test_the_overlay_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(overlays, "LONGEST", 80)
    values = scene()
    path = geotiffs.write_raster(tmp_path / "a.tif", np.repeat(values, 3, axis=0))
    assert predict(tmp_path / "out", [path]) == {}
    labels = values[0] // 64
    rows, columns = (((np.arange(n) + 0.5) * side / n).astype(int) for n, side in ((63, 150), (80, 190)))
    small = Image.fromarray(labels[rows][:, columns]).resize((512, 403), Image.Resampling.NEAREST)
    colors = np.array(GrayMaps().classes.colors)[np.asarray(small)]
    with Image.open(tmp_path / "out/a.overlay.png") as picture:
        assert picture.width == 512
        drawn = np.asarray(picture)[:403].astype(int)
    with rasterio.open(path) as raster:
        shown = raster.read(out_shape=(3, 63, 80), resampling=rasterio.enums.Resampling.average)
    shown = Image.fromarray(shown.transpose(1, 2, 0)).resize((512, 403), Image.Resampling.BICUBIC)
    assert np.abs(drawn - (np.asarray(shown).astype(int) + colors) / 2).max() <= 2


@pytest.fixture
def paths(tmp_path):
    """Two rasters and two pictures."""
    found = []
    for number in range(4):
        name = tmp_path / f"in/{number}.{'tif' if number % 2 else 'png'}"
        if number % 2:
            geotiffs.write_raster(name, np.repeat(scene(seed=number), 3, axis=0))
        else:
            name.parent.mkdir(exist_ok=True)
            images.write_png(name, np.repeat(scene(90, 100, number).transpose(1, 2, 0), 3, axis=2))
        found.append(name)
    return found


def test_a_killed_job_continues_and_finished_maps_are_not_made_again(paths, tmp_path, capsys):
    assert predict(tmp_path / "whole", paths) == {}
    expected = content(tmp_path / "whole")
    out = tmp_path / "out"
    for ends_at in (0, 1, 4, 11):  # windows: 1 + 9 + 1 + 9
        with pytest.raises(KeyboardInterrupt):
            predict(out, paths, GrayMaps(ends_at=ends_at))
        assert not list(out.glob("*.partial"))
    capsys.readouterr()
    pipeline = GrayMaps()
    assert predict(out, paths, pipeline) == {}
    assert len(pipeline.shown) == 9
    assert "3 of 4 images have their outputs from an earlier run" in capsys.readouterr().err
    assert content(out) == expected
    pipeline = GrayMaps()
    assert predict(out, paths, pipeline) == {}
    assert pipeline.shown == []


def test_what_changes_the_map_makes_it_again(paths, tmp_path):
    out = tmp_path / "out"

    def again(**changes):
        pipeline = changes.pop("pipeline", GrayMaps())
        assert predict(out, paths[:2], pipeline, **changes) == {}
        return len(pipeline.shown)

    assert again() == 10
    assert again() == 0
    stat = paths[0].stat()
    os.utime(paths[0], ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert again() == 0
    with Image.open(paths[0]) as image:
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(paths[0])
    assert again() == 1
    assert again(pixels=PixelOptions(bands=(1,))) == 10
    assert again() == 10
    assert again(pipeline=GrayMaps(side=80)) == 7
    # Another class file of the same name.
    assert again(pipeline=GrayMaps("dark; dim; light; bright", side=80)) == 7
    (out / "1.gpkg").unlink()
    assert again(pipeline=GrayMaps("dark; dim; light; bright", side=80)) == 6


def test_broken_images_are_failures_and_the_rest_goes_on(paths, tmp_path, capsys):
    paths[1].write_bytes(paths[1].read_bytes()[:3000])
    narrow = geotiffs.write_raster(tmp_path / "narrow.tif", np.ones((1, 1, 300), np.uint8))
    failures = predict(tmp_path / "out", [*paths, narrow, tmp_path / "none.png"])
    assert set(failures) == {paths[1], narrow, tmp_path / "none.png"}
    assert failures[narrow] == {QUERY: "The image is too narrow; give a larger one."}
    assert sorted(path.name for path in (tmp_path / "out").glob("*.json")) == ["0.json", "2.json", "3.json"]
    assert not list((tmp_path / "out").glob("*.partial"))
    assert f"{paths[1]}: failed, " in capsys.readouterr().err


def test_a_turned_tiff_has_no_polygons_and_its_pixels_without_data_no_class(tmp_path, capsys):
    values = scene(40, 60)
    values[0, :, :10] = 0
    path = tmp_path / "a.tif"
    image = Image.fromarray(values[0])
    # GDAL's tag of the value without data.
    image.save(path, tiffinfo={274: 6, 42113: "0"})
    assert predict(tmp_path / "out", [path]) == {}
    assert "no polygons, since its EXIF orientation 6 contradicts its georeference" in capsys.readouterr().err
    with Image.open(tmp_path / "out/a.mask.png") as mask:
        labels = np.asarray(mask)
    np.testing.assert_array_equal(labels, np.where(values[0] == 0, 255, values[0] // 64)[::-1].T)
    record = json.loads((tmp_path / "out/a.json").read_text())
    assert (record["crs"], record["size"]) == (None, [60, 40])
    assert record["no_data"] == round(1 / 6, 6)
    pipeline = GrayMaps()
    assert predict(tmp_path / "out", [path], pipeline) == {}
    assert pipeline.shown == []
