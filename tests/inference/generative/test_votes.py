import numpy as np
import pytest

from geoclick.clicks import Click
from geoclick.inference.generative import votes
from geoclick.inference.generative.prediction import Prediction, failed

LEFT, MIDDLE, RIGHT = ((0, 4), (2, 6), (4, 8))
CLICK = (Click(1.0, 1.0),)


def answer(columns, text="+(1,1)", **fields):
    mask = np.zeros((2, 8), bool)
    if columns:
        mask[:, slice(*columns)] = True
    status = fields.pop("status", "ok" if columns else "empty")
    return Prediction(mask, CLICK if columns else (), text, status, **fields)


def columns_of(prediction):
    assert (prediction.mask[0] == prediction.mask[1]).all()
    return prediction.mask[0].nonzero()[0].tolist()


@pytest.mark.parametrize(
    ("threshold", "columns"), [(0.0, range(8)), (0.3, range(8)), (0.4, range(2, 6)), (0.7, [])]
)
def test_pixels_are_in_more_than_a_share_of_the_masks(threshold, columns):
    together = votes.together([answer(LEFT), answer(MIDDLE), answer(RIGHT)], threshold)
    assert columns_of(together) == list(columns)


def test_half_of_the_masks_is_no_majority():
    assert columns_of(votes.together([answer(LEFT), answer(RIGHT)], 0.5)) == []
    assert columns_of(votes.together([answer(LEFT), answer(LEFT), answer(RIGHT), answer(())], 0.5)) == []
    assert columns_of(votes.together([answer(LEFT)] * 3 + [answer(RIGHT)] * 2, 0.5)) == [0, 1, 2, 3]


def test_a_majority_of_no_target_is_an_empty_answer():
    together = votes.together([answer(LEFT, score=0.9), *[answer((), "none", probability=0.5)] * 2], 0.5)
    assert not together.mask.any()
    assert (together.status, together.text, together.clicks) == ("empty", "none", ())
    assert (together.score, together.probability) == (None, 0.5)
    # LEFT with none twice: 0; none with none: 1.
    assert together.agreement == pytest.approx(1 / 3)


def test_the_answer_shown_is_the_one_most_similar_to_the_vote():
    sampled = [answer(RIGHT, "a"), answer(LEFT, "b", score=0.8), answer(MIDDLE, "c"), answer(LEFT, "d")]
    together = votes.together(sampled, 0.4)
    # LEFT and MIDDLE are equally similar.
    assert columns_of(together) == [0, 1, 2, 3, 4, 5]
    assert (together.text, together.score) == ("b", 0.8)
    assert [one.text for one in together.samples] == ["a", "b", "c", "d"]
    # Pairs: 0, 1/3, 0; 1/3, 1; 1/3.
    assert together.agreement == pytest.approx((0 + 1 / 3 + 0 + 1 / 3 + 1 + 1 / 3) / 6)


def test_answers_that_cannot_be_read_have_no_vote():
    broken = answer((), "?", status="unparsable")
    together = votes.together([broken, broken, answer(LEFT), failed((2, 8), "No answer.")], 0.5)
    assert columns_of(together) == [0, 1, 2, 3]
    assert (together.status, together.agreement, together.error) == ("ok", 1.0, "")
    assert [one.status for one in together.samples] == ["unparsable", "unparsable", "ok", "failed"]
    assert together.samples[3].error == "No answer."


def test_without_an_answer_that_can_be_read_there_is_no_mask():
    broken = answer((), "?", status="unparsable")
    nothing = failed((2, 8), "No answer.")
    together = votes.together([nothing, broken], 0.5)
    assert (together.status, together.text, together.agreement) == ("unparsable", "?", None)
    assert not together.mask.any()
    assert votes.together([nothing, nothing], 0.5).error == "No answer."
