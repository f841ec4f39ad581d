"""On-policy sequences: a model's own first clicks, then those that correct the mask of these.

A model that was trained on perfect sequences only never saw the masks of its own imperfect clicks. Here the simulated
annotator answers what to click next on these (DAgger: Ross et al., 2011, arXiv 1011.0686).

The own clicks are the beginning of the answer, which is not taught. What follows may add clicks to their last part, or
further parts; an answer is a text, so that parts before the last one cannot be changed. If nothing raises the IoU, the
end of the answer is taught.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np

from geoclick.clicks import ClickSequence
from geoclick.components import Cut
from geoclick.data_synthesis.shards import sequences
from geoclick.data_synthesis.shards.job import Job
from geoclick.data_synthesis.shards.sequences import Prompted, Sequenced, Task, simulate_all
from geoclick.data_synthesis.simulation import parts
from geoclick.data_synthesis.simulation.parts import Parted
from geoclick.data_synthesis.simulation.policies import click_rng
from geoclick.data_synthesis.simulation.simulate import Simulated
from geoclick.masks import iou
from geoclick.segmenters.clicking import replay

LEFT_OUT = "own click left out"
"""Own clicks after the last one that a row begins with."""
NO_OWN_CLICK = "own answer without clicks"
"""The model answered none, or nothing that can be read."""


@dataclass(frozen=True)
class Own:
    """The own clicks that a row begins with.

    Attributes:
        task: the row's; it has an embedding.
        parts: the clicks, at least one.
        ious: of the union of the masks with the target, after each click.
        closed: the union of the masks of all parts but the last, bool [H, W].
        masks: of each part after its last click, bool [H, W] each.
        left_out: number of own clicks after these.
    """

    task: Task
    parts: tuple[ClickSequence, ...]
    ious: tuple[float, ...]
    closed: np.ndarray
    masks: tuple[np.ndarray, ...]
    left_out: int


@dataclass(frozen=True)
class _Plan:
    """What may follow some own clicks.

    Attributes:
        own: the own clicks.
        last: continues their last part; None if that part lies on no target.
        further: parts of their own.
        cut: the parts of the target.
    """

    own: Own
    last: Prompted | None
    further: tuple[Prompted, ...]
    cut: Cut

    @property
    def prompts(self) -> tuple[Prompted, ...]:
        """All that is simulated."""
        return (*([self.last] if self.last else []), *self.further)


def make(job: Job, tasks: Sequence[Task]) -> dict[str, Sequenced]:
    """The sequences of tasks with an embedding, by the ids of their rows: corrections of the tasks' own clicks.

    A task whose model made no click, or no useful one, gets the sequence that it would have without a model.
    """
    corrected: dict[str, Sequenced] = {}
    owned = dict(zip((task.row_id for task in tasks), own_clicks(job, tasks), strict=True))
    plain = sequences.make(job, [replace(task, own=None) for task in tasks if owned[task.row_id] is None])
    plans = [plan for own in owned.values() if own for plan in _plans(job, own)]
    results = iter(simulate_all(job, [one for plan in plans for one in plan.prompts], all_masks=True))
    for plan in plans:
        last = next(results) if plan.last else None
        sequence = _corrected(job, plan, last, [next(results) for _ in plan.further])
        name = plan.own.task.row_id
        if (
            name in corrected
            and parts.choose(corrected[name].sequence, sequence, job.iou_target) is not sequence
        ):
            continue
        corrected[name] = Sequenced(sequence, sequences.left_out_of(plan.cut, sequence))
    for task in tasks:
        own = owned[task.row_id]
        count = own.left_out if own else sum(map(len, task.own or ()))
        made = corrected[task.row_id] if own else plain[task.row_id]
        corrected[task.row_id] = replace(
            made, counts=made.counts + Counter({LEFT_OUT: count, NO_OWN_CLICK: int(not task.own)})
        )
    return corrected


def own_clicks(job: Job, tasks: Sequence[Task]) -> Iterator[Own | None]:
    """The own clicks that each row begins with; None for none."""
    prompted = [
        (task.embedding, clicks) for task in tasks if task.embedding is not None for clicks in task.own or ()
    ]
    masks = iter(replay(job.segmenter, [e for e, _ in prompted], [c for _, c in prompted], job.prompting))
    for task in tasks:
        yield _own_clicks(job, task, [next(masks) for _ in task.own or ()])


def _own_clicks(job: Job, task: Task, masks: Sequence[Sequence[np.ndarray]]) -> Own | None:
    """The first own clicks of a task, as many as `job.own_clicks` says.

    Args:
        job: how the shard is made.
        task: with own clicks or not.
        masks: of each part after each click, bool [H, W] each.
    """
    ious, union = list[float](), np.zeros(task.target.shape, bool)
    for of_part in masks:
        ious += [iou(union | mask, task.target, task.valid) for mask in of_part]
        union = union | of_part[-1]
    count = len(ious)
    if job.own_clicks == "best":
        count = ious.index(max(ious)) + 1 if max(ious, default=0.0) > 0 else 0
    elif job.own_clicks == "random":
        random = click_rng(job.seed, f"{task.sample.sample_id}/own", task.number, 0)
        count = int(random.integers(0, len(ious), endpoint=True))
    if not count:
        return None
    own, ends = task.own or (), list(accumulate(map(len, task.own or ())))
    number = next(i for i, end in enumerate(ends) if end >= count)
    last = count - (ends[number] - len(own[number]))
    shown = (*(of_part[-1] for of_part in masks[:number]), masks[number][last - 1])
    return Own(
        task=task,
        parts=(*own[:number], own[number][:last]),
        ious=tuple(ious[:count]),
        closed=np.logical_or.reduce([np.zeros_like(union), *shown[:-1]]),
        masks=shown,
        left_out=len(ious) - count,
    )


def _plans(job: Job, own: Own) -> list[_Plan]:
    """What may follow some own clicks: in one prompt, in parts, or both, of which the better is taken."""
    task, cut = own.task, sequences.cut_of(job, own.task)
    counts = np.ones(task.target.shape, bool) if task.valid is None else task.valid
    # Whether pixels are in the mask of a part does not count where those of other parts are in the answer already.
    free, name = counts & ~own.closed, task.sample.sample_id
    one = _Plan(own, Prompted(task, task.target, free, name, own.parts[-1]), (), Cut([task.target]))
    if job.parts.mode == "one" or not cut.is_smaller:
        return [one]
    clicked = [_component(cut, mask) for mask in own.masks]
    prompts = [
        Prompted(task, component, counts & (component | ~task.target), f"{name}/{number}")
        for number, component in enumerate(cut.parts)
    ]
    last = None
    if clicked[-1] is not None:
        prompt = prompts[clicked[-1]]
        last = replace(prompt, valid=free & prompt.valid, given=own.parts[-1])
    further = tuple(prompt for number, prompt in enumerate(prompts) if number not in clicked)
    in_parts = _Plan(own, last, further, cut)
    return [one, in_parts] if job.parts.mode == "auto" and len(own.parts) == 1 else [in_parts]


def _component(cut: Cut, mask: np.ndarray) -> int | None:
    """The part of a target that a mask covers most of, in pixels; None if it covers no part."""
    shared = [int(np.count_nonzero(part & mask)) for part in cut.parts]
    return shared.index(max(shared)) if max(shared) else None


def _corrected(job: Job, plan: _Plan, last: Simulated | None, further: Sequence[Simulated]) -> Parted:
    """The own clicks and those after them that raise the IoU."""
    own, target, valid = plan.own, plan.own.task.target, plan.own.task.valid
    tails = [own.closed | mask for mask in (own.masks[-1], *(last.masks if last else ()))]
    ious = [iou(tail, target, valid) for tail in tails]
    end = ious.index(max(ious))
    more = parts.united(further, target, valid, job.parts.order, base=tails[end])
    given = tuple(click for part in own.parts for click in part)
    lengths = tuple(map(len, own.parts))
    return Parted(
        clicks=(*given, *(last.clicks[:end] if last else ()), *more.clicks),
        ious=(*own.ious, *ious[1 : end + 1], *more.ious),
        parts=(*lengths[:-1], lengths[-1] + end, *more.parts),
        mask=more.mask,
        useless_parts=more.useless_parts,
        useless_clicks=more.useless_clicks + len(tails) - 1 - end,
        given=len(given),
    )
