"""Texts below pictures: nothing of the picture changes, and no line is wider than the picture."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ImageFont

from geoclick.pages import captions, click_drawing

FONT = ImageFont.load_default(13)
DOTS = FONT.getlength("...")


def test_the_picture_is_unchanged_and_the_text_is_below():
    picture = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    shown = captions.below(picture, "the largest building")
    np.testing.assert_array_equal(shown[:300], picture)
    band = shown[300:]
    dark = (band < 100).all(axis=2)
    assert 15 < len(band) < 40
    assert dark.any()
    # A margin on all sides.
    assert not dark[:3].any()
    assert not dark[-3:].any()
    assert not dark[:, :4].any()
    assert not dark[:, -4:].any()


def test_another_text_is_another_picture():
    picture = np.zeros((200, 400, 3), np.uint8)
    one, other = (captions.below(picture, text) for text in ("the pond", "the road"))
    assert one.shape == other.shape
    assert (one != other).any()


def test_the_letters_of_large_pictures_are_larger():
    heights = [
        captions.below(np.zeros((side, side, 3), np.uint8), "a").shape[0] - side for side in (512, 2048)
    ]
    assert heights[1] > 2 * heights[0]


def test_a_long_text_has_three_lines_and_an_ellipsis():
    text = "the building next to the road " * 50
    heights = [captions.below(np.zeros((512, 512, 3), np.uint8), one).shape[0] for one in (text, text * 20)]
    assert heights[0] == heights[1]
    lines = captions.wrap(text, FONT, 300, captions.LINES)
    assert len(lines) == 3
    assert lines[-1].endswith("...")
    assert not any(line.endswith("...") for line in lines[:-1])
    assert " ".join(lines).removesuffix("...") == text[: len(" ".join(lines)) - 3]


@pytest.mark.parametrize("text", ["a\nb", "\t", "建物", "\0\x1b[31m", "\ud800", "x" * 10_000, "🛰️ tank"])
@pytest.mark.parametrize("size", [(1, 1), (40, 2000), (2000, 3)])
def test_any_text_has_a_band_below_any_picture(text, size):
    picture = np.zeros((*size, 3), np.uint8)
    shown = captions.below(picture, text)
    assert shown.shape[1:] == picture.shape[1:]
    assert len(shown) > size[0]


def test_the_overlay_has_the_query_below_the_image():
    image, mask = np.full((60, 80, 3), 90, np.uint8), np.zeros((60, 80), bool)
    mask[20:40, 20:60] = True
    plain = click_drawing.overlay(image, mask, [])
    drawn = click_drawing.overlay(image, mask, [], query="the tank")
    np.testing.assert_array_equal(drawn, captions.below(plain, "the tank"))
    assert len(plain) == 384


@given(st.text(max_size=60), st.integers(20, 300))
def test_a_line_is_shortened_to_its_width(text, width):
    shown = captions.shorten(text, FONT, width)
    assert FONT.getlength(shown) <= max(width, DOTS)
    if shown != text:
        assert shown.endswith("...")
        assert FONT.getlength(text) > width


@settings(max_examples=50)
@given(st.text("ab \n\u2028", max_size=200), st.integers(20, 200), st.integers(1, 4))
def test_lines_fit_and_lose_no_word_without_an_ellipsis(text, width, most):
    lines = captions.wrap(text, FONT, width, most)
    assert 1 <= len(lines) <= most
    assert all(FONT.getlength(line) <= max(width, DOTS) for line in lines)
    if not any("..." in line for line in lines):
        assert " ".join(lines).split() == text.split()
