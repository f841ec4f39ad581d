import hashlib

import numpy as np
import pytest

from geoclick.errors import GeoClickError
from geoclick.inference.contrastive import resizing

OPENCV = {
    ((40, 60), (25, 33)): "5822d70e18389c42",
    ((25, 33), (40, 60)): "00708524dd9c7533",
    ((60, 80), (30, 40)): "c507b1f6a49b9bd2",
    ((7, 1), (64, 9)): "2609c71b7dfeeb33",
    ((50, 80), (25, 41)): "77ba4d89497fbf3d",
}
"""The start of the SHA-256 of cv2.resize(..., interpolation=cv2.INTER_LINEAR), OpenCV 4.14 and 5.0."""


def random_image(size):
    return np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)


@pytest.mark.parametrize(("size", "new"), OPENCV)
def test_the_values_are_those_of_opencv(size, new):
    resized = resizing.resize(random_image(size), new)
    assert resized.dtype == np.uint8
    assert hashlib.sha256(resized.tobytes()).hexdigest()[:16] == OPENCV[size, new]


def by_loops(image, size):
    """The formula, value by value; sides that are halved are another rule."""
    result = np.zeros((*size, 3), np.uint8)

    def neighbors(number, length, new, clamp):
        position = np.float32((number + 0.5) * (length / new) - 0.5)
        first = int(np.floor(position))
        fraction = np.float32(position - np.float32(first))
        if clamp and (first < 0 or first >= length - 1):
            fraction = np.float32(0)
        weights = [int(np.rint((np.float32(1) - fraction) * np.float32(2048)))]
        weights.append(int(np.rint(fraction * np.float32(2048))))
        return [min(max(first + i, 0), length - 1) for i in (0, 1)], weights

    for y in range(size[0]):
        rows, v = neighbors(y, image.shape[0], size[0], False)
        for x in range(size[1]):
            columns, u = neighbors(x, image.shape[1], size[1], True)
            for c in range(3):
                sums = [sum(int(image[r, k, c]) * w for k, w in zip(columns, u, strict=True)) for r in rows]
                total = sum((weight * (one >> 4)) >> 16 for weight, one in zip(v, sums, strict=True))
                result[y, x, c] = (total + 2) >> 2
    return result


@pytest.mark.parametrize(("size", "new"), [((13, 9), (8, 21)), ((5, 30), (17, 14)), ((1, 1), (3, 2))])
def test_the_values_follow_the_formula(size, new):
    image = random_image(size)
    assert np.array_equal(resizing.resize(image, new), by_loops(image, new))


@pytest.mark.parametrize(
    ("size", "new"),
    [
        ((300, 400), (336, 448)),
        ((1024, 1024), (448, 448)),
        ((500, 335), (448, 300)),
        ((448, 448), (448, 448)),
    ],
)
def test_the_long_side_is_resized(size, new):
    image = random_image(size)
    resized = resizing.resize_long_side(image, 448)
    assert resized.shape == (*new, 3)
    if size == new:
        assert np.array_equal(resized, image)


def test_an_image_without_a_second_side_is_an_error():
    with pytest.raises(GeoClickError, match="2000x1 pixels is too narrow"):
        resizing.resize_long_side(random_image((1, 2000)), 448)
