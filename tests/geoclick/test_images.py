import io

import numpy as np
import pytest
from PIL import Image

from geoclick import images
from geoclick.errors import GeoClickError

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

NOISE = np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)


@pytest.mark.parametrize("array", [NOISE, NOISE[..., 0], NOISE[..., 0] > 127], ids=["rgb", "gray", "mask"])
def test_png_round_trip(tmp_path, array):
    path = tmp_path / "a.png"
    images.write_png(path, array)
    back = images.read_image(path) if array.ndim == 3 else images.read_gray(path)
    assert np.array_equal(back, array * np.uint8(255) if array.dtype == bool else array)
    assert back.dtype == np.uint8


def test_other_modes_become_rgb(tmp_path):
    for mode in ("L", "P", "RGBA", "1", "CMYK"):
        path = tmp_path / f"{mode}.tif"
        Image.fromarray(NOISE).convert(mode).save(path)
        assert images.read_image(path).shape == NOISE.shape


def test_another_size_names_both(tmp_path):
    images.write_png(tmp_path / "a.png", NOISE)
    assert images.read_image(tmp_path / "a.png", size=(37, 53)).shape == NOISE.shape
    with pytest.raises(GeoClickError, match="53x37 pixels but its mask is 40x30"):
        images.read_image(tmp_path / "a.png", size=(30, 40))


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(GeoClickError, match="does not exist"):
        images.read_image(tmp_path / "none.png")
    with pytest.raises(GeoClickError, match="cannot be read as an image"):
        images.read_image(tmp_path)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "WEBP", "BMP"])
def test_a_file_cut_anywhere_is_one_sentence(tmp_path, form):
    buffer = io.BytesIO()
    Image.fromarray(NOISE).save(buffer, format=form)
    whole = buffer.getvalue()
    path = tmp_path / "cut"
    for length in [*range(0, 64, 3), *range(64, len(whole) - 64, max(1, len(whole) // 40))]:
        path.write_bytes(whole[:length])
        with pytest.raises(GeoClickError) as caught:
            images.read_image(path)
        assert "\n" not in str(caught.value)


def test_hostile_bytes_are_one_sentence(tmp_path):
    rng = np.random.default_rng(1)
    path = tmp_path / "broken"
    for form in ("PNG", "TIFF", "GIF", "WEBP"):
        buffer = io.BytesIO()
        Image.fromarray(NOISE).save(buffer, format=form)
        for _ in range(60):
            bytes_ = bytearray(buffer.getvalue())
            for place in rng.integers(0, min(len(bytes_), 400), 4):
                bytes_[place] = rng.integers(256)
            path.write_bytes(bytes_)
            try:
                image = images.read_image(path, size=(37, 53))
            except GeoClickError:
                continue
            assert image.shape == NOISE.shape
