import numpy as np
import pytest
from PIL import Image

from geoclick.errors import GeoClickError
from geoclick.prepare import JOBS, isaid, isprs, labels, uavid

# As the sets publish them, in the order of their classes.
PALETTES = {
    "isprs": (0, ["000000", "ffffff", "0000ff", "00ffff", "00ff00", "ffff00", "ff0000"]),
    "isaid": (
        255,
        [
            *("000000", "00003f", "003f3f", "003f00", "003f7f", "003fbf", "003fff", "007f3f"),
            *("007f7f", "00007f", "0000bf", "0000ff", "00bf7f", "007fbf", "007fff", "00649b"),
        ],
    ),
    "uavid": (255, ["000000", "800000", "804080", "c000c0", "008000", "808000", "404000", "400080"]),
}


@pytest.mark.parametrize("name", PALETTES)
def test_every_color_of_the_set_has_its_value(tmp_path, name):
    ignored, colors = PALETTES[name]
    strip = np.array([list(bytes.fromhex(color)) for color in [*colors, "fcff00"]], np.uint8)
    # More rows than are decoded together.
    Image.fromarray(np.repeat(strip[None], labels.ROWS + 3, 0)).save(tmp_path / "label.png")
    table = {"isprs": isprs, "isaid": isaid, "uavid": uavid}[name].COLORS
    index, unknown = labels.by_palette(tmp_path / "label.png", table, ignored=ignored)
    expected = [*range(len(colors)), ignored]
    if name == "uavid":
        expected[7] = 3
    assert (index == expected).all()
    assert unknown == labels.ROWS + 3


def stored(path, numbers, palette):
    image = Image.fromarray(np.array(numbers, np.uint8)).convert("P")
    image.putdata(np.array(numbers).ravel().tolist())
    image.putpalette(palette)
    image.save(path)
    assert Image.open(path).mode == "P"


def test_colors_or_indices_of_a_palette_are_read_as_the_job_says(tmp_path):
    stored(tmp_path / "a.png", [[0, 1, 2]], [0, 255, 0, 255, 255, 255, 0, 0, 255])
    assert labels.by_palette(tmp_path / "a.png", isprs.COLORS, ignored=0)[0].tolist() == [[4, 1, 2]]
    assert labels.by_value(tmp_path / "a.png", 7, ignored=0)[0].tolist() == [[0, 1, 2]]


def test_numbers_beyond_the_classes_are_ignored_and_counted(tmp_path):
    Image.fromarray(np.array([[0, 7, 8, 1]], np.uint8)).save(tmp_path / "a.png")
    index, unknown = labels.by_value(tmp_path / "a.png", 7, ignored=0)
    assert (index.tolist(), unknown) == ([[0, 7, 0, 1]], 1)


def test_building_is_what_is_bright(tmp_path):
    Image.fromarray(np.array([[0, 127, 128, 255]], np.uint8)).save(tmp_path / "a.tif")
    index, unknown = JOBS["inria"].read_label(tmp_path / "a.tif", (1, 4))
    assert (index.tolist(), unknown) == ([[0, 0, 1, 1]], 2)


def test_a_label_of_another_kind_is_refused(tmp_path):
    grey, rgb, cut = (tmp_path / f"{name}.png" for name in ("grey", "rgb", "cut"))
    Image.fromarray(np.ones((2, 4), np.uint8)).save(grey)
    Image.fromarray(np.full((2, 4, 3), 9, np.uint8)).save(rgb)
    cut.write_bytes(rgb.read_bytes()[:50])
    with pytest.raises(GeoClickError, match=r"grey.png is no color label \(its mode is L\)"):
        labels.by_palette(grey, isprs.COLORS, ignored=0)
    with pytest.raises(GeoClickError, match="an unknown color or value on 8 of its 8 pixels"):
        labels.by_palette(rgb, isprs.COLORS, ignored=0)
    with pytest.raises(
        GeoClickError, match=r"rgb.png is no 8-bit label with one channel \(its mode is RGB\)"
    ):
        labels.by_value(rgb, 7, ignored=0)
    for read in (labels.read_values, lambda path: labels.by_palette(path, isprs.COLORS, ignored=0)):
        with pytest.raises(GeoClickError, match="cut"):
            read(cut)
