import numpy as np

from geoclick.pages.figures import data_uri
from tests.geoclick.pages.decoding import decoded


def test_a_png_address_holds_the_pixels():
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    assert np.array_equal(decoded(data_uri(pixels, kind="PNG")), pixels)


def test_a_jpeg_address_holds_nearly_the_pixels():
    address = data_uri(np.full((20, 30, 3), (200, 30, 30), np.uint8))
    assert address.startswith("data:image/jpeg;base64,")
    pixels = decoded(address)
    assert pixels.shape == (20, 30, 3)
    assert (np.abs(pixels.astype(int) - (200, 30, 30)) < 8).all()
