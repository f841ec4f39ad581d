import numpy as np
import pytest

from geoclick import contradictions, masks
from geoclick.contradictions import Contradictions, QuestionTargets
from geoclick.errors import GeoClickError

SIZE = 12, 15


def box(top, left, bottom, right):
    mask = np.zeros(SIZE, bool)
    mask[top:bottom, left:right] = True
    return mask


EMPTY, LEFT, RIGHT, ALL = box(0, 0, 0, 0), box(0, 0, 12, 5), box(0, 10, 12, 15), box(0, 0, 12, 15)


def hashes(rows):
    """The hashes of rows (image, query, mask), int64 [2, N]."""
    pairs = [
        (
            contradictions.fingerprint(image, query),
            contradictions.fingerprint(masks.encode_rle(mask)["counts"]),
        )
        for image, query, mask in rows
    ]
    return np.array(pairs, np.int64).reshape(-1, 2).T


def count(rows):
    added = QuestionTargets()
    for image, query, mask in rows:
        added.add(image, query, masks.encode_rle(mask))
    return added.count()


def ceiling(rows):
    return contradictions.ceiling(*hashes(rows), (masks.encode_rle(mask) for _, _, mask in rows))


def test_rows_contradict_if_only_their_targets_differ():
    rows = [
        ("a", "roof", LEFT),
        ("a", "roof", RIGHT),
        ("a", "tree", LEFT),
        ("b", "roof", LEFT),
        ("a", "roof", LEFT),
        ("c", "roof", ALL),
        ("c", "roof", EMPTY),
    ]
    assert contradictions.contradicting(*hashes(rows)).tolist() == [
        True,
        True,
        False,
        False,
        True,
        True,
        True,
    ]
    assert count(rows) == Contradictions(rows=7, contradicting=5, questions=2)
    assert count(rows).share == pytest.approx(5 / 7)


def test_several_sequences_of_one_target_do_not_contradict_each_other():
    assert count([("a", "roof", LEFT)] * 4) == Contradictions(4, 0, 0)


def test_no_rows_have_no_contradictions():
    assert count([]) == Contradictions(0, 0, 0)
    assert count([]).share == 0


def test_the_ceiling_is_that_of_the_best_target_of_each_question():
    assert ceiling([("a", "roof", LEFT), ("a", "tree", RIGHT)]) == 1
    assert ceiling([("a", "roof", LEFT), ("a", "roof", RIGHT)]) == 0.5
    # The left third is asked twice: it scores 1, 1 and 1/3; the complete image scores 1/3, 1/3 and 1.
    assert ceiling([("a", "roof", LEFT), ("a", "roof", ALL), ("a", "roof", LEFT)]) == pytest.approx(7 / 9)
    # An empty target is a target: it equals itself and no other.
    assert ceiling([("a", "roof", EMPTY), ("a", "roof", LEFT), ("b", "roof", LEFT)]) == pytest.approx(2 / 3)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("block", [2, 256])
def test_the_ceiling_equals_that_of_trying_every_answer(seed, block, monkeypatch):
    monkeypatch.setattr(contradictions, "_BLOCK", block)
    rng = np.random.default_rng(seed)
    shapes = [EMPTY, *(rng.random(SIZE) < p for p in (0.2, 0.4, 0.6, 0.9))]
    rows = [
        (str(rng.integers(3)), str(rng.integers(2)), shapes[rng.integers(len(shapes))]) for _ in range(40)
    ]
    total = 0.0
    for question in {row[:2] for row in rows}:
        own = [mask for *asked, mask in rows if tuple(asked) == question]
        total += max(sum(masks.iou(answer, mask) for mask in own) for answer in own)
    assert ceiling(rows) == pytest.approx(total / 40)


def test_more_than_the_limit_is_an_error_unless_allowed():
    few, many = Contradictions(100, 5, 2), Contradictions(100, 6, 2)
    contradictions.check(few, allowed=False)
    contradictions.check(many, allowed=True)
    with pytest.raises(GeoClickError, match=r"^6 of 100 rows \(6\.0 %\) contradict others.*--allow-contrad"):
        contradictions.check(many, allowed=False)
