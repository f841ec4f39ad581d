import numpy as np
import pytest
from PIL import Image, ImageFilter

from geoclick import images
from geoclick.datasets import read
from geoclick.datasets.target_masks import read_target
from geoclick.errors import GeoClickError
from tests.paths import SHARED

CASES = SHARED / "cases"
needs_cases = pytest.mark.skipif(not CASES.is_dir(), reason="the cases are not next to the checkout")


def shape(side=64):
    rows, columns = np.mgrid[:side, :side]
    return (rows - 30) ** 2 + (columns - 25) ** 2 < 15**2


def saved(folder, picture, suffix=".png", **options):
    path = folder / f"mask{suffix}"
    picture.save(path, **options)
    return path


def palette_picture(indices, palette):
    picture = Image.fromarray(indices.astype(np.uint8))
    picture.putpalette(palette)
    return picture


def rgba(color, alpha):
    pixels = np.empty((*alpha.shape, 4), np.uint8)
    pixels[..., :3] = color
    pixels[..., 3] = alpha
    return Image.fromarray(pixels)


BLACK_PALETTE, INVERTED_PALETTE = [0] * 768, [255, 255, 255, 0, 0, 0] + [7] * 762
CLEAN = {
    "0 and 255": lambda m: Image.fromarray(m * np.uint8(255)),
    "0 and 1": lambda m: Image.fromarray(m * np.uint8(1)),
    "one bit": lambda m: Image.fromarray(m),
    "16 bits": lambda m: Image.fromarray(m * np.uint16(300)),
    "black palette": lambda m: palette_picture(m, BLACK_PALETTE),
    "0 is white in the palette": lambda m: palette_picture(m, INVERTED_PALETTE),
    "a color": lambda m: Image.fromarray(m[..., None] * np.array([0, 0, 90], np.uint8)),
    "alpha on black": lambda m: rgba(0, m * np.uint8(255)),
    "alpha on white": lambda m: rgba(255, m * np.uint8(255)),
    "white and alpha alike": lambda m: rgba(m[..., None] * np.uint8(255), m * np.uint8(255)),
    "opaque": lambda m: rgba(m[..., None] * np.uint8(255), np.full(m.shape, 255, np.uint8)),
}


@pytest.mark.parametrize("kind", CLEAN)
@pytest.mark.parametrize("target", [shape(), np.zeros((64, 64), bool)], ids=["target", "empty"])
def test_every_way_of_storing_a_mask_is_the_same_target(tmp_path, kind, target):
    mask, thresholded = read_target(saved(tmp_path, CLEAN[kind](target)))
    np.testing.assert_array_equal(mask, target)
    assert not thresholded


def test_jpeg_is_thresholded_at_half(tmp_path):
    path = saved(tmp_path, Image.fromarray(shape() * np.uint8(255)), ".jpg", quality=75)
    mask, thresholded = read_target(path)
    assert thresholded
    assert (mask ^ shape()).mean() < 0.002


@pytest.mark.parametrize("color", [(255, 255, 255), (255, 0, 0)], ids=["white", "red"])
def test_a_smooth_mask_is_thresholded_at_half(tmp_path, color):
    smooth = Image.fromarray(shape() * np.uint8(255)).filter(ImageFilter.GaussianBlur(1.5))
    pixels = (np.asarray(smooth)[..., None] * (np.array(color) / 255)).astype(np.uint8)
    mask, thresholded = read_target(saved(tmp_path, Image.fromarray(pixels)))
    assert thresholded
    np.testing.assert_array_equal(mask, np.asarray(smooth) >= 128)


def classes(*values):
    pixels = np.zeros((64, 64), np.uint8)
    for number, value in enumerate(values):
        pixels[10 * number : 10 * number + 10] = value
    return pixels


@pytest.mark.parametrize(
    ("picture", "words"),
    [
        (Image.fromarray(classes(0, 1, 2)), "0 to 2"),
        (Image.fromarray(classes(0, 100, 255)), "areas of more than one value"),
        (Image.fromarray(classes(50, 100) + np.uint8(1)), "values are from 1"),
        (palette_picture(classes(0, 1, 2), BLACK_PALETTE), "0 to 2"),
        (
            Image.fromarray(np.stack([classes(255, 0), classes(0, 255), classes(0)], -1)),
            "more than one color",
        ),
        (rgba(shape()[..., None] * np.uint8(255), ~shape() * np.uint8(255)), "different masks"),
        (Image.fromarray(np.where(shape(), np.float32(np.nan), 0)), "not finite"),
    ],
    ids=["values", "gray classes", "no zero", "indices", "colors", "alpha", "nan"],
)
def test_what_is_ambiguous_is_refused(tmp_path, picture, words):
    path = saved(tmp_path, picture, ".tif" if picture.mode == "F" else ".png")
    with pytest.raises(GeoClickError, match=f"ambiguous as a mask.*{words}.*classes.json"):
        read_target(path)


@needs_cases
def test_jpeg_masks_of_a_folder_have_the_areas_of_the_drawn_ones():
    left = []
    samples = list(read("folder", CASES / "f_jpg", "train", on_left_out=left.append))
    assert [int(sample.mask.sum()) for sample in samples] == [395, 55, 148]
    assert {(item.reason, item.error) for item in left} == {
        ("gray levels in the mask, thresholded at half", "")
    }
    assert len(left) == 3


@needs_cases
def test_the_alpha_channel_of_a_black_mask_is_the_target():
    samples = list(read("folder", CASES / "f_alpha_black", "train"))
    assert [int(sample.mask.sum()) for sample in samples] == [395, 55, 148]


def test_a_mask_that_a_list_names_is_read_by_the_same_rule(tmp_path):
    (tmp_path / "val").mkdir()
    images.write_png(tmp_path / "val/a.png", np.zeros((64, 64, 3), np.uint8))
    palette_picture(shape(), BLACK_PALETTE).save(tmp_path / "val/m.png")
    (tmp_path / "val/samples.jsonl").write_text(
        '{"sample_id": "a", "task": "semantic", "query": "disc", "image": "a.png", "size": [64, 64], "mask": "m.png"}'
    )
    (sample,) = read("folder", tmp_path, "val")
    np.testing.assert_array_equal(sample.mask, shape())
