"""What the editor draws: masks in colors, clicks in pixels of the image, and legends with escaped names."""

import base64
import io
from importlib.resources import files

import numpy as np
import pytest
from PIL import Image

from geoclick.clicks import Click
from geoclick.codec import Part
from geoclick.geo.writing import NO_DATA
from geoclick.inference.app import pictures
from geoclick.inference.app.session import ClassMap
from geoclick.inference.contrastive import classes as class_lists
from geoclick.inference.contrastive import map_files
from geoclick.inference.contrastive.prediction import SemanticPrediction
from geoclick.pages import click_drawing
from tests.inference.app.conftest import POINTS, SIZE, add


def pixels_of(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).convert("RGBA"))


def class_map(text, labels):
    classes = class_lists.parse(text)
    prediction = SemanticPrediction(labels, np.ones(labels.shape, np.float32))
    totals = map_files.Totals()
    totals.add(prediction)
    return ClassMap(text, classes, prediction, totals.rows(classes))


def test_the_drawn_mask_is_that_of_the_layer(answered):
    drawn = pixels_of(pictures.overlay(answered, complete=False)["mask"])
    rows, columns = (np.arange(a) * b // a for a, b in zip(drawn.shape, SIZE, strict=False))
    mask = answered.layer.decoded.mask
    assert mask.any()
    assert ((drawn[..., 3] > 0) == mask[rows[:, None], columns]).all()


@pytest.mark.parametrize("clicks", [POINTS[:1], (Click(1, 1),), (Click(63, 47),)])
def test_the_outline_is_that_of_the_complete_mask(answered, clicks):
    layer = answered.edit((Part(clicks),))
    drawn = pixels_of(pictures.mask_uri([layer], layer.number))
    rows, columns = (np.arange(a) * b // a for a, b in zip(drawn.shape, SIZE, strict=False))
    mask = layer.decoded.mask[rows[:, None], columns]
    assert ((drawn[..., 3] == 255) == pictures.inner_edge(mask)).all()


def test_an_empty_mask_is_drawn_empty(answered):
    assert not pixels_of(pictures.mask_uri([answered.edit(())], 1))[..., 3].any()


def test_colors_are_listed_where_there_are_several(answered):
    assert pictures.overlay(answered, complete=False)["colors"] == []
    answered.edit((Part(POINTS), Part((Click(30, 10),))))
    add(answered, (Part(POINTS),), "the pond")
    answered.choose(1)
    found = pictures.overlay(answered, complete=False)["colors"]
    assert [one["label"] for one in found] == ["1. the tank, part 1", "1. the tank, part 2", "2. the pond"]
    assert len({one["color"] for one in found}) == 3


def test_an_answer_of_one_part_has_the_color_of_masks_and_other_answers_have_others(answered):
    for number in range(7):
        add(answered, (Part(POINTS),), f"query {number}")
    colors = [pictures.layer_color(one, answered.chosen) for one in answered.layers]
    assert colors[-1] == click_drawing.MASK_COLOR
    assert len(set(colors)) == len(colors)


def test_the_editor_has_the_colors_of_clicks():
    style = files("geoclick.inference.app").joinpath("editor.css").read_text(encoding="utf-8")
    for sign, color in (("positive", click_drawing.POSITIVE), ("negative", click_drawing.NEGATIVE)):
        assert f'.on[data-do="{sign}"] {{ background: {pictures.css(color)};' in style
    assert f".click circle {{ fill: {pictures.css(click_drawing.POSITIVE)}; }}" in style
    assert f".click.negative circle {{ fill: {pictures.css(click_drawing.NEGATIVE)}; }}" in style


def test_hidden_layers_are_not_drawn(answered):
    answered.show([])
    assert pictures.overlay(answered, complete=False)["mask"] == ""


def test_hidden_parts_are_not_drawn(answered):
    answered.edit((Part(POINTS), Part((Click(30, 10),))))
    both = pixels_of(pictures.overlay(answered, complete=False)["mask"])
    answered.show_parts([1])
    drawn = pictures.overlay(answered, complete=False)
    shown = pixels_of(drawn["mask"])
    assert [one["hidden"] for one in drawn["clicks"]] == [True, True, False]
    first, second = map(pictures.part_color, range(2))
    assert (both[..., :3] == first).all(axis=-1).any()
    assert {tuple(one) for one in shown[shown[..., 3] > 0][:, :3].tolist()} == {second}


def test_only_a_complete_drawing_holds_the_image(answered):
    assert "image" not in pictures.overlay(answered, complete=False)
    drawn = pictures.overlay(answered, complete=True)
    assert pixels_of(drawn["image"]).shape[:2] == SIZE
    assert (drawn["height"], drawn["width"]) == SIZE


def test_clicks_have_numbers_or_those_of_their_parts(answered):
    drawn = pictures.overlay(answered, complete=False)
    assert [one["label"] for one in drawn["clicks"]] == ["1", "2"]
    assert [(one["x"], one["y"], one["positive"]) for one in drawn["clicks"]] == list(POINTS)
    answered.edit((Part(POINTS), Part((Click(30, 10),))))
    drawn = pictures.overlay(answered, complete=False)
    assert [one["label"] for one in drawn["clicks"]] == ["1", "1", "2"]
    assert drawn["clicks"][0]["color"] != drawn["clicks"][2]["color"]


def test_the_chosen_layer_is_on_top(answered):
    add(answered, (Part(POINTS),), "again")
    color = pictures.layer_color(answered.layer, answered.chosen)
    assert color == click_drawing.MASK_COLOR
    drawn = pixels_of(pictures.overlay(answered, complete=False)["mask"])
    assert {tuple(one) for one in drawn[drawn[..., 3] > 0][:, :3].tolist()} == {color}


def test_a_map_has_the_colors_of_its_classes():
    labels = np.array([[0, 1], [1, NO_DATA]], np.int32)
    drawn = pixels_of(pictures.map_uri(class_map("road: red; water: blue", labels)))
    assert drawn[0, 0].tolist() == [255, 0, 0, 255]
    assert drawn[0, 1].tolist() == [0, 0, 255, 255]
    assert drawn[1, 1, 3] == 0


def test_names_of_classes_are_escaped():
    legend = pictures.legend(class_map("<script>x</script>; road", np.zeros((2, 2), np.int32)))
    assert "<script>" not in legend
    assert "&lt;script&gt;" in legend
    assert "100.0%" in legend
