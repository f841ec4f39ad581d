import numpy as np
import pytest

from geoclick import images
from geoclick.geo.reading import read_image

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

NOISE = np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)


@pytest.mark.parametrize("array", [NOISE, NOISE[..., 0], NOISE[..., 0] > 127], ids=["rgb", "gray", "mask"])
def test_png_round_trip(tmp_path, array):
    path = tmp_path / "a.png"
    images.write_png(path, array)
    back = read_image(path) if array.ndim == 3 else images.read_gray(path)
    assert np.array_equal(back, array * np.uint8(255) if array.dtype == bool else array)
    assert back.dtype == np.uint8
