import numpy as np
import pytest
import torch

from geoclick import store
from geoclick.errors import GeoClickError, UsageError
from geoclick.train.publishing import merge_check
from geoclick.train.publishing.merge_check import Answers, Questions
from tests import tiny


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_questions_about_scenes_are_always_the_same(count):
    one, two = merge_check.from_scenes(count), merge_check.from_scenes(count)
    assert len(one.images) == len(one.queries) == count
    assert one.queries == two.queries
    assert all(np.array_equal(a, b) for a, b in zip(one.images, two.images, strict=True))
    assert len(set(one.queries)) == count


def test_questions_of_a_store_are_its_first_rows(tmp_path):
    clicks, root = tiny.click_store(tmp_path)
    rows = list(store.read(clicks))
    questions = merge_check.from_store(str(clicks), str(root), 3)
    assert questions.queries == [row.query for row in rows[:3]]
    assert [image.shape for image in questions.images] == [(64, 64, 3)] * 3
    assert len(merge_check.from_store(str(clicks), str(root), 99).queries) == len(rows)
    assert str(tmp_path) not in questions.source
    with pytest.raises(UsageError, match="--root"):
        merge_check.from_store(str(clicks), None, 3)
    with pytest.raises(GeoClickError, match="does not exist"):
        merge_check.from_store(str(clicks), str(tmp_path), 3)
    store.write_shard(tmp_path / "empty", 0, 1, [])
    with pytest.raises(GeoClickError, match="holds no rows"):
        merge_check.from_store(str(tmp_path / "empty"), str(root), 3)


def answers(*texts, shift=0.0):
    return Answers(texts, torch.zeros(len(texts), 5) + shift)


def compare(one, two, min_same, dtype="bfloat16"):
    questions = Questions([], [f"q{n}" for n in range(len(one.texts))], "made up")
    return merge_check.compare(one, two, questions, min_same=min_same, dtype=dtype)


def test_a_comparison_counts():
    check = compare(answers("a", "b", "b"), answers("a", "b", "c", shift=0.25), 0.5)
    assert check == {
        "questions": 3,
        "same_answers": 2,
        "different_texts": 2,
        "largest_logit_difference": 0.25,
        "source": "made up",
    }
    assert "2 of 3 answers in float32" in merge_check.summary(check, "float32")


@pytest.mark.parametrize(("same", "total"), [(2, 3), (0, 1), (23, 24), (999, 1000), (1, 7)])
def test_the_share_in_the_error_is_accepted(same, total):
    one = answers(*["a"] * total)
    two = answers(*["a"] * same, *["b"] * (total - same))
    with pytest.raises(GeoClickError, match=f"{total - same} of {total} answers differ") as caught:
        compare(one, two, 1.0)
    share = float(str(caught.value).rsplit("--min-same ", 1)[1].rstrip("."))
    assert share == pytest.approx(same / total, abs=0.01)
    compare(one, two, share)


def test_the_error_suggests_float32_only_for_other_dtypes():
    for dtype, offered in (("bfloat16", True), ("float32", False)):
        with pytest.raises(GeoClickError) as caught:
            compare(answers("a"), answers("b"), 1.0, dtype)
        assert ("--dtype float32" in str(caught.value)) == offered
