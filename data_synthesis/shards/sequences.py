"""The sequences of a batch of targets: one prompt for each, one for each of its parts, or the better of both."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from geoclick.clicks import ClickSequence
from geoclick.components import MAX_PARTS, Cut, cut
from geoclick.data_synthesis.shards.job import Job, row_id
from geoclick.data_synthesis.simulation import parts
from geoclick.data_synthesis.simulation.parts import Parted
from geoclick.data_synthesis.simulation.simulate import Simulated, simulate
from geoclick.datasets import Sample
from geoclick.segmenters.base import Embedding

JOINED, SMALL, BEYOND, NO_CLICK, NO_GAIN = (
    "component joined to a near one",
    "small part",
    f"part beyond the largest {MAX_PARTS}",
    "part that no click improves",
    "click at the end of a part that improves nothing",
)
"""What is counted of targets with several components."""


@dataclass(frozen=True)
class Task:
    """A sequence to make, of a sample whose image and mask are valid.

    Attributes:
        sample: with image, query and mask.
        target: its mask, bool [H, W].
        valid: the pixels that count, bool [H, W]; None if all do.
        embedding: of its image; None if there is nothing to click on.
        number: of the sequence among those of the sample, from 1.
        own: the clicks that a model made for it, in parts; None if no model was asked.
    """

    sample: Sample
    target: np.ndarray
    valid: np.ndarray | None
    embedding: Embedding | None = None
    number: int = 1
    own: tuple[ClickSequence, ...] | None = None

    @property
    def row_id(self) -> str:
        """The id of its row in the store."""
        return row_id(self.sample.sample_id, self.number)


@dataclass(frozen=True)
class Sequenced:
    """The sequence of a task.

    Attributes:
        sequence: in parts.
        counts: parts that are joined or left out, by reason.
    """

    sequence: Parted
    counts: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Prompted:
    """A target of one prompt: that of a task, or a part of it.

    Attributes:
        task: whose target it is.
        target: bool [H, W].
        valid: the pixels that count, bool [H, W]; None if all do.
        name: seeds its random choices, together with the number of the sequence.
        given: its first clicks, those of a model.
    """

    task: Task
    target: np.ndarray
    valid: np.ndarray | None
    name: str
    given: ClickSequence = ()


def make(job: Job, tasks: Sequence[Task]) -> dict[str, Sequenced]:
    """The sequences of the tasks that have something to click on, by the ids of their rows."""
    clicked = [task for task in tasks if task.embedding is not None]
    cuts = {task.row_id: cut_of(job, task) for task in clicked}
    several = [task for task in clicked if cuts[task.row_id].is_smaller]
    alone = [task for task in clicked if job.parts.mode != "components" or not cuts[task.row_id].is_smaller]
    whole = simulate_all(job, [Prompted(t, t.target, t.valid, t.sample.sample_id) for t in alone])
    one = {task.row_id: parts.whole(result) for task, result in zip(alone, whole, strict=True)}
    prompted = [one for task in several for one in _prompts(task, cuts[task.row_id])]
    results = iter(simulate_all(job, prompted, all_masks=True))
    sequenced = {name: Sequenced(sequence) for name, sequence in one.items()}
    for task in several:
        own = [next(results) for _ in cuts[task.row_id].parts]
        united = parts.united(own, task.target, task.valid, job.parts.order)
        chosen = united
        if task.row_id in one:
            chosen = parts.choose(one[task.row_id], united, job.iou_target)
        if chosen is united:
            sequenced[task.row_id] = Sequenced(united, left_out_of(cuts[task.row_id], united))
    return sequenced


def cut_of(job: Job, task: Task) -> Cut:
    """The parts of a target, of the pixels that count."""
    counted = task.target if task.valid is None else task.target & task.valid
    rules = job.parts
    return Cut([counted]) if rules.mode == "one" else cut(counted, distance=rules.distance, area=rules.area)


def left_out_of(of: Cut, united: Parted) -> Counter[str]:
    """The number of parts and clicks that a sequence in parts leaves out, by the reasons that occur."""
    counts = {
        **{JOINED: of.joined, SMALL: of.small, BEYOND: of.beyond},
        **{NO_CLICK: united.useless_parts, NO_GAIN: united.useless_clicks},
    }
    return Counter({reason: count for reason, count in counts.items() if count})


def _prompts(task: Task, of: Cut) -> list[Prompted]:
    """The parts of a target; the pixels of the others do not count."""
    valid = np.ones(task.target.shape, bool) if task.valid is None else task.valid
    return [
        Prompted(task, part, valid & (part | ~task.target), f"{task.sample.sample_id}/{number}")
        for number, part in enumerate(of.parts)
    ]


def simulate_all(job: Job, prompted: Sequence[Prompted], *, all_masks: bool = False) -> list[Simulated]:
    """The sequence of each prompt, as many at once as the job decodes together."""
    results: list[Simulated] = []
    for start in range(0, len(prompted), job.sequences_at_once):
        batch = prompted[start : start + job.sequences_at_once]
        results += simulate(
            job.segmenter,
            [one.task.embedding for one in batch if one.task.embedding is not None],
            [one.target for one in batch],
            [one.valid for one in batch],
            max_clicks=job.max_clicks,
            iou_target=job.iou_target,
            prompting=job.prompting,
            clicker=job.clicker,
            seed=job.seed,
            sequence_ids=[(one.name, one.task.number) for one in batch],
            all_masks=all_masks,
            given=[one.given for one in batch],
        )
    return results
