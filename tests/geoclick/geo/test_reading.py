import io
import os
import shutil

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from geoclick import images
from geoclick.errors import GeoClickError, UsageError
from geoclick.geo import reading
from geoclick.geo.reading import PixelOptions, image_size, read_image
from tests.paths import SHARED

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),
]

NOISE = np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)
CASES = SHARED / "cases"


def write(path, pixels, driver="GTiff", **profile):
    """Write [bands, H, W] without a georeference."""
    count, height, width = pixels.shape
    with rasterio.open(
        path, "w", driver=driver, count=count, height=height, width=width, dtype=pixels.dtype, **profile
    ) as file:
        file.write(pixels)
    return path


def expected(pixels, percentiles=(2, 98), valid=None):
    """Values [bands, H, W] stretched to uint8 [H, W, bands]; invalid pixels are black."""
    valid = np.ones(pixels.shape, bool) if valid is None else valid
    stretched = []
    for band, seen in zip(pixels.astype(np.float64), valid, strict=True):
        low, high = np.percentile(band[seen], percentiles)
        scaled = np.clip((np.where(seen, band, low) - low) / (high - low), 0, 1)
        stretched.append((scaled * 255 + 0.5).astype(np.uint8) * valid.any(0))
    return np.stack(stretched, axis=-1)


@pytest.fixture
def without_rasterio(monkeypatch):
    monkeypatch.setattr(reading, "_has_rasterio", lambda: False)


@pytest.mark.parametrize("mode", ["L", "P", "RGB", "RGBA", "LA", "1", "CMYK"])
@pytest.mark.parametrize("suffix", ["png", "tif", "jpg", "webp", "bmp", "jp2"])
def test_eight_bits_are_as_pillow_converts_them(tmp_path, mode, suffix):
    path = tmp_path / f"a.{suffix}"
    try:
        Image.fromarray(NOISE).convert(mode).save(path)
    except (OSError, ValueError):
        pytest.skip("the format has no such mode")
    with Image.open(path) as image:
        plain = np.asarray(image.convert("RGB"))
    assert np.array_equal(read_image(path), plain)
    assert image_size(path) == (37, 53)


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32", "uint32", "float64", "int8"])
@pytest.mark.parametrize("bands", [1, 3])
def test_more_bits_are_stretched_by_band(tmp_path, dtype, bands):
    pixels = (np.random.default_rng(1).normal(0.5, 0.1, (bands, 37, 53)) * 100).astype(dtype)
    pixels[-1] = pixels[-1] + pixels[-1].dtype.type(9)
    path = write(tmp_path / "a.tif", pixels)
    assert np.array_equal(read_image(path), np.broadcast_to(expected(pixels), (37, 53, 3)))
    spread = read_image(path, pixels=PixelOptions(stretch=(0.0, 100.0)))
    assert np.array_equal(spread, np.broadcast_to(expected(pixels, (0, 100)), (37, 53, 3)))
    as_they_are = read_image(path, pixels=PixelOptions(stretch=()))
    clipped = np.clip(pixels.astype(float), 0, 255).transpose(1, 2, 0)
    assert np.array_equal(as_they_are, np.broadcast_to((clipped + 0.5).astype(np.uint8), (37, 53, 3)))


@pytest.mark.parametrize(("driver", "suffix"), [("PNG", "png"), ("JP2OpenJPEG", "jp2")])
@pytest.mark.parametrize("bands", [1, 3])
def test_png_and_jpeg_2000_of_sixteen_bits(tmp_path, driver, suffix, bands):
    pixels = np.random.default_rng(1).integers(900, 2000, (bands, 37, 53)).astype("uint16")
    lossless = {"QUALITY": 100, "REVERSIBLE": "YES"} if suffix == "jp2" else {}
    path = write(tmp_path / f"a.{suffix}", pixels, driver, **lossless)
    assert np.array_equal(read_image(path), np.broadcast_to(expected(pixels), (37, 53, 3)))


def test_pixels_without_data_are_black_and_do_not_count(tmp_path):
    pixels = np.random.default_rng(1).normal(5, 1, (1, 37, 53)).astype("float32")
    valid = np.random.default_rng(2).random((1, 37, 53)) > 0.3
    pixels[~valid] = -9999
    pixels[0, 0, 0], valid[0, 0, 0] = np.nan, False
    path = write(tmp_path / "a.tif", pixels, nodata=-9999)
    assert np.array_equal(read_image(path), np.broadcast_to(expected(pixels, valid=valid), (37, 53, 3)))


@given(
    dtype=st.sampled_from(["uint16", "float32", "int32"]),
    shape=st.tuples(st.integers(1, 40), st.sampled_from([1, 7, 1500, 2049])),
    percentiles=st.sampled_from([(2.0, 98.0), (0.0, 100.0), (1.0, 60.0), ()]),
    seed=st.integers(0, 99),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_pillow_and_rasterio_show_the_same_pixels(tmp_path, monkeypatch, dtype, shape, percentiles, seed):
    pixels = np.random.default_rng(seed).integers(0, 5000, (1, *shape)).astype(dtype)
    path = write(tmp_path / "a.tif", pixels, nodata=0)
    options = PixelOptions(stretch=percentiles)
    with_rasterio = read_image(path, pixels=options)
    with monkeypatch.context() as patched:
        patched.setattr(reading, "_has_rasterio", lambda: False)
        assert np.array_equal(read_image(path, pixels=options), with_rasterio)


def test_bands_of_any_file(tmp_path):
    Image.fromarray(NOISE).save(tmp_path / "a.png")
    five = write(tmp_path / "a.tif", np.concatenate([NOISE, NOISE[..., :2] // 2], axis=2).transpose(2, 0, 1))
    for path in (tmp_path / "a.png", five):
        swapped = read_image(path, pixels=PixelOptions(bands=(3, 2, 1)))
        assert np.array_equal(swapped, NOISE[..., ::-1])
        assert np.array_equal(read_image(path, pixels=PixelOptions(bands=(2,)))[..., 0], NOISE[..., 1])
        with pytest.raises(UsageError, match="numbers of 1 to"):
            read_image(path, pixels=PixelOptions(bands=(1, 2, 9)))


@pytest.mark.parametrize("compress", ["lerc", "deflate"])
def test_files_that_pillow_cannot_open(tmp_path, compress):
    pixels = np.random.default_rng(1).integers(0, 256, (8, 37, 53)).astype("uint8")
    path = write(tmp_path / "a.tif", pixels, compress=compress)
    assert np.array_equal(read_image(path), pixels[:3].transpose(1, 2, 0))
    assert image_size(path) == (37, 53)


@pytest.mark.parametrize("bands", [3, 8])
def test_without_rasterio_the_extra_is_named(tmp_path, without_rasterio, bands):
    path = write(tmp_path / "a.tif", np.ones((bands, 37, 53), "uint16"))
    with pytest.raises(GeoClickError, match=r"cannot be read by Pillow .*pip install geoclick\[geo\]"):
        read_image(path)


def test_images_that_are_open_in_pillow(tmp_path):
    exif = Image.Exif()
    exif[reading.ORIENTATION] = 6
    Image.fromarray(NOISE).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as image:
        assert np.array_equal(reading.from_pillow(image), np.rot90(NOISE, -1))
    deep = np.random.default_rng(1).integers(0, 5000, (37, 53)).astype("uint16")
    assert np.array_equal(reading.from_pillow(Image.fromarray(deep))[..., 0], expected(deep[None])[..., 0])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_images_are_upright(tmp_path, orientation, suffix):
    exif = Image.Exif()
    exif[reading.ORIENTATION] = orientation
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(NOISE).save(path, exif=exif)
    with Image.open(path) as image:
        upright = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    assert np.array_equal(read_image(path), upright)
    assert image_size(path) == upright.shape[:2] == ((53, 37) if orientation > 4 else (37, 53))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["L", "RGBA", "P"])
def test_tiffs_that_could_be_mapped_into_memory_are_upright(tmp_path, orientation, mode):
    image = Image.fromarray(NOISE).convert(mode)
    image.save(tmp_path / "a.tif", tiffinfo={reading.ORIENTATION: orientation})
    turned = reading.UPRIGHT.get(orientation, lambda pixels: pixels)
    assert np.array_equal(read_image(tmp_path / "a.tif"), turned(np.asarray(image.convert("RGB"))))


def test_an_orientation_after_the_pixels_of_a_png_counts(tmp_path):
    exif = Image.Exif()
    exif[reading.ORIENTATION] = 6
    buffer = io.BytesIO()
    Image.fromarray(NOISE).save(buffer, "PNG", exif=exif)
    content = buffer.getvalue()
    start = content.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(content[start : start + 4])
    (tmp_path / "a.png").write_bytes(content[:start] + content[end:-12] + content[start:end] + content[-12:])
    assert np.array_equal(read_image(tmp_path / "a.png"), np.rot90(NOISE, -1))
    assert image_size(tmp_path / "a.png") == (53, 37)


def test_a_sixteen_bit_tiff_is_upright(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 5000, (37, 53)).astype("uint16")
    Image.fromarray(pixels).save(tmp_path / "a.tif", tiffinfo={reading.ORIENTATION: 6})
    assert np.array_equal(
        read_image(tmp_path / "a.tif")[..., 0], np.rot90(expected(pixels[None])[..., 0], -1)
    )
    assert image_size(tmp_path / "a.tif") == (53, 37)


def test_another_size_names_both_and_the_orientation(tmp_path):
    images.write_png(tmp_path / "a.png", NOISE)
    assert read_image(tmp_path / "a.png", size=(37, 53)).shape == NOISE.shape
    with pytest.raises(
        GeoClickError, match=r"53x37 pixels but its mask is 40x30; make them the same size\.$"
    ):
        read_image(tmp_path / "a.png", size=(30, 40))
    with pytest.raises(GeoClickError, match="upright, by their EXIF orientation"):
        read_image(tmp_path / "a.png", size=(53, 37))


def test_a_missing_file_and_a_folder(tmp_path):
    for read in (read_image, image_size):
        with pytest.raises(GeoClickError, match="does not exist"):
            read(tmp_path / "none.png")
        with pytest.raises(GeoClickError, match="is no plain file"):
            read(tmp_path)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "WEBP", "BMP", "JPEG2000"])
def test_a_file_cut_anywhere_is_one_sentence(tmp_path, form):
    buffer = io.BytesIO()
    Image.fromarray(NOISE).save(buffer, format=form)
    whole = buffer.getvalue()
    path = tmp_path / "cut"
    for length in [*range(0, 64, 3), *range(64, len(whole) - 64, max(1, len(whole) // 40))]:
        path.write_bytes(whole[:length])
        with pytest.raises(GeoClickError, match="cannot be read as an image") as caught:
            read_image(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("form", ["GIF", "PPM", "ICO", "PCX", "TGA", "DDS", "EPS", "PDF"])
def test_other_formats_are_not_opened(tmp_path, form):
    path = tmp_path / "a.png"
    Image.fromarray(NOISE).save(path, format=form)
    with pytest.raises(GeoClickError, match="cannot be read as an image"):
        read_image(path)


def test_a_pipe_and_a_device_are_not_opened(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to("/dev/zero")
    for name in "ab":
        with pytest.raises(GeoClickError, match="is no plain file"):
            read_image(tmp_path / f"{name}.png")


def test_hostile_bytes_are_one_sentence(tmp_path):
    rng = np.random.default_rng(1)
    path = tmp_path / "broken"
    for form in ("PNG", "TIFF", "BMP", "WEBP", "JPEG2000"):
        buffer = io.BytesIO()
        Image.fromarray(NOISE).save(buffer, format=form)
        for _ in range(60):
            bytes_ = bytearray(buffer.getvalue())
            for place in rng.integers(0, min(len(bytes_), 400), 4):
                bytes_[place] = rng.integers(256)
            path.write_bytes(bytes_)
            try:
                image = read_image(path, size=(37, 53))
            except GeoClickError:
                continue
            assert image.shape == NOISE.shape


@pytest.mark.parametrize("form", ["DDS", "ICNS", "IM", "BLP", "EPS", "PDF"])
def test_formats_that_are_not_named_are_refused(tmp_path, form):
    path = tmp_path / "a.png"
    image = Image.fromarray(NOISE[:32, :32]).convert("P" if form == "BLP" else "RGB")
    image.save(path, format=form)
    for content in (path.read_bytes(), path.read_bytes()[:200]):
        path.write_bytes(content)
        with pytest.raises(GeoClickError, match="cannot be read as an image"):
            read_image(path)


def test_postscript_starts_no_program(tmp_path, monkeypatch):
    started = tmp_path / "started"
    for name in ("gs", "gswin64c"):
        (tmp_path / name).write_text(f"#!/bin/sh\ntouch {started}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert shutil.which("gs") == str(tmp_path / "gs")
    path = tmp_path / "a.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n{} loop\n")
    with pytest.raises(GeoClickError, match="cannot be read as an image"):
        read_image(path)
    assert not started.exists()


@pytest.mark.parametrize("bands", [1, 8])
def test_a_huge_image_is_to_be_cut(tmp_path, monkeypatch, bands):
    path = write(tmp_path / "a.tif", np.zeros((bands, 37, 53), "uint8"))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 900)
    monkeypatch.setattr(images, "MAX_PIXELS", 1800)
    with pytest.raises(GeoClickError, match="too many to read at once; cut it into tiles"):
        read_image(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1900)
    monkeypatch.setattr(images, "MAX_PIXELS", 3800)
    assert read_image(path).shape == (37, 53, 3)


@pytest.mark.skipif(not CASES.is_dir(), reason="needs shared/cases")
@pytest.mark.parametrize("name", ["pan16.tif", "rgb16.tif", "five8.tif"])
def test_the_shared_cases_are_neither_white_nor_black(name):
    image = read_image(CASES / "predict" / name)
    assert (image == 255).mean() < 0.05
    assert (image == 0).mean() < 0.05
    assert image.std() > 20
