"""Answers of several objects, with boxes, and several answers to a query."""

import numpy as np
import pytest

from geoclick import codec, repeats
from geoclick.clicks import Click
from geoclick.inference.backends.base import Reply
from geoclick.inference.generative import answering, mask_decoding
from geoclick.inference.generative.settings import Votes
from geoclick.segmenters import clicking
from geoclick.segmenters.base import Prompt
from tests import tiny

SIZE = (40, 60)
BOX = '{"bbox_2d": [100, 200, 600, 700], "point_2d": [300, 400]}'
OF_BOX = codec.Part((Click(17.5, 15.5),), (6.0, 8.0, 35.0, 27.0))
POINT = '{"point_2d": [800, 500], "label": "positive"}'
OF_POINT = codec.Part((Click(47.5, 19.5),))
NEGATIVE = '{"point_2d": [500, 500], "label": "negative"}'


class Scripted:
    """A backend whose answers are the queries, and whose samples are their lines."""

    def __init__(self):
        self.asked = []

    def refusal(self, size):
        return "" if max(size) < 100 else "Too large."

    def answer(self, images, queries):
        return [own[0] for own in self.sample(images, queries, 1)]

    def sample(self, images, queries, count):
        self.asked.append(count)
        replies = [
            [
                Reply("", "No answer.") if line == "!" else Reply(line, "", 0.5, 2)
                for line in query.split("\n")
            ]
            for query in queries
        ]
        return [own[:count] for own in replies]

    def read(self, text, size):
        return codec.decode(text, family="qwen3_vl", answer_format="json", image_size=size)


@pytest.fixture(scope="module")
def segmenter():
    return tiny.sam_segmenter()


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


def predict(segmenter, image, *texts, **options):
    return answering.predict(Scripted(), segmenter, [image] * len(texts), texts, **options)


@pytest.mark.parametrize("decode", ["replay", "joint"])
def test_box_and_points_are_one_prompt_and_several_objects_are_united(segmenter, image, decode):
    one, other, both, alone = predict(
        segmenter,
        image,
        f"[{BOX}]",
        f"[{POINT}]",
        f"[{POINT}, {BOX}]",
        f"[{POINT}, {NEGATIVE}]",
        decode=decode,
    )
    (embedding,) = segmenter.embed([image])
    expected = clicking.prompted(segmenter, [embedding], [Prompt(OF_BOX.clicks, box=OF_BOX.box)])[0]
    np.testing.assert_array_equal(one.mask, expected.mask)
    assert one.score == pytest.approx(expected.score)
    assert (one.clicks, one.boxes, one.status) == (OF_BOX.clicks, (OF_BOX.box,), "ok")
    clicks = OF_POINT.clicks
    expected = mask_decoding.decode_objects(segmenter, [image], [[codec.Part(clicks)]], decode=decode)[0]
    np.testing.assert_array_equal(other.mask, expected.mask)
    assert (other.clicks, other.boxes, other.score) == (clicks, (), pytest.approx(expected.score))
    np.testing.assert_array_equal(both.mask, one.mask | other.mask)
    areas = [one.mask.sum(), other.mask.sum()]
    assert both.score == pytest.approx(np.average([one.score, other.score], weights=areas))
    assert (both.clicks, both.boxes) == (clicks + OF_BOX.clicks, (OF_BOX.box,))
    assert alone.boxes == ()


def test_a_negative_point_after_a_box_belongs_to_it(segmenter, image):
    with_negative, without = predict(segmenter, image, f"[{BOX}, {NEGATIVE}]", f"[{BOX}]")
    (embedding,) = segmenter.embed([image])
    prompt = Prompt((*OF_BOX.clicks, Click(29.5, 19.5, False)), box=OF_BOX.box)
    expected = clicking.prompted(segmenter, [embedding], [prompt])[0]
    np.testing.assert_array_equal(with_negative.mask, expected.mask)
    assert (with_negative.mask != without.mask).any()


def test_a_repeated_object_is_dropped(segmenter, image):
    looped, points, once = predict(
        segmenter, image, f"[{BOX}, {BOX}]", f"[{BOX}, {POINT}, {POINT}]", f"[{BOX}]"
    )
    assert looped.boxes == once.boxes == (OF_BOX.box,)
    # The box and its point.
    assert looped.dropped == (repeats.REPEATED,) * 2
    assert (looped.status, once.status) == ("repaired", "ok")
    np.testing.assert_array_equal(looped.mask, once.mask)
    assert (points.clicks, points.dropped) == (OF_BOX.clicks + OF_POINT.clicks, (repeats.REPEATED,))


def test_samples_vote_and_equal_answers_are_decoded_once(segmenter, image, monkeypatch):
    decoded = []
    decode = mask_decoding.decode_objects

    def count(segmenter, images, objects, **options):
        decoded.extend(objects)
        return decode(segmenter, images, objects, **options)

    monkeypatch.setattr(mask_decoding, "decode_objects", count)
    lines = [f"[{POINT}]", f"[{BOX}]", f"[{POINT}]", "?", "!"]
    backend = Scripted()
    (voted,) = answering.predict(backend, segmenter, [image], ["\n".join(lines)], votes=Votes(5, 0.5))
    assert backend.asked == [5]
    assert [len(parts) for parts in decoded] == [1, 1, 0]
    one, other = predict(segmenter, image, f"[{POINT}]", f"[{BOX}]")
    # Two of the three answers that can be read.
    np.testing.assert_array_equal(voted.mask, one.mask)
    assert (voted.text, voted.clicks, voted.status) == (f"[{POINT}]", OF_POINT.clicks, "ok")
    iou = (one.mask & other.mask).sum() / (one.mask | other.mask).sum()
    assert voted.agreement == pytest.approx((1 + 2 * iou) / 3)
    assert voted.confidence == pytest.approx(voted.agreement * one.score)
    assert [sample.status for sample in voted.samples] == ["ok", "ok", "ok", "unparsable", "failed"]
    assert voted.samples[1].score == pytest.approx(other.score)


def test_confidence_of_single_answers(segmenter, image):
    mask, nothing, broken, unanswered = predict(segmenter, image, f"[{POINT}]", "[]", "?", "!")
    assert mask.confidence == pytest.approx(0.5 * mask.score)
    # Two tokens of probability 0.5.
    assert (nothing.status, nothing.confidence) == ("empty", 0.25)
    assert (broken.status, broken.confidence) == ("unparsable", 0.0)
    assert (unanswered.status, unanswered.confidence) == ("failed", None)


def test_images_that_are_refused_are_not_sampled(segmenter, image):
    wide = np.zeros((10, 200, 3), np.uint8)
    queries = ["[]\n[]", "[]\n[]"]
    refused, empty = answering.predict(Scripted(), segmenter, [wide, image], queries, votes=Votes(samples=2))
    assert (refused.status, refused.error, refused.samples) == ("failed", "Too large.", ())
    assert (empty.status, empty.agreement, empty.confidence) == ("empty", 1.0, 1.0)
