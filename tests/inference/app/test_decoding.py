"""Edits decode only from the first click that has changed, and give the masks of `geoclick predict`."""

import numpy as np
import pytest

from geoclick.clicks import Click
from geoclick.codec import Part
from geoclick.inference.app import decoding
from geoclick.inference.app.decoding import EditDecoder
from geoclick.inference.generative import mask_decoding
from tests.inference.app.conftest import POINTS

A, B, C, D = Click(20, 20), Click(50, 40, False), Click(30, 10), Click(5, 30)


@pytest.fixture
def passes(session, monkeypatch):
    """The number of prompts in each call of the segmenter."""
    counted = []
    decode = session.segmenter.decode

    def counting(embeddings, prompts, *, multimask):
        counted.extend([multimask] * len(prompts))
        return decode(embeddings, prompts, multimask=multimask)

    monkeypatch.setattr(session.segmenter, "decode", counting)
    return counted


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ((A, B, C, D), 1),
        ((A, B, D), 1),
        ((A, D, C), 2),
        ((A, B), 1),
        ((B, A, C), 3),
        ((A, B, C), 1),
    ],
)
def test_an_edit_is_decoded_from_the_click_that_changed(session, passes, after, expected):
    session.decoded((Part((A, B, C)),))
    assert len(passes) == 3
    passes.clear()
    found = session.decoded((Part(after),))
    assert len(passes) == expected
    want = mask_decoding.decode_objects(
        session.segmenter._segmenter, [session.opened.pixels], [(Part(after),)]
    )[0]
    assert (found.mask == want.mask).all()
    assert found.score == pytest.approx(want.score, abs=1e-5)


def test_other_parts_are_not_decoded_again(answered, passes):
    answered.edit((Part(POINTS), Part((C,)), Part((D,))))
    first = answered.layer.decoded
    passes.clear()
    after = answered.edit((Part(POINTS), Part((C, A)), Part((D,)))).decoded
    assert len(passes) == 1
    for n in (0, 2):
        assert (after.instances[n].mask == first.instances[n].mask).all()
        assert after.instances[n].score == first.instances[n].score
    want = mask_decoding.decode_objects(
        answered.segmenter._segmenter, [answered.opened.pixels], [answered.layer.parts]
    )[0]
    assert (after.mask == want.mask).all()


def test_boxes_and_joint_prompts_are_those_of_predict(session):
    box = Part((A,), (5.0, 5.0, 40.0, 30.0))
    for parts, decode in (((box,), "replay"), ((Part((A, B)), box), "joint")):
        decoder = EditDecoder(session.segmenter, session.segmenter.embedding, decode)
        want = mask_decoding.decode_embedded_objects(
            session.segmenter, [session.segmenter.embedding], [parts], decode=decode
        )[0]
        assert (decoder(parts).mask == want.mask).all()


def test_old_steps_are_forgotten(session, monkeypatch):
    monkeypatch.setattr(decoding, "MAX_STEPS", 4)
    for number in range(6):
        session.decoded((Part((Click(number, 3), Click(9, number))),))
    assert len(session._decoder._steps) == 4
    assert np.isfinite(session.decoded((Part((A, B, C, D)),)).score)
