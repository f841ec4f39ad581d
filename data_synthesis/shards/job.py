"""The work of one shard: embed each of its images once, click on its masks in batches, give rows in order."""

import contextlib
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from typing import TypeVar

import numpy as np

from geoclick import masks
from geoclick.data_synthesis.simulation.policies import Clicker
from geoclick.data_synthesis.simulation.simulate import Simulated, simulate
from geoclick.datasets import LeftOut, Sample
from geoclick.errors import GeoClickError
from geoclick.segmenters.base import Embedding, Segmenter
from geoclick.segmenters.clicking import Prompting
from geoclick.store import Row

S = TypeVar("S")
T = TypeVar("T")

MAY_BE_EMPTY = ("no_target", "semantic")
"""Tasks whose targets are empty by intent: a class is asked for in images without it too."""

READERS = 4
"""Threads that read and decode images while earlier ones are clicked on."""


@dataclass(frozen=True)
class Job:
    """What every shard is made with.

    Attributes:
        segmenter: decodes the clicks.
        max_clicks: clicks that a sequence has at most.
        iou_target: the IoU at which a sequence ends.
        prompting: how the segmenter is prompted.
        seed: of all that is random; recorded with every row.
        batch: prompts that are decoded together.
        image_batch: images that are embedded together.
        clicker: where the clicks go.
        sequences: sequences that each mask gets.
    """

    segmenter: Segmenter
    max_clicks: int
    iou_target: float
    prompting: Prompting
    seed: int
    batch: int
    image_batch: int
    clicker: Clicker
    sequences: int

    @property
    def policy_name(self) -> str:
        """The click policy, the prompting and the switches that differ from their defaults, as rows record them."""
        return f"{self.clicker.rule}+{self.prompting.name}{self.clicker.switches}"

    @property
    def at_once(self) -> int:
        """Sequences that are clicked on together: each needs as many prompts a step as it has candidates."""
        return max(1, self.batch // (self.clicker.candidates if self.clicker.policy == "lookahead" else 1))


@dataclass(frozen=True)
class Task:
    """A sequence to make, of a sample whose image and mask were found good.

    Attributes:
        sample: with image, query and mask.
        target: its mask, bool [H, W].
        valid: the pixels that count, bool [H, W], or None when all do.
        embedding: of its image; None when there is nothing to click on.
        number: of the sequence among those of the sample, from 1.
    """

    sample: Sample
    target: np.ndarray
    valid: np.ndarray | None
    embedding: Embedding | None = None
    number: int = 1

    @property
    def row_id(self) -> str:
        """The sample's id, with `#2` and so on from its second sequence on."""
        return row_id(self.sample.sample_id, self.number)


def row_id(sample_id: str, number: int) -> str:
    """What identifies sequence `number`, from 1, of a sample in the store."""
    return sample_id if number == 1 else f"{sample_id}#{number}"


def split_shards(samples: Sequence[Sample], count: int) -> list[list[Sample]]:
    """Samples in `count` shards of about one size, in order; those of one image share a shard.

    So an image is embedded once in a whole job. A shard may be empty when images have many samples.
    """
    shard_of: dict[str, int] = {}
    shards: list[list[Sample]] = [[] for _ in range(count)]
    for index, sample in enumerate(samples):
        shard = shard_of.setdefault(sample.image, index * count // len(samples))
        shards[shard].append(sample)
    return shards


def run_shard(
    job: Job,
    samples: Sequence[Sample],
    *,
    on_left_out: Callable[[LeftOut], None],
    advance: Callable[[], None],
) -> list[Row]:
    """The rows of one shard, in the order of its samples, all sequences of a sample one after another.

    Args:
        job: what it is made with.
        samples: the shard's samples.
        on_left_out: told of each sample or sequence that gives no row.
        advance: called once for each sample.
    """

    def leave_out(sample: Sample, reason: str, error: str = "") -> None:
        on_left_out(LeftOut(sample.sample_id, reason, error))
        advance()

    rows = {}
    for tasks in _batches(_embedded(job, samples, leave_out), job.at_once):
        clicked = [task for task in tasks if task.embedding is not None]
        results = simulate(
            job.segmenter,
            [task.embedding for task in clicked],
            [task.target for task in clicked],
            [task.valid for task in clicked],
            max_clicks=job.max_clicks,
            iou_target=job.iou_target,
            prompting=job.prompting,
            clicker=job.clicker,
            seed=job.seed,
            sequence_ids=[(task.sample.sample_id, task.number) for task in clicked],
        )
        found = {task.row_id: result for task, result in zip(clicked, results, strict=True)}
        for task in tasks:
            result = found.get(task.row_id)
            if result and not result.clicks:
                # As a row it would say that the query has no target.
                on_left_out(LeftOut(task.row_id, "no click improves"))
            else:
                rows[task.row_id] = _row(job, task, result)
            if task.number == 1:
                advance()
    ids = [row_id(s.sample_id, number) for s in samples for number in range(1, job.sequences + 1)]
    return [rows[one] for one in ids if one in rows]


def _row(job: Job, task: Task, result: Simulated | None) -> Row:
    sample = task.sample
    return Row(
        sample_id=task.row_id,
        dataset=sample.dataset,
        split=sample.split,
        # A class that an image lacks is a question without a target too.
        task=sample.task if result else "no_target",
        image=sample.image,
        width=sample.size[1],
        height=sample.size[0],
        query=sample.query,
        mask=sample.rle,
        clicks=result.clicks if result else (),
        ious=result.ious if result else (),
        segmenter=job.segmenter.name,
        segmenter_sha256=job.segmenter.sha256,
        policy=job.policy_name,
        seed=job.seed,
        category=sample.category,
    )


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    items = iter(items)
    while batch := list(islice(items, size)):
        yield batch


def _embedded(job: Job, samples: Sequence[Sample], leave_out: Callable[..., None]) -> Iterator[Task]:
    """Tasks image by image, each image read and embedded once; one a sample when there is nothing to click on."""
    groups = defaultdict(list)
    for sample in samples:
        groups[sample.image, sample.size].append(sample)
    with ThreadPoolExecutor(READERS) as readers:
        images = _ahead(readers, _read, (group[0] for group in groups.values()), 2 * job.image_batch)
        for batch in _batches(zip(groups.values(), images, strict=True), job.image_batch):
            clicked = [not isinstance(image, GeoClickError) and _has_target(group) for group, image in batch]
            wanted = [image for (_, image), is_clicked in zip(batch, clicked, strict=True) if is_clicked]
            embeddings = iter(job.segmenter.embed(wanted) if wanted else [])
            for (group, image), is_clicked in zip(batch, clicked, strict=True):
                if isinstance(image, GeoClickError):
                    for sample in group:
                        leave_out(sample, "broken image", str(image))
                    continue
                embedding = next(embeddings) if is_clicked else None
                for task in _tasks(group, leave_out):
                    if not task.target.any():
                        yield task
                        continue
                    for number in range(1, job.sequences + 1):
                        yield replace(task, embedding=embedding, number=number)


def _ahead(
    pool: ThreadPoolExecutor, function: Callable[[S], T], items: Iterable[S], count: int
) -> Iterator[T]:
    """The function of each item, in order, worked out in the pool while the caller is busy with earlier ones."""
    pending: deque[Future[T]] = deque()
    for item in items:
        pending.append(pool.submit(function, item))
        if len(pending) > count:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


def _read(sample: Sample) -> np.ndarray | GeoClickError:
    """The image of a sample, or why there is none."""
    try:
        return sample.read_image()
    except GeoClickError as error:
        return error


def _has_target(group: Sequence[Sample]) -> bool:
    """Whether any mask of a group has a pixel; masks that are broken have none."""
    for sample in group:
        with contextlib.suppress(GeoClickError):
            if masks.area(sample.rle):
                return True
    return False


def _tasks(group: Sequence[Sample], leave_out: Callable[..., None]) -> Iterator[Task]:
    """The tasks of a group of samples that can be done; empty targets only by intent."""
    for sample in group:
        try:
            task = Task(sample, sample.mask, sample.valid)
        except GeoClickError as error:
            leave_out(sample, "broken mask", str(error))
            continue
        counted = task.target if task.valid is None else task.target & task.valid
        if sample.task == "no_target" and task.target.any():
            leave_out(
                sample,
                "no_target with a mask",
                f"{sample.sample_id} is a no_target sample with a mask; mend its task or empty the mask.",
            )
        elif not counted.any() and (task.target.any() or sample.task not in MAY_BE_EMPTY):
            leave_out(sample, "empty mask")
        else:
            yield task
