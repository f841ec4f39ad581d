"""Making and writing one shard, the same for every engine: embed each image once, click on its masks in batches."""

import contextlib
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import torch

from geoclick import masks, store
from geoclick.data_synthesis.shards import corrections, progress, sequences, shown_masks
from geoclick.data_synthesis.shards.job import Job, row_id
from geoclick.data_synthesis.shards.sequences import Task
from geoclick.data_synthesis.shards.student import Student
from geoclick.data_synthesis.simulation.parts import Parted
from geoclick.datasets import LeftOut, Sample
from geoclick.datasets.reading import check_aspect
from geoclick.errors import GeoClickError
from geoclick.segmenters.base import Embedding
from geoclick.store import Row

S = TypeVar("S")
T = TypeVar("T")

MAY_BE_EMPTY = ("no_target", "semantic")
"""Tasks whose targets may be empty: queries also name classes that an image lacks."""

READERS = 4
"""Threads that read and decode images while earlier ones are clicked on."""


@dataclass(frozen=True)
class Shard:
    """The content of a shard.

    Attributes:
        rows: in the order of the samples.
        left_out: samples and sequences without a row.
        seconds: time that it took.
    """

    rows: list[Row]
    left_out: list[LeftOut]
    seconds: float


class LeaveOut(Protocol):
    """Counts a sample that is left out."""

    def __call__(self, sample: Sample, reason: str, error: str = "") -> None:
        """Leave a sample out, with the reason and, for a failure, the error."""
        ...


def make(job: Job, samples: Sequence[Sample], advance: Callable[[], None] = lambda: None) -> Shard:
    """Click on the samples of one shard.

    Args:
        job: how the shard is made.
        samples: those of the shard.
        advance: called once for each sample.

    Returns:
        The shard; its rows are in the order of the samples, all sequences of a sample one after another.

    Raises:
        GeoClickError: the device ran out of memory.
    """
    start = time.perf_counter()
    left_out: list[LeftOut] = []
    try:
        rows = _make_rows(job, samples, left_out, advance)
    except torch.OutOfMemoryError as error:
        raise GeoClickError(
            f"The device ran out of memory with --batch {job.batch} --image-batch {job.image_batch}; "
            "rerun the command with smaller values to continue."
        ) from error
    return Shard(rows, left_out, time.perf_counter() - start)


def write(output: Path, index: int, count: int, shard: Shard) -> None:
    """Write shard `index` of `count`; the account first, since a shard that exists is not made again."""
    progress.write_account(output, index, shard.left_out, shard.seconds)
    store.write_shard(output, index, count, shard.rows)


def _make_rows(
    job: Job, samples: Sequence[Sample], left_out: list[LeftOut], advance: Callable[[], None]
) -> list[Row]:
    def leave_out(sample: Sample, reason: str, error: str = "") -> None:
        left_out.append(LeftOut(sample.sample_id, reason, error))
        advance()

    rows: dict[str, list[Row]] = {}
    for tasks in _batches(_embedded(job, samples, leave_out), job.sequences_at_once):
        results = sequences.make(job, [task for task in tasks if task.own is None])
        results |= corrections.make(job, [task for task in tasks if task.own is not None])
        for task in tasks:
            result = results.get(task.row_id)
            if result and not result.sequence.clicks:
                # A row without clicks would mean that the query has no target.
                left_out.append(LeftOut(task.row_id, "no click improves"))
            else:
                rows[task.row_id] = [_row(job, task, result.sequence if result else None)]
                counts = result.counts if result else {}
                left_out += [LeftOut(task.row_id, reason, count=n) for reason, n in counts.items()]
            if task.number == 1:
                advance()
        if job.show_masks:
            rows |= shown_masks.of_tasks(
                job, [(task, row) for task in tasks for row in rows.get(task.row_id, ())]
            )
    ids = [row_id(s.sample_id, number) for s in samples for number in range(1, job.sequences + 1)]
    return [row for one in ids if one in rows for row in rows[one]]


def _row(job: Job, task: Task, result: Parted | None) -> Row:
    sample = task.sample
    return Row(
        sample_id=task.row_id,
        dataset=sample.dataset,
        split=sample.split,
        # A query for a class that the image lacks has no target either.
        task=sample.task if result else "no_target",
        image=sample.image,
        width=sample.size[1],
        height=sample.size[0],
        query=sample.query,
        mask=sample.rle,
        clicks=result.clicks if result else (),
        ious=result.ious if result else (),
        parts=result.parts if result else (),
        given=result.given if result else 0,
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


def _embedded(job: Job, samples: Sequence[Sample], leave_out: LeaveOut) -> Iterator[Task]:
    """Tasks image by image, each image read and embedded once."""
    groups = defaultdict(list)
    for sample in samples:
        groups[sample.image, sample.size].append(sample)
    with ThreadPoolExecutor(READERS) as readers:
        images = _ahead(readers, _read, (group[0] for group in groups.values()), 2 * job.image_batch)
        for batch in _batches(zip(groups.values(), images, strict=True), job.image_batch):
            asked: list[tuple[Task, np.ndarray]] = []
            for (group, image), embedding in zip(batch, _embed(job, batch), strict=True):
                if isinstance(image, GeoClickError):
                    for sample in group:
                        leave_out(sample, "broken image", str(image))
                    continue
                tasks = _tasks(job, group, embedding, leave_out)
                if job.student is None:
                    yield from tasks
                else:
                    asked += [(task, image) for task in tasks]
            if job.student is not None:
                yield from _answered(job.student, asked, leave_out)


def _answered(
    student: Student, asked: Sequence[tuple[Task, np.ndarray]], leave_out: LeaveOut
) -> Iterator[Task]:
    """The tasks of some images with the clicks of the model; those of an empty target without."""
    refused = {task.sample.image: student.refusal(task.sample.size) for task, _ in asked}
    chosen = [
        (task, image)
        for task, image in asked
        if task.number == 1 and task.embedding is not None and not refused[task.sample.image]
    ]
    answers = student.answer([image for _, image in chosen], [task.sample.query for task, _ in chosen])
    own = {
        task.sample.sample_id: tuple(part for part in answer.parts if part)
        for (task, _), answer in zip(chosen, answers, strict=True)
    }
    for task, _ in asked:
        if task.embedding is None:
            yield task
        elif refused[task.sample.image]:
            if task.number == 1:
                leave_out(task.sample, "image that the model cannot take", refused[task.sample.image])
        else:
            yield replace(task, own=own[task.sample.sample_id])


def _embed(
    job: Job, batch: Sequence[tuple[Sequence[Sample], np.ndarray | GeoClickError]]
) -> list[Embedding | None]:
    """The embedding of each image; None if it is broken or has nothing to click on."""
    images = [
        None if isinstance(image, GeoClickError) or not _has_target(group) else image
        for group, image in batch
    ]
    clicked = [image for image in images if image is not None]
    embeddings = iter(job.segmenter.embed(clicked) if clicked else [])
    return [None if image is None else next(embeddings) for image in images]


def _ahead(
    pool: ThreadPoolExecutor, function: Callable[[S], T], items: Iterable[S], count: int
) -> Iterator[T]:
    """The function of each item, in order, computed in the pool up to `count` items ahead of the caller."""
    pending: deque[Future[T]] = deque()
    for item in items:
        pending.append(pool.submit(function, item))
        if len(pending) > count:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


def _read(sample: Sample) -> np.ndarray | GeoClickError:
    """The image of a sample, or the error of reading it."""
    try:
        check_aspect(sample.size)
        return sample.read_image()
    except GeoClickError as error:
        return error


def _has_target(group: Sequence[Sample]) -> bool:
    """Whether any mask of a group has a pixel; broken masks have none."""
    for sample in group:
        with contextlib.suppress(GeoClickError):
            if masks.area(sample.rle):
                return True
    return False


def _tasks(
    job: Job, group: Sequence[Sample], embedding: Embedding | None, leave_out: LeaveOut
) -> Iterator[Task]:
    """The tasks of the samples of one image: one per sequence, a single one for an empty target."""
    for task in _valid_tasks(group, leave_out):
        if not task.target.any():
            yield task
            continue
        for number in range(1, job.sequences + 1):
            yield replace(task, embedding=embedding, number=number)


def _valid_tasks(group: Sequence[Sample], leave_out: LeaveOut) -> Iterator[Task]:
    """A task of each valid sample of a group; targets are empty only if their task allows it."""
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
                f"{sample.sample_id} is a no_target sample with a mask; fix its task or empty the mask.",
            )
        elif not counted.any() and (task.target.any() or sample.task not in MAY_BE_EMPTY):
            leave_out(sample, "empty mask")
        else:
            yield task
