import pytest

from geoclick.errors import UsageError
from geoclick.inference.evaluation.options import EvaluateOptions, resolve
from geoclick.scoring.modes import MODES


def resolved(**values):
    result = resolve(EvaluateOptions(output="out", root="data", **values))
    return result.split, result.mode, result.question


def test_a_dataset_of_your_own_is_scored_on_its_test_split_in_mode_native():
    assert resolved() == ("test", "native", "all")
    assert resolved(split="val", question="first") == ("val", "native", "first")


def test_a_benchmark_sets_split_and_mode():
    assert resolved(dataset="loveda") == ("val", "semantic", "all")
    assert resolved(dataset="rrsis-d") == ("test", "native", "all")


@pytest.mark.parametrize(("mode", "question"), [("segearth-r1", "first"), ("think2seg", "random")])
def test_a_mode_sets_the_question_unless_it_is_given(mode, question):
    assert MODES[mode].question == question
    assert resolved(mode=mode) == ("test", mode, question)
    assert resolved(mode=mode, question="all") == ("test", mode, "all")


def test_options_that_do_not_fit_are_usage_errors():
    with pytest.raises(UsageError, match="needs a dataset with classes"):
        resolved(mode="semantic")
    with pytest.raises(UsageError, match="at most 1"):
        resolved(noise=1.5)
    with pytest.raises(UsageError, match="Missing --root"):
        resolve(EvaluateOptions(output="out"))


def test_other_options_stay_and_keep_their_order():
    options = EvaluateOptions(output="out", root="data", noise=0.3, compare=("a", "b"))
    result = resolve(options)
    assert list(vars(result)) == list(vars(options))
    assert (result.noise, result.compare, result.seed) == (0.3, ("a", "b"), 0)
