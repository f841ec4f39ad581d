from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from geoclick import masks
from geoclick.datasets.mask_files import encode_resized, is_near, read_mask, resize_mask
from geoclick.errors import GeoClickError

MASK = np.zeros((4, 6), bool)
MASK[1:3, 2:5] = True


def palette(mask, colors):
    picture = Image.fromarray(mask.astype(np.uint8)).convert("P")
    picture.putpalette(colors)
    return picture


def with_alpha(mask):
    values = np.full((*mask.shape, 4), 255, np.uint8)
    values[..., :3] = mask[..., None] * 255
    return Image.fromarray(values)


PICTURES = {
    "0 and 255": Image.fromarray(MASK.astype(np.uint8) * 255),
    "0 and 1": Image.fromarray(MASK.astype(np.uint8)),
    "bits": Image.fromarray(MASK),
    "RGB": Image.fromarray(np.stack([MASK] * 3, 2).astype(np.uint8) * 255),
    "blue of 1": Image.fromarray(np.stack([MASK * 0, MASK * 0, MASK], 2).astype(np.uint8)),
    "dark palette": palette(MASK, [0, 0, 0, 0, 0, 1]),
    "light palette": palette(MASK, [255, 255, 255, 0, 0, 0]),
    "16 bits": Image.fromarray(MASK.astype(np.uint16)),
    "opaque alpha": with_alpha(MASK),
}


@pytest.mark.parametrize("picture", PICTURES.values(), ids=PICTURES)
def test_what_is_stored_and_not_zero_is_the_target(tmp_path, picture):
    picture.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), MASK)


def test_values_above_a_threshold(tmp_path):
    Image.fromarray(np.array([[0, 50, 51, 255]], np.uint8)).save(tmp_path / "a.tif")
    assert read_mask(tmp_path / "a.tif", 50).tolist() == [[False, False, True, True]]
    assert read_mask(tmp_path / "a.tif").tolist() == [[False, True, True, True]]


def test_broken_files(tmp_path):
    with pytest.raises(GeoClickError, match="does not exist"):
        read_mask(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    with pytest.raises(GeoClickError, match="cannot be read as an image"):
        read_mask(tmp_path / "a.png")


sides = st.tuples(st.integers(1, 40), st.integers(1, 40))


@given(sides, sides, st.integers(0, 99))
def test_fitting_takes_the_pixel_under_the_center(size, own, seed):
    mask = np.random.default_rng(seed).random(own) < 0.5
    rows, columns = (
        [int(Fraction(2 * i + 1, 2) / side * length) for i in range(side)]
        for side, length in zip(size, own, strict=True)
    )
    np.testing.assert_array_equal(resize_mask(mask, size), mask[rows][:, columns])


@pytest.mark.parametrize(
    ("said", "near"),
    [
        ([800, 800], True),
        ([801, 787], True),
        ((800, 800), True),
        ([800, 900], False),
        ([80000, 80000], False),
        ([800], False),
        ([800, "800"], False),
        ([800.0, 800.0], False),
        (None, False),
    ],
)
def test_near(said, near):
    assert is_near(said, (800, 800)) is near


def test_a_mask_of_another_picture_is_refused():
    rle = encode_resized("a.jpg", np.ones((800, 800), bool), (801, 787))
    assert rle["size"] == [801, 787]
    assert masks.area(rle) == 801 * 787
    with pytest.raises(GeoClickError, match=r"a\.jpg is 800x800 pixels but its mask is 400x400"):
        encode_resized("a.jpg", np.ones((400, 400), bool), (800, 800))
