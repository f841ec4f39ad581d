"""The embedded model with enforced formats and seeded samples."""

import numpy as np
import pytest

from geoclick import codec, vlms
from geoclick.inference.backends.local import Local
from geoclick.inference.generative.settings import Generation
from geoclick.scenes.drawing import sample_scene
from geoclick.vlms.generation.answers import TOKENS_OF_CLICK

QUERIES = ("the largest building", "the road")


@pytest.fixture(scope="module")
def vlm():
    return vlms.load("embedded", device="cpu")


@pytest.fixture(scope="module")
def images():
    return [sample_scene(0, "test", number, ["referring"])[0] for number in range(2)]


def backend(vlm, **options):
    # A high temperature breaks the format of most answers.
    words = {"answer_format": "compact", "temperature": 3.0, "seed": 0, "max_new_tokens": 40}
    return Local(vlm, Generation(**(words | options)))


def texts(replies):
    return [[reply.text for reply in own] for own in replies]


def test_a_sample_depends_on_seed_image_query_and_number_only(vlm, images):
    together = texts(backend(vlm, batch_size=3).sample([*images, images[0]], [*QUERIES, QUERIES[1]], 3))
    assert texts(backend(vlm).sample(images[1:], QUERIES[1:], 3)) == together[1:2]
    assert texts(backend(vlm).sample(images[:1], QUERIES[:1], 2)) == [together[0][:2]]
    assert [reply.text for reply in backend(vlm).answer(images, QUERIES)] == [own[0] for own in together[:2]]
    assert len({text for own in together for text in own}) > 3
    assert texts(backend(vlm, seed=1).sample(images, QUERIES, 3)) != together[:2]


@pytest.mark.parametrize("answer_format", codec.FORMATS)
def test_enforced_answers_can_be_read(vlm, images, answer_format):
    def statuses(**options):
        room = 4 * TOKENS_OF_CLICK[answer_format]
        made = backend(vlm, answer_format=answer_format, max_new_tokens=room, **options)
        replies = made.sample(images, QUERIES, 6)
        return [
            made.read(reply.text, image.shape[:2]).status
            for image, own in zip(images, replies, strict=True)
            for reply in own
        ]

    assert "unparsable" in statuses()
    assert set(statuses(constrained=True)) <= {"ok", "empty"}


def test_a_valid_answer_is_not_changed_by_the_constraint(vlm, images):
    free, enforced = (
        backend(vlm, temperature=0.0, answer_format="json", constrained=constrained).answer(images, QUERIES)
        for constrained in (False, True)
    )
    for image, one, other in zip(images, free, enforced, strict=True):
        if vlm.frame(image.shape[:2], "json").decode(one.text).status == "ok":
            assert one.text == other.text
            np.testing.assert_allclose(one.probability, other.probability, rtol=1e-5)
            assert one.tokens == other.tokens
