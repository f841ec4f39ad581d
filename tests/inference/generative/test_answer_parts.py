"""Answers of several parts on their way to instances in predictions, records, overlays and polygons."""

from dataclasses import replace

import numpy as np
import pytest

from geoclick import codec, masks
from geoclick.geo.tiles import Window
from geoclick.inference import result
from geoclick.inference.generative import answering
from geoclick.inference.generative.prediction import Prediction
from geoclick.inference.generative.settings import Votes
from geoclick.inference.predictions import records, windows
from geoclick.instances import of_mask
from geoclick.pages import click_drawing
from tests import tiny
from tests.geotiffs import shapely
from tests.inference.generative.test_answer_objects import SIZE, Scripted


@pytest.fixture(scope="module")
def segmenter():
    return tiny.sam_segmenter()


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


class Compact(Scripted):
    def read(self, text, size):
        return codec.decode(text, family="qwen3_vl", answer_format="compact", image_size=size)


def predict(segmenter, image, *texts, **options):
    return answering.predict(Compact(), segmenter, [image] * len(texts), texts, **options)


FIRST, SECOND, THIRD = "+(200,300) -(900,900)", "+(700,500)", "+(300,800) +(400,700) -(100,100)"


@pytest.mark.parametrize("decode", ["replay", "joint"])
def test_parts_in_one_batch_are_those_that_are_decoded_alone(segmenter, image, decode):
    alone = predict(segmenter, image, FIRST, SECOND, THIRD, decode=decode)
    (both, together, none) = predict(
        segmenter, image, f"{FIRST}; {SECOND}", f"{THIRD}; {FIRST}; {SECOND}", "none", decode=decode
    )
    for prediction, parts in ((both, alone[:2]), (together, [alone[2], *alone[:2]])):
        assert [one.clicks for one in prediction.instances] == [part.clicks for part in parts]
        for one, part in zip(prediction.instances, parts, strict=True):
            assert (one.in_image(SIZE) == part.mask).mean() > 0.999
            assert one.score == pytest.approx(part.score, abs=1e-5)
        np.testing.assert_array_equal(
            prediction.mask, np.logical_or.reduce([one.in_image(SIZE) for one in prediction.instances])
        )
    assert none.instances == none.objects == ()
    assert alone[0].instances == ()
    (only,) = alone[0].objects
    assert (only.clicks, only.score) == (alone[0].clicks, alone[0].score)
    np.testing.assert_array_equal(only.in_image(SIZE), alone[0].mask)


def test_the_first_click_alone_can_be_decoded(segmenter, image):
    texts = [FIRST, f"{SECOND}; {FIRST}", "none"]
    first, second, none = predict(segmenter, image, *texts, decode="first")
    alone = predict(segmenter, image, "+(200,300)", SECOND, "none")
    for prediction, expected in zip((first, second, none), alone, strict=True):
        np.testing.assert_array_equal(prediction.mask, expected.mask)
        assert prediction.clicks == expected.clicks
        assert prediction.status == expected.status
        assert prediction.instances == ()
    assert first.text == FIRST


def test_instances_of_a_vote_lie_within_it(segmenter, image):
    lines = [f"{FIRST}; {SECOND}", f"{FIRST}; {SECOND}", SECOND]
    (voted,) = answering.predict(
        Compact(), segmenter, [image], ["\n".join(lines)], votes=Votes(samples=3, threshold=0.5)
    )
    assert len(voted.instances) == 2
    for one in voted.instances:
        assert not (one.in_image(SIZE) & ~voted.mask).any()


def square(top, left, side, size=SIZE):
    mask = np.zeros(size, bool)
    mask[top : top + side, left : left + side] = True
    return mask


def of_squares(*squares):
    """The prediction with the squares as instances."""
    given = [square(*one) for one in squares]
    clicks = [codec.Click(left + 0.5, top + 1.0) for top, left, _ in squares]
    instances = [
        of_mask((click,), mask, score=number / 10)
        for number, (click, mask) in enumerate(zip(clicks, given, strict=True), start=1)
    ]
    mask = np.logical_or.reduce(given)
    return Prediction(mask, tuple(clicks), "+", "ok", score=0.5, instances=tuple(instances))


def test_instances_of_windows_are_those_of_the_image():
    several, one = of_squares((2, 3, 5), (20, 30, 8)), Prediction(square(0, 0, 9), (codec.Click(4, 4),))
    places = [Window(0, 0, *SIZE), Window(0, 50, *SIZE)]
    both = windows.together((40, 110), list(zip(places, [several, one], strict=True)))
    assert len(both.instances) == 3
    assert sum((part.clicks for part in both.instances), ()) == both.clicks
    np.testing.assert_array_equal(
        both.mask, np.logical_or.reduce([part.in_image((40, 110)) for part in both.instances])
    )
    assert windows.together((40, 110), list(zip(places, [one, one], strict=True))).instances == ()


def test_a_record_lists_clicks_area_box_and_score_of_each_part():
    found = of_squares((2, 3, 5), (20, 30, 8))
    assert records._parts(found) == {
        "parts": [
            {
                "clicks": [{"x": 3.5, "y": 3.0, "positive": True}],
                "area": 25,
                "box": [3, 2, 7, 6],
                "score": 0.1,
            },
            {
                "clicks": [{"x": 30.5, "y": 21.0, "positive": True}],
                "area": 64,
                "box": [30, 20, 37, 27],
                "score": 0.2,
            },
        ]
    }
    assert records._parts(replace(found, instances=())) == {}
    empty = of_mask((), np.zeros(SIZE, bool))
    assert records.part_of(empty) == {"clicks": [], "area": 0, "box": None, "score": None}
    # Twice as many pixels: the first pixel covers the first two.
    twice = records.part_of(of_mask((codec.Click(0, 0),), square(0, 0, 1)), (2.0, 2.0))
    assert (twice["clicks"][0]["x"], twice["box"]) == (0.5, [0, 0, 1, 1])


def geojson(prediction):
    image = np.zeros((*prediction.mask.shape, 3), np.uint8)
    found = result.of(prediction, "tanks", image, None).to_geojson(tolerance=0)["features"]
    return [(one["properties"], shapely.geometry.shape(one["geometry"])) for one in found]


def test_parts_that_touch_or_overlap_are_features_of_their_own():
    # The second touches the first, the third overlaps both and is smaller, the fourth is alone.
    features = geojson(of_squares((2, 3, 10), (2, 13, 10), (4, 11, 5), (25, 40, 6)))
    assert [properties["id"] for properties, _ in features] == [1, 2, 3, 4]
    assert [properties["pixels"] for properties, _ in features] == [90, 85, 25, 36]
    assert [properties["score"] for properties, _ in features] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert {properties["parts"] for properties, _ in features} == {1}
    shapes = [shape for _, shape in features]
    assert shapes[2].normalize().equals(shapely.box(11, 4, 16, 9))
    assert shapely.union_all(shapes).area == sum(shape.area for shape in shapes)


def test_the_pieces_of_a_part_are_one_feature():
    found = of_squares((2, 3, 5), (20, 30, 8))
    two = of_mask((), square(2, 3, 5) | square(30, 50, 4), score=0.3)
    mask = found.mask | two.in_image(SIZE)
    features = geojson(replace(found, mask=mask, instances=(two, found.instances[1])))
    assert [(properties["pixels"], shape.geom_type) for properties, shape in features] == [
        (41, "MultiPolygon"),
        (64, "MultiPolygon"),
    ]


def test_pixels_of_no_part_belong_to_the_one_they_touch_most_or_to_none():
    found = of_squares((2, 3, 10), (2, 13, 10))
    # Nine pixels below the first, a region far away.
    mask = found.mask | square(12, 4, 3) | square(30, 40, 2)
    features = geojson(replace(found, mask=mask))
    assert [(one["pixels"], one["parts"]) for one, _ in features] == [(109, 1), (100, 1), (4, 0)]


def test_parts_have_outlines_of_their_own_color_and_clicks_with_their_number():
    size = (512, 600)
    image = np.full((*size, 3), 60, np.uint8)
    masks_of = [square(100, 100, 100, size), square(100, 200, 100, size)]
    instances = [
        of_mask((codec.Click(150, 150), codec.Click(120, 400, False)), masks_of[0]),
        of_mask((codec.Click(250, 150),), masks_of[1]),
    ]
    picture = click_drawing.overlay(image, masks_of[0] | masks_of[1], (), instances=instances)
    first, second = click_drawing.PART_COLORS[:2]
    for column, color in ((100, first), (199, first), (200, second), (299, second)):
        assert (picture[110:140, column] == color).all()
    # Clicks of one part have the same number, others another one.
    across = [picture[136:165, x - 14 : x + 15].astype(int) for x in (150, 250)]
    white = [(one > 200).all(axis=-1) for one in across]
    assert (white[0] != white[1]).sum() > 10
    assert (np.abs(picture[388:413, 108:133].astype(int) - click_drawing.NEGATIVE) < 40).all(-1).sum() > 50


def test_masks_of_parts_are_stored_by_evaluate(segmenter, image):
    from geoclick.inference.evaluation import scoring
    from tests.inference.evaluation.test_run_folder import samples

    found = of_squares((2, 3, 10), (2, 13, 10))
    (sample,) = samples(1)
    listed = tuple(masks.encode_rle(one) for one in (square(2, 3, 10), square(2, 13, 10)))
    sample = replace(
        sample,
        size=SIZE,
        rle=masks.encode_rle(found.mask),
        instances=listed,
        task="referring",
        valid_rle=None,
    )
    record = scoring.score_sample(sample, found, "native")
    assert [part["clicks"] for part in record["parts"]] == [[tuple(click)] for click in found.clicks]
    for part, one in zip(record["parts"], found.instances, strict=True):
        np.testing.assert_array_equal(masks.decode_rle(part["mask"]), one.in_image(SIZE))
        assert part["score"] == one.score
    assert record["instances"] == {"true": 2, "predicted": 2, "matched": 2}
    # Without listed instances the two squares are one component.
    assert "instances" not in scoring.score_sample(replace(sample, instances=()), found, "native")
    assert "instances" not in scoring.score_sample(replace(sample, task="semantic"), found, "native")
