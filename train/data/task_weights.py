"""Weights of the rows' losses by the task of a row: no target, one part, or several parts."""

from collections.abc import Iterable, Sequence
from typing import Any

from geoclick.errors import UsageError
from geoclick.train.data.batches import Batch, Collator

TASKS = ("none", "one", "several")
"""What an answer consists of: no click, the clicks of one part, or those of several parts."""
OTHER = "other"
"""Rows that are no clicks."""
TASK_WEIGHTS = "task_weights"
"""Key of a batch: the weight of each sample, a list of N numbers."""


def kind_of(parts: Sequence[object]) -> str:
    """The entry of TASKS for the parts of an answer."""
    return TASKS[min(len(parts), 2)]


def parse(values: Iterable[str]) -> dict[str, float]:
    """The weights of `TASK=WEIGHT`; tasks that are not named weigh 1.

    Only their ratios count. The smallest is 1, so that the weights of a step never add up to less than 1, which TRL
    would divide by instead.

    Raises:
        UsageError: an unknown task, one that is named twice, or a weight that is no number above 0.
    """
    weights = dict.fromkeys((*TASKS, OTHER), 1.0)
    named = set()
    for value in values:
        task, _, number = value.partition("=")
        try:
            weight = float(number)
        except ValueError:
            weight = 0.0
        if task not in TASKS or task in named or not 0 < weight < float("inf"):
            raise UsageError(
                f"--task-weights takes TASK=WEIGHT once for a task of {', '.join(TASKS)}, with a weight above 0, not "
                f"{value!r}."
            )
        named.add(task)
        weights[task] = weight
    least = min(weights.values())
    return {task: weight / least for task, weight in weights.items()}


class WeightedCollator:
    """Adds the weights of its samples to a batch.

    Args:
        collator: makes the batch.
        values: the weights, see `parse`; rows that are no clicks weigh as much as a task that is not named.
    """

    def __init__(self, collator: Collator, values: Sequence[str]) -> None:
        self.collator, self.weights = collator, parse(values)

    def __call__(self, rows: Sequence[Any]) -> Batch:
        """A batch of rows, or of one pack of rows."""
        samples = rows[0] if isinstance(rows[0], list) else rows
        weights = [self.weights[row.get("kind") or OTHER] for row in samples]
        return self.collator(rows) | {TASK_WEIGHTS: weights}
