import pytest
import torch

from geoclick.errors import UsageError
from geoclick.train.data import task_weights
from geoclick.train.data.task_weights import TASK_WEIGHTS, WeightedCollator


def test_the_task_of_an_answer_is_the_number_of_its_parts():
    assert [task_weights.kind_of([()] * count) for count in range(4)] == ["none", "one", "several", "several"]


def test_only_ratios_count_and_the_smallest_weight_is_one():
    expected = {"none": 1, "one": 2, "several": 4, "other": 2}
    assert task_weights.parse(["none=0.5", "several=2"]) == expected
    assert task_weights.parse(["none=5", "one=10", "several=20"]) | {"other": 2} == expected | {
        "none": 5.0,
        "one": 10.0,
        "several": 20.0,
    }


@pytest.mark.parametrize("value", ["none", "two=1", "none=0", "none=-1", "none=nan", "none=inf", "none=x"])
def test_anything_else_is_refused(value):
    with pytest.raises(UsageError, match="takes TASK=WEIGHT once for a task of none, one, several"):
        task_weights.parse([value])
    with pytest.raises(UsageError, match="takes TASK=WEIGHT once"):
        task_weights.parse(["one=1", "one=2"])


@pytest.mark.parametrize("packed", [False, True])
def test_a_batch_has_the_weight_of_each_sample(packed):
    rows = [{"kind": "none"}, {"kind": "one"}, {"kind": "several"}, {}, {"kind": None}]
    collator = WeightedCollator(lambda rows: {"labels": torch.zeros(1)}, ["none=0.5", "several=2"])
    batch = collator([rows] if packed else rows)
    assert batch[TASK_WEIGHTS] == [1, 2, 4, 2, 2]
    assert set(batch) == {"labels", TASK_WEIGHTS}
