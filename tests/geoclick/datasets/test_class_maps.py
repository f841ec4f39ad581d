import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from geoclick.datasets.benchmarks import BENCHMARKS
from geoclick.datasets.class_maps import IGNORED, OTHER, read_class_map
from geoclick.errors import GeoClickError


def class_map(folder, name, pixels, *, layout=0, palette=None, suffix=".png"):
    """What the reader makes of a label with these pixels."""
    picture = Image.fromarray(np.asarray(pixels))
    if palette is not None:
        picture.putpalette(palette)
    path = folder / f"label{suffix}"
    picture.save(path)
    return read_class_map(path, BENCHMARKS[name], BENCHMARKS[name].layouts[layout])


def names_of(name, classes):
    special = {IGNORED: "ignored", OTHER: "other"}
    return [special.get(number) or BENCHMARKS[name].names[number] for number in np.ravel(classes)]


def test_loveda_begins_at_one_and_zero_is_no_data(tmp_path):
    classes, unknown = class_map(tmp_path, "loveda", np.array([[0, 1, 2], [3, 7, 255]], np.uint8))
    assert names_of("loveda", classes) == [
        "ignored",
        "background",
        "building",
        "road",
        "agricultural",
        "ignored",
    ]
    assert unknown == 0


def test_openearthmap_scores_zero(tmp_path):
    classes, _ = class_map(tmp_path, "openearthmap", np.array([[0, 1, 8]], np.uint8), suffix=".tif")
    assert names_of("openearthmap", classes) == ["background", "bareland", "building"]


@pytest.mark.parametrize("name", ["potsdam", "vaihingen"])
def test_isprs_colors_and_values_are_the_same_classes(tmp_path, name):
    white, blue, cyan, green = (255, 255, 255), (0, 0, 255), (0, 255, 255), (0, 255, 0)
    yellow, red, black = (255, 255, 0), (255, 0, 0), (0, 0, 0)
    said = [*BENCHMARKS[name].names, "ignored"]
    assert said[1:] == ["building", "low vegetation", "tree", "car", "clutter", "ignored"]
    colors = np.array([[white, blue, cyan, green, yellow, red, black]], np.uint8)
    assert names_of(name, class_map(tmp_path, name, colors)[0]) == said
    values = np.array([[1, 2, 3, 4, 5, 6, 0]], np.uint8)
    assert names_of(name, class_map(tmp_path, name, values)[0]) == said


def test_isaid_colors_values_and_padding(tmp_path):
    colors = np.array([[(0, 0, 0), (0, 0, 63), (0, 0, 127), (0, 127, 255), (0, 100, 155)]], np.uint8)
    said = ["background", "ship", "small vehicle", "plane", "harbor"]
    assert names_of("isaid", class_map(tmp_path, "isaid", colors)[0]) == said
    values = np.array([[0, 1, 9, 14, 15, 255]], np.uint8)
    assert names_of("isaid", class_map(tmp_path, "isaid", values)[0]) == [*said, "ignored"]


def test_a_moving_car_of_uavid_is_a_car(tmp_path):
    static, moving, human = (192, 0, 192), (64, 0, 128), (64, 64, 0)
    classes, unknown = class_map(tmp_path, "uavid", np.array([[static, moving, human]], np.uint8))
    assert names_of("uavid", classes) == ["car", "car", "human"]
    assert unknown == 0


@pytest.mark.parametrize("palette", [[0] * 768, [v for v in range(256) for _ in "rgb"]])
def test_the_palette_of_a_picture_of_values_is_not_asked(tmp_path, palette):
    values = np.array([[0, 1, 2, 3, 4, 5, 6]], np.uint8)
    classes, unknown = class_map(tmp_path, "uavid", values, palette=palette)
    assert classes.tolist() == values.tolist()
    assert unknown == 0


def test_any_damage_of_xbd_is_a_building(tmp_path):
    classes, _ = class_map(tmp_path, "xbd", np.array([[0, 1, 2, 3, 4]], np.uint8))
    assert names_of("xbd", classes) == ["other"] + 4 * ["building"]


def test_black_and_white_is_parted_at_128(tmp_path):
    grey = np.array([[0, 1, 127, 128, 255]], np.uint8)
    said = ["other", "other", "other", "road", "road"]
    # Two layouts of DeepGlobe: as it is downloaded, and converted to 0 and 1.
    downloaded, converted = 0, 2
    for pixels in (grey, np.repeat(grey[..., None], 3, axis=-1)):
        assert names_of("deepglobe", class_map(tmp_path, "deepglobe", pixels, layout=downloaded)[0]) == said
    ones = np.array([[0, 1]], np.uint8)
    for pixels, palette in ((ones, None), (ones, [0] * 768), (np.repeat(ones[..., None], 3, axis=-1), None)):
        classes, _ = class_map(tmp_path, "deepglobe", pixels, layout=converted, palette=palette)
        assert names_of("deepglobe", classes) == ["other", "road"]
    bits = np.array([[False, True]])
    assert names_of("deepglobe", class_map(tmp_path, "deepglobe", bits, layout=downloaded)[0]) == [
        "other",
        "road",
    ]


IN_PLACE = [
    (name, number)
    for name, benchmark in BENCHMARKS.items()
    for number, layout in enumerate(benchmark.layouts)
    if layout.foreground is not None
]


@pytest.mark.parametrize(("name", "layout"), IN_PLACE)
def test_labels_converted_to_0_and_1_in_place_are_no_empty_targets(tmp_path, name, layout):
    target = np.array([[0, 1, 1]], np.uint8)
    for pixels, palette in (
        (target, None),
        (target, [0] * 768),
        (np.repeat(target[..., None], 3, axis=-1), None),
    ):
        classes, _ = class_map(tmp_path, name, pixels, layout=layout, palette=palette)
        other = "background" if len(BENCHMARKS[name].classes) == 2 else "other"
        assert names_of(name, classes) == [other] + 2 * [BENCHMARKS[name].names[-1]]


def test_a_label_that_is_neither_black_and_white_nor_0_and_1_is_refused(tmp_path):
    with pytest.raises(GeoClickError, match="largest gray value is 3"):
        class_map(tmp_path, "deepglobe", np.array([[0, 3]], np.uint8))
    # JPEG leaves dark noise.
    classes, _ = class_map(tmp_path, "wbs-si", np.full((8, 8), 3, np.uint8), suffix=".jpg")
    assert (classes == OTHER).all()


def test_255_next_to_1_is_not_scored(tmp_path):
    classes, unknown = class_map(tmp_path, "inria", np.array([[0, 1, 255]], np.uint8))
    assert names_of("inria", classes) == ["other", "building", "ignored"]
    assert unknown == 0


def test_whu_aerial_has_a_background_too(tmp_path):
    classes, _ = class_map(tmp_path, "whu-aerial", np.array([[0, 1]], np.uint8))
    assert names_of("whu-aerial", classes) == ["background", "building"]


def test_what_is_unknown_is_counted_and_ignored(tmp_path):
    classes, unknown = class_map(tmp_path, "vdd", np.array([[6, 7, 200, 254, 255]], np.uint8))
    assert names_of("vdd", classes) == ["water"] + 4 * ["ignored"]
    assert unknown == 3  # 255 is ignored by its meaning
    colors = np.array([[(0, 0, 255), (1, 2, 3)]], np.uint8)
    classes, unknown = class_map(tmp_path, "potsdam", colors)
    assert (names_of("potsdam", classes), unknown) == (["building", "ignored"], 1)
    wide = np.array([[1, 256 + 1, 40000]], np.uint16)
    classes, unknown = class_map(tmp_path, "loveda", wide)
    assert (names_of("loveda", classes), unknown) == (["background", "ignored", "ignored"], 2)


def test_a_label_of_something_else_is_refused(tmp_path):
    with pytest.raises(GeoClickError, match="one channel"):
        class_map(tmp_path, "loveda", np.zeros((2, 2, 3), np.uint8))
    with pytest.raises(GeoClickError, match="no value or color of a class of LoveDA"):
        class_map(tmp_path, "loveda", np.full((2, 2), 99, np.uint8))


LABELLED = [b.name for b in BENCHMARKS.values() if len(b.classes) > 2]


@settings(max_examples=60)
@given(st.sampled_from(LABELLED), st.data())
def test_values_and_colors_come_back_as_classes(tmp_path_factory, name, data):
    folder, benchmark = tmp_path_factory.getbasetemp(), BENCHMARKS[name]
    numbers = data.draw(arrays(np.uint8, (5, 7), elements=st.integers(0, len(benchmark.classes) - 1)))
    classes, unknown = class_map(folder, name, (numbers + benchmark.first_value).astype(np.uint8))
    np.testing.assert_array_equal(classes, numbers)
    assert unknown == 0
    if benchmark.palette:
        colors = np.array(benchmark.palette, np.uint8)[numbers]
        np.testing.assert_array_equal(class_map(folder, name, colors)[0], numbers)


@settings(max_examples=60)
@given(st.sampled_from(LABELLED), arrays(np.uint8, (4, 6)))
def test_every_pixel_is_a_class_or_ignored_whatever_its_value(tmp_path_factory, name, values):
    benchmark = BENCHMARKS[name]
    try:
        classes, unknown = class_map(tmp_path_factory.getbasetemp(), name, values)
    except GeoClickError:
        assert not np.isin(
            values, range(benchmark.first_value, benchmark.first_value + len(benchmark.classes))
        ).any()
        return
    inside = (values >= benchmark.first_value) & (values < benchmark.first_value + len(benchmark.classes))
    np.testing.assert_array_equal(classes != IGNORED, inside)
    assert unknown == np.count_nonzero(~inside & ~np.isin(values, benchmark.ignored_values))
