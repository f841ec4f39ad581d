"""Rows whose image shows the mask so far: one for each click after a model's own, and one that ends there."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, pairwise

import numpy as np

from geoclick.data_synthesis.shards.job import Job
from geoclick.data_synthesis.shards.sequences import Task
from geoclick.masks import encode_rle
from geoclick.segmenters.clicking import replay
from geoclick.store import Row

STEP = "~"
"""Between the id of a sequence and the number of clicks whose mask a row shows."""


def of_tasks(job: Job, made: Sequence[tuple[Task, Row]]) -> dict[str, list[Row]]:
    """The rows of tasks by the ids of their sequences; a sequence without own clicks of a model stays one row."""
    shown = [(task, row) for task, row in made if row.given]
    prompts = [
        (task.embedding, clicks)
        for task, row in shown
        for clicks in row.sequences
        if task.embedding is not None
    ]
    masks = iter(replay(job.segmenter, [e for e, _ in prompts], [c for _, c in prompts], job.prompting))
    return {row.sample_id: steps(row, [next(masks) for _ in row.parts]) for _, row in shown}


def steps(row: Row, masks: Sequence[Sequence[np.ndarray]]) -> list[Row]:
    """A row for each click after the given ones, and one that ends after the last.

    Args:
        row: with given clicks.
        masks: of each part after each of its clicks, bool [H, W] each.
    """
    unions, before = list[np.ndarray](), np.zeros((row.height, row.width), bool)
    for of_part in masks:
        unions += [before | mask for mask in of_part]
        before = unions[-1]
    return [
        replace(
            row,
            sample_id=f"{row.sample_id}{STEP}{count}",
            clicks=row.clicks[: count + 1],
            ious=row.ious[: count + 1],
            parts=_first(row.parts, min(count + 1, len(row.clicks))),
            given=count,
            shown=encode_rle(unions[count - 1]),
        )
        for count in range(row.given, len(row.clicks) + 1)
    ]


def _first(parts: Sequence[int], count: int) -> tuple[int, ...]:
    """The number of clicks of each part of the first `count` clicks."""
    ends = [0, *accumulate(parts)]
    return tuple(min(end, count) - start for start, end in pairwise(ends) if start < count)
