import numpy as np
import pytest
from PIL import Image
from rasterio import Affine
from rasterio.enums import ColorInterp

from geoclick import images
from geoclick.geo import georeference, reading
from tests import geotiffs


def test_the_place_and_the_pixels_with_data(tmp_path):
    pixels = geotiffs.noise(1100, 30)
    pixels[:, 1040:1050, 3:9] = 0
    pixels[:2, 5, 5] = 0
    path = geotiffs.write_raster(tmp_path / "a.tif", pixels, nodata=0)
    place = georeference.read(path)
    assert (place.crs, place.problem) == (geotiffs.UTM, "")
    assert place.transform @ (0, 0) == (geotiffs.LEFT, geotiffs.TOP)
    np.testing.assert_array_equal(place.valid, (pixels != 0).any(0))
    assert georeference.read(path, (1,)).valid[5, 5] == np.False_
    whole = georeference.read(geotiffs.write_raster(tmp_path / "b.tif", pixels))
    assert whole.valid is None


def test_a_mask_a_palette_and_nan(tmp_path):
    alpha = geotiffs.noise(20, 30, bands=4)
    alpha[3] = 255
    alpha[3, :4] = 0
    kinds = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
    path = geotiffs.write_raster(tmp_path / "a.tif", alpha, colorinterp=kinds)
    np.testing.assert_array_equal(georeference.read(path).valid, alpha[3] > 0)
    floats = geotiffs.noise(20, 30).astype(np.float32)
    floats[:, 2, 3] = np.nan
    valid = georeference.read(geotiffs.write_raster(tmp_path / "b.tif", floats)).valid
    assert np.argwhere(~valid).tolist() == [[2, 3]]
    colormap = {n: (n, 0, 0, 255) for n in range(256)}
    values = geotiffs.noise(20, 30, bands=1)
    values[0, 7, 8] = 9
    path = geotiffs.write_raster(tmp_path / "c.tif", values, colormap=colormap, nodata=9)
    np.testing.assert_array_equal(georeference.read(path).valid, values[0] != 9)


@pytest.mark.parametrize(
    "profile", [{"crs": None}, {"transform": None}, {"transform": Affine(0, 0, 5, 0, 0, 5)}]
)
def test_a_tiff_without_a_place_says_so(tmp_path, profile):
    path = geotiffs.write_raster(tmp_path / "a.tif", geotiffs.noise(20, 30), **profile)
    place = georeference.read(path)
    assert (place.crs, place.transform, place.problem) == ("", None, "it is not georeferenced")


def test_jpeg_2000_has_a_place_too(tmp_path):
    lossless = {"QUALITY": 100, "REVERSIBLE": "YES", "driver": "JP2OpenJPEG"}
    path = geotiffs.write_raster(tmp_path / "a.jp2", geotiffs.noise(64, 80), **lossless)
    place = georeference.read(path)
    assert (place.crs, place.valid) == (geotiffs.UTM, None)
    assert place.transform @ (0, 0) == (geotiffs.LEFT, geotiffs.TOP)


def test_other_formats_have_none(tmp_path):
    images.write_png(tmp_path / "a.png", np.zeros((4, 5, 3), np.uint8))
    assert georeference.read(tmp_path / "a.png") is None


def test_a_turned_image_has_no_place_and_its_valid_pixels_are_upright(tmp_path):
    values = np.zeros((20, 30), np.uint8)
    values[:5] = 9
    exif = Image.Exif()
    exif[reading.ORIENTATION] = 6
    exif[reading.NODATA] = "9"
    path = tmp_path / "a.tif"
    Image.fromarray(values).save(path, tiffinfo=exif)
    place = georeference.read(path)
    assert "orientation 6 contradicts" in place.problem
    shown = reading.read_image(path)
    assert shown.shape[:2] == place.valid.shape == (30, 20)
    np.testing.assert_array_equal(place.valid, shown[..., 0] != 9)


def test_without_the_extra_the_problem_names_it(tmp_path, monkeypatch):
    path = geotiffs.write_raster(tmp_path / "a.tif", geotiffs.noise(20, 30), nodata=0)
    monkeypatch.setattr(georeference.importlib.util, "find_spec", lambda name: None)
    assert "pip install geoclick[geo]" in georeference.read(path).problem
