"""The colors of masks, targets, parts and clicks differ from each other and from what overhead images show."""

from itertools import combinations

import numpy as np
import pytest

from geoclick.geo.reading import read_image
from geoclick.pages import click_drawing
from geoclick.scenes.layout import generate
from geoclick.scenes.render import render
from tests.paths import SHARED

APART, VISIBLE, MOST = 0.17, 0.12, 0.04
"""Distances in OKLab, where black and white are 1 apart: of two colors, and of a color from a pixel; and the largest
share of pixels that are nearer."""

COLORS = [*click_drawing.COLORS.values(), *click_drawing.PART_COLORS]
"""Of masks, targets, positive and negative clicks, and of parts."""


def oklab(colors):
    """Lightness and the axes a and b (Ottosson, 2020) of sRGB colors from 0 to 255, the last axis."""
    values = np.asarray(colors, float) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    cones = linear @ np.array(
        [
            [0.4122214708, 0.2119034982, 0.0883024619],
            [0.5363325363, 0.6806995451, 0.2817188376],
            [0.0514459929, 0.1073969566, 0.6299787005],
        ]
    )
    return np.cbrt(cones) @ np.array(
        [
            [0.2104542553, 1.9779984951, 0.0259040371],
            [0.7936177850, -2.4285922050, 0.7827717662],
            [-0.0040720468, 0.4505937099, -0.8086757660],
        ]
    )


def test_the_distance_is_that_of_oklab():
    assert np.allclose(oklab([255, 255, 255]), [1, 0, 0], atol=1e-6)
    assert np.allclose(oklab([255, 0, 0]), [0.628, 0.225, 0.126], atol=1e-3)


def test_all_colors_are_far_apart():
    assert len(COLORS) == 12
    for one, other in combinations(COLORS, 2):
        assert np.linalg.norm(oklab(one) - oklab(other)) > APART, (one, other)


def hidden(pixels):
    """Of each color but those of clicks, which have a white ring, the share of pixels [N, 3] that hide it."""
    colors = [color for color in COLORS if color not in (click_drawing.POSITIVE, click_drawing.NEGATIVE)]
    distances = np.linalg.norm(oklab(colors)[:, None] - oklab(pixels)[None], axis=2)
    return (distances < VISIBLE).mean(axis=1)


def test_colors_are_seen_on_scenes():
    pictures = [render(generate(seed))[0] for seed in range(6)]
    pixels = np.concatenate([picture[::8, ::8].reshape(-1, 3) for picture in pictures])
    assert hidden(pixels).max() < MOST


def test_colors_are_seen_on_aerial_images():
    paths = sorted((SHARED / "data/dubai/images").glob("*.jpg"))[::9]
    if not paths:
        pytest.skip("the images of Dubai are not here")
    pixels = np.concatenate([read_image(path)[::40, ::40].reshape(-1, 3) for path in paths])
    assert hidden(pixels).max() < MOST
