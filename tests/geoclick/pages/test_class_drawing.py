import numpy as np
from PIL import Image

from geoclick.pages import class_drawing

COLORS = [(0, 0, 0), (255, 0, 0), (0, 90, 200)]


def test_index_mask_has_numbers_and_colors(tmp_path):
    labels = np.array([[0, 1, 2], [2, 2, 1]], np.int32)
    class_drawing.write_index_mask(tmp_path / "a.png", labels, COLORS)
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == "P"
        assert np.array_equal(np.asarray(image), labels)
        assert np.array_equal(np.asarray(image.convert("RGB")), np.array(COLORS)[labels])


def test_pixels_without_data_are_transparent_and_gray_in_the_overlay(tmp_path):
    labels = np.array([[0, 1, 255], [255, 2, 1]], np.int32)
    class_drawing.write_index_mask(tmp_path / "a.png", labels, COLORS)
    with Image.open(tmp_path / "a.png") as image:
        assert np.array_equal(np.asarray(image), labels)
        shown = np.asarray(image.convert("RGBA"))
    assert np.array_equal(shown[..., 3] == 0, labels == 255)
    assert np.array_equal(shown[labels < 255, :3], np.array(COLORS)[labels[labels < 255]])
    image = np.full((300, 600, 3), 100, np.uint8)
    entries = [("roof", 1), ("no data", 255)]
    drawn = class_drawing.overlay(image, np.full((300, 600), 255), COLORS, entries)
    assert drawn[100, 100].tolist() == [130, 130, 130]


def test_255_classes_have_their_colors(tmp_path):
    colors = [(n, 255 - n, 7) for n in range(255)]
    labels = np.arange(255).reshape(5, 51)
    class_drawing.write_index_mask(tmp_path / "a.png", labels, colors)
    with Image.open(tmp_path / "a.png") as image:
        assert np.array_equal(np.asarray(image), labels)
        assert image.convert("RGB").getpixel((50, 4)) == (254, 1, 7)


def test_overlay_is_tinted_and_has_a_legend():
    image = np.full((300, 600, 3), 100, np.uint8)
    labels = np.zeros((300, 600), np.int32)
    labels[:, 300:] = 1
    drawn = class_drawing.overlay(image, labels, COLORS, [("none", 0), ("roof", 1), ("water", 2)])
    assert drawn.shape[1] == 600
    assert drawn.shape[0] > 300
    assert drawn[150, 100].tolist() == [50, 50, 50]
    assert abs(drawn[150, 500].astype(int) - [178, 50, 50]).max() <= 1
    legend = drawn[300:].reshape(-1, 3).tolist()
    assert all(list(color) in legend for color in COLORS)


def test_long_legends_wrap_and_small_images_are_enlarged():
    entries = [(f"a class with a long name {n}", n % 3) for n in range(12)] + [("x" * 400, 1)]
    labels = np.zeros((20, 10), np.int32)
    drawn = class_drawing.overlay(np.zeros((20, 10, 3), np.uint8), labels, COLORS, entries)
    assert drawn.shape[1] == 256
    assert drawn.shape[0] >= 512 + 13 * class_drawing.ROW
