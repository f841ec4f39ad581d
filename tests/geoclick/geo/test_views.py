"""Windows of rasters read from the file: the pixels of the one reader, and reduced views."""

import numpy as np
import pytest
from PIL import Image

from geoclick.errors import GeoClickError, UsageError
from geoclick.geo import georeference, reading, views
from geoclick.geo.reading import PixelOptions
from geoclick.geo.tiles import Window
from tests import geotiffs

rasterio = geotiffs.rasterio
WINDOWS = (Window(0, 0, 30, 40), Window(17, 23, 33, 27), Window(0, 0, 50, 60))


def with_hole(values, hole=0):
    values = values.copy()
    values[:, 5:20, 10:30] = hole
    return values


def rgb(**options):
    return lambda path: geotiffs.write_raster(path, with_hole(geotiffs.noise(50, 60)), **options)


def bands(count, dtype, **options):
    values = with_hole(geotiffs.noise(50, 60, bands=count, dtype="uint16")).astype(dtype)
    return lambda path: geotiffs.write_raster(path, values, **options)


def floats_with_nan(path):
    values = with_hole(geotiffs.noise(50, 60, dtype="uint16").astype("float32"), np.nan)
    return geotiffs.write_raster(path, values)


def palette(path):
    colors = {number: (number * 7 % 256, 255 - number, number, 255) for number in range(256)}
    return geotiffs.write_raster(path, geotiffs.noise(50, 60, bands=1), colormap=colors, nodata=0)


def by_pillow(mode):
    def write(path):
        values = np.random.default_rng(0).integers(0, 256, (50, 60, 4), dtype=np.uint8)
        Image.fromarray(values, "RGBA").convert("RGB").convert(mode).save(path)
        return path

    return write


KINDS = {
    "rgb": rgb(),
    "rgb with nodata": rgb(nodata=0),
    "rgb compressed": rgb(nodata=0, compress="deflate", tiled=True, blockxsize=16, blockysize=16),
    "gray": bands(1, "uint8", nodata=0),
    "eight bands": bands(8, "uint8", nodata=0),
    "eight bands of 16 bits": bands(8, "uint16", nodata=0),
    "gray of 16 bits": bands(1, "uint16", nodata=0),
    "signed": bands(3, "int16", nodata=0),
    "floats": floats_with_nan,
    "palette": palette,
    "cmyk": by_pillow("CMYK"),
    "bits": by_pillow("1"),
    "gray by pillow": by_pillow("L"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_windows_have_the_pixels_of_the_reader(kind, tmp_path):
    path = KINDS[kind](tmp_path / "a.tif")
    whole, place = reading.read_image(path), georeference.read(path)
    assert views.can_open(path)
    with views.open_view(path, PixelOptions()) as view:
        assert view.size == view.full_size == whole.shape[:2]
        for window in WINDOWS:
            row, column, height, width = window
            cut = (slice(row, row + height), slice(column, column + width))
            pixels, valid = view.read(window)
            np.testing.assert_array_equal(pixels, whole[cut])
            expected = None if place.valid is None else place.valid[cut]
            if valid is None:
                assert expected is None or expected.all()
            else:
                np.testing.assert_array_equal(valid, expected)


def test_bands_and_stretch_are_those_that_are_given(tmp_path):
    path = bands(5, "uint16")(tmp_path / "a.tif")
    options = PixelOptions((4,), (0.0, 100.0))
    with views.open_view(path, options) as view:
        pixels, _ = view.read(WINDOWS[1])
    np.testing.assert_array_equal(pixels, reading.read_image(path, pixels=options)[17:50, 23:50])
    with pytest.raises(UsageError, match="1 to 5"), views.open_view(path, PixelOptions((9,))):
        pass


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("overviews", [False, True])
def test_a_coarser_resolution_gives_means(dtype, overviews, tmp_path):
    values = np.repeat(np.repeat(geotiffs.noise(20, 30, dtype=dtype), 4, axis=1), 4, axis=2)
    path = geotiffs.write_raster(tmp_path / "a.tif", values, tiled=True, blockxsize=16, blockysize=16)
    if overviews:
        with rasterio.open(path, "r+") as raster:
            raster.build_overviews([2, 4], rasterio.enums.Resampling.average)
    with views.open_view(path, PixelOptions()) as view:
        full = view.read(Window(0, 0, 80, 120))[0]
        side = views.ground_pixel((80, 120), view.crs, view.transform)
        corner = view.transform.c, view.transform.f
    # In the middle of its zone UTM is 0.04 % too small, and on the equator by nothing else.
    assert side == pytest.approx(geotiffs.PIXEL / 0.9996, rel=1e-4)
    with views.open_view(path, PixelOptions(), resolution=4 * side) as view:
        assert (view.size, view.scale) == ((20, 30), (4, 4))
        pixels, valid = view.read(Window(3, 5, 10, 11))
        assert (view.transform.c, view.transform.f) == corner
        assert view.transform.a == pytest.approx(4 * geotiffs.PIXEL)
        assert valid is None
        np.testing.assert_array_equal(pixels, full[12:52:4, 20:64:4])
        assert view.overview(15).shape == (10, 15, 3)
    with views.open_view(path, PixelOptions(), resolution=side / 3) as view:
        assert view.size == (80, 120)


def test_a_palette_is_reduced_in_colors(tmp_path):
    path = palette(tmp_path / "a.tif")
    whole = reading.read_image(path).astype(float)
    with views.open_view(path, PixelOptions()) as view:
        small = view.overview(30)
    means = whole.reshape(25, 2, 30, 2, 3).mean((1, 3))
    np.testing.assert_allclose(small, means, atol=1)


def test_degrees_are_meters_on_the_ground(tmp_path):
    """Against the radii of the ellipsoid at 60 degrees north."""
    transform = rasterio.Affine(1e-5, 0, 20.0, 0, -1e-5, 60.0)
    latitude = np.radians(60 - 25e-5)
    squared = 0.00669437999014
    denominator = 1 - squared * np.sin(latitude) ** 2
    east = 6378137 / denominator**0.5 * np.cos(latitude)
    north = 6378137 * (1 - squared) / denominator**1.5
    expected = np.radians(1e-5) * (east * north) ** 0.5
    assert views.ground_pixel((50, 60), "EPSG:4326", transform) == pytest.approx(expected, rel=1e-6)


def test_a_resolution_needs_a_place(tmp_path):
    path = geotiffs.write_raster(tmp_path / "a.tif", geotiffs.noise(20, 30), crs=None, transform=None)
    with pytest.raises(GeoClickError, match="no place on Earth"), views.open_view(path, PixelOptions(), 2.0):
        pass


def test_turned_and_other_files_are_not_opened(tmp_path):
    image = Image.fromarray(np.zeros((8, 9, 3), np.uint8))
    image.save(tmp_path / "a.png")
    exif = Image.Exif()
    exif[reading.ORIENTATION] = 6
    image.save(tmp_path / "turned.tif", exif=exif)
    image.save(tmp_path / "upright.tif")
    opened = [views.can_open(tmp_path / name) for name in ("a.png", "turned.tif", "upright.tif", "none.tif")]
    assert opened == [False, False, True, False]
