import sys
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from rasterio.enums import ColorInterp

from geoclick.errors import GeoClickError, UsageError
from geoclick.geo import rasters
from geoclick.geo.tiles import Window
from tests import geotiffs
from tests.hardening.file_cases import tiff_of

ALL = Window(0, 0, 40, 60)
COLORS = [ColorInterp.red, ColorInterp.green, ColorInterp.blue]


def written(path, pixels, **profile):
    return rasters.open_raster(geotiffs.write_raster(path / "a.tif", pixels, **profile))


def shown(path, pixels, *, bands=(), percentiles=(0, 100), window=ALL, **profile):
    """The picture of a raster and its valid pixels."""
    with written(path, pixels, **profile) as raster:
        chosen = rasters.choose_bands(raster, bands)
        limits = rasters.stretch_limits(raster, chosen, percentiles)
        valid = rasters.read_valid(raster, window, chosen)
        return rasters.read_window(raster, window, chosen, limits, valid), valid


def test_bytes_are_shown_as_they_are(tmp_path):
    pixels = geotiffs.noise(40, 60) // 4
    image, valid = shown(tmp_path, pixels, window=Window(3, 5, 20, 30))
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, pixels[:, 3:23, 5:35].transpose(1, 2, 0))
    assert valid is None


@pytest.mark.parametrize(
    ("kinds", "asked", "expected"),
    [
        ([ColorInterp.undefined] * 5, (), (1, 2, 3)),
        ([ColorInterp.undefined] * 5, (5, 3, 1), (5, 3, 1)),
        ([ColorInterp.undefined] * 5, (4,), (4, 4, 4)),
        ([*COLORS[::-1], ColorInterp.undefined], (), (3, 2, 1)),
        ([*COLORS, ColorInterp.alpha], (), (1, 2, 3)),
        ([ColorInterp.gray, ColorInterp.alpha], (), (1, 1, 1)),
        ([ColorInterp.gray], (), (1, 1, 1)),
        ([ColorInterp.gray, ColorInterp.undefined], (), (1, 1, 1)),
    ],
)
def test_bands(tmp_path, kinds, asked, expected):
    pixels = geotiffs.noise(40, 60, bands=len(kinds))
    with written(tmp_path, pixels, colorinterp=kinds) as raster:
        assert rasters.choose_bands(raster, asked) == expected


@pytest.mark.parametrize("bands", [(1, 2), (0,), (1, 2, 4), (1, 2, 3, 3)])
def test_bands_that_are_not_there(tmp_path, bands):
    with written(tmp_path, geotiffs.noise(40, 60)) as raster, pytest.raises(UsageError, match="1 to 3"):
        rasters.choose_bands(raster, bands)


def test_palettes_and_complex_numbers_say_what_to_do(tmp_path):
    grey = geotiffs.noise(40, 60, bands=1)
    with (
        written(tmp_path, grey, photometric="palette", colormap={1: (255, 0, 0)}) as raster,
        pytest.raises(GeoClickError, match="expand rgb"),
    ):
        rasters.choose_bands(raster)
    with (
        written(tmp_path, grey.astype(np.complex64)) as raster,
        pytest.raises(GeoClickError, match="complex"),
    ):
        rasters.choose_bands(raster)


def test_more_than_bytes_are_stretched_by_percentiles_of_the_complete_raster(tmp_path):
    pixels = np.tile(np.arange(40 * 60, dtype=np.uint16).reshape(1, 40, 60), (3, 1, 1)) * 5 + 300
    pixels[1] *= 2
    window = Window(10, 20, 15, 25)
    image, _ = shown(tmp_path, pixels, percentiles=(2, 98), window=window)
    low, high = np.percentile(pixels[0], (2, 98))
    expected = np.clip((pixels[0, 10:25, 20:45] - low) / (high - low), 0, 1) * 255
    for band in range(3):
        # Each band has its own limits, so twice the values look the same.
        assert np.abs(image[..., band] - expected).max() <= 0.5 + 1e-9


def test_the_stretch_passes_over_pixels_without_data(tmp_path):
    pixels = np.full((3, 40, 60), 1000, np.int16)
    pixels[:, :, 30:] = 2000
    pixels[:, :20] = -9999
    image, valid = shown(tmp_path, pixels, nodata=-9999)
    assert set(np.unique(image[20:, :30])) == {0}
    assert set(np.unique(image[20:, 30:])) == {255}
    assert not image[:20].any()
    np.testing.assert_array_equal(valid, np.arange(40)[:, None].repeat(60, 1) >= 20)


def test_a_flat_band_and_one_without_data_are_no_failure(tmp_path):
    pixels = np.zeros((3, 40, 60), np.float32)
    pixels[0] = 7
    pixels[1] = np.nan
    image, valid = shown(tmp_path, pixels)
    assert image.max() == 0
    # The first band has data everywhere.
    assert valid is None


def test_nan_and_infinity_hold_no_data(tmp_path):
    pixels = np.random.default_rng(0).random((1, 40, 60), np.float32)
    pixels[0, :5] = np.nan
    pixels[0, 5:9] = np.inf
    image, valid = shown(tmp_path, pixels)
    np.testing.assert_array_equal(np.flatnonzero(~valid.any(axis=1)), np.arange(9))
    assert not image[:9].any()
    assert image[9:].max() == 255


def test_transparency_holds_no_data(tmp_path):
    pixels = geotiffs.noise(40, 60, bands=4)
    pixels[3] = 255
    pixels[3, :, :10] = 0
    image, valid = shown(tmp_path, pixels, colorinterp=[*COLORS, ColorInterp.alpha])
    np.testing.assert_array_equal(np.flatnonzero(~valid.any(axis=0)), np.arange(10))
    assert not image[:, :10].any()


def test_a_value_in_one_band_alone_is_data(tmp_path):
    pixels = geotiffs.noise(40, 60)
    pixels[0, 5, 5] = 0
    pixels[:, 6, 6] = 0
    _, valid = shown(tmp_path, pixels, nodata=0)
    assert valid[5, 5]
    assert not valid[6, 6]


numbers = hnp.arrays(np.float64, (2, 3, 4), elements=st.floats(-1e6, 1e6) | st.just(np.nan))


@given(numbers, st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)), min_size=2, max_size=2))
def test_the_stretch_keeps_the_order_and_its_limits(pixels, pairs):
    limits = np.sort(np.array(pairs), axis=1)
    found = rasters.to_bytes(pixels, limits)
    for values, image, (low, high) in zip(pixels, found, limits, strict=True):
        known = ~np.isnan(values)
        assert (image[~known] == 0).all()
        order = np.argsort(values[known])
        assert (np.diff(image[known][order].astype(int)) >= 0).all()
        assert (image[known & (values <= low)] == 0).all()
        if high - low >= 1:
            assert (image[known & (values >= high)] == 255).all()


@pytest.mark.parametrize(
    "content", [b"", b"II*\0", b"<VRTDataset rasterXSize='1' rasterYSize='1'></VRTDataset>"]
)
def test_what_is_no_geotiff_is_one_sentence(tmp_path, content):
    (tmp_path / "a.tif").write_bytes(content)
    with (
        pytest.raises(GeoClickError, match=r"a\.tif cannot be read as a GeoTIFF"),
        rasters.open_raster(tmp_path / "a.tif"),
    ):
        pass
    with pytest.raises(GeoClickError, match="cannot be read"), rasters.open_raster(tmp_path / "none.tif"):
        pass


@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
def test_a_virtual_raster_that_names_another_file_is_not_followed(tmp_path):
    geotiffs.write_raster(tmp_path / "secret/a.tif", geotiffs.noise(40, 60, bands=1))
    (tmp_path / "b.tif").write_text(
        "<VRTDataset rasterXSize='60' rasterYSize='40'><VRTRasterBand dataType='Byte' band='1'><SimpleSource>"
        f"<SourceFilename>{tmp_path}/secret/a.tif</SourceFilename><SourceBand>1</SourceBand>"
        "</SimpleSource></VRTRasterBand></VRTDataset>"
    )
    # GDAL would, going by the content.
    with geotiffs.rasterio.open(tmp_path / "b.tif") as raster:
        assert raster.read().any()
    with pytest.raises(GeoClickError, match="cannot be read"), rasters.open_raster(tmp_path / "b.tif"):
        pass


@pytest.mark.parametrize("size", [(10**9, 10**9), (10**9, 1), (1, 2**20 + 1)])
def test_a_header_that_claims_an_enormous_size_is_one_sentence(tmp_path, size):
    path = tmp_path / "a.tif"
    path.write_bytes(tiff_of(*size))
    with (
        pytest.raises(GeoClickError, match="pixels, and at most 1,048,576 a side"),
        rasters.open_raster(path),
    ):
        pass


def test_a_truncated_file_is_one_sentence(tmp_path):
    path = geotiffs.write_raster(tmp_path / "a.tif", geotiffs.noise(400, 600, dtype="uint16"))
    path.write_bytes(path.read_bytes()[:200_000])
    window, limits = Window(300, 500, 90, 90), np.array([[0, 1]] * 3)
    with rasters.open_raster(path) as raster:
        for work in (
            lambda: rasters.read_window(raster, window, (1, 2, 3), limits, None),
            lambda: rasters.stretch_limits(raster, (1, 2, 3), (2, 98)),
        ):
            with pytest.raises(GeoClickError, match=r"a\.tif cannot be read as a GeoTIFF"):
                work()


@pytest.mark.parametrize("library", ["rasterio", "pyogrio", "shapely"])
def test_without_the_extra_there_is_one_sentence(monkeypatch, library):
    rasters.check_installed()
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(
        GeoClickError, match=rf"{library}, which is not installed; run 'pip install geoclick\[geo\]'"
    ):
        rasters.check_installed()


@pytest.mark.parametrize("limits", [(-1.7e308, 1.7e308), (0.0, 1e-300), (0.0, 0.0), (-3e38, 3e38)])
def test_no_value_overflows(limits):
    values = np.array([[[-1.7e308, -np.inf, 0, np.inf, np.nan, 1.7e308]]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shown = rasters.to_bytes(values, np.array([limits]))[0, 0]
    assert [int(shown[i]) for i in (0, 1, 3, 4, 5)] == [0, 0, 255, 0, 255]
    assert shown[2] == (128 if limits[0] < 0 else 0)
