"""The work of one shard: embed each of its images once, click on its masks in batches, give rows in order."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TypeVar

import numpy as np

from data_synthesis.simulate import simulate
from geoclick.datasets import LeftOut, Sample
from geoclick.errors import GeoClickError
from geoclick.segmenters.base import Embedding, Segmenter
from geoclick.segmenters.clicking import Policy
from geoclick.store import Row

T = TypeVar("T")


@dataclass(frozen=True)
class Job:
    """What every shard is made with.

    Attributes:
        segmenter: decodes the clicks.
        max_clicks: clicks that a sequence has at most.
        iou_target: the IoU at which a sequence ends.
        policy: how the segmenter is prompted.
        seed: recorded with every row.
        batch: sequences that are decoded together.
        image_batch: images that are embedded together.
    """

    segmenter: Segmenter
    max_clicks: int
    iou_target: float
    policy: Policy
    seed: int
    batch: int
    image_batch: int

    @property
    def policy_name(self) -> str:
        """The rule and the prompting policy, as rows record them."""
        return f"centre+{self.policy.name}"


@dataclass(frozen=True)
class Task:
    """A sample whose image and mask were found good; no embedding when there is nothing to click on."""

    sample: Sample
    target: np.ndarray
    valid: np.ndarray | None
    embedding: Embedding | None = None


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
    """The rows of one shard, in the order of its samples.

    Args:
        job: what it is made with.
        samples: the shard's samples.
        on_left_out: told of each sample that gives no row.
        advance: called once for each sample.
    """

    def leave_out(sample: Sample, reason: str, error: str = "") -> None:
        on_left_out(LeftOut(sample.sample_id, reason, error))
        advance()

    rows = {}
    for tasks in _batches(_embedded(job, samples, leave_out), job.batch):
        clicked = [task for task in tasks if task.embedding is not None]
        results = simulate(
            job.segmenter,
            [task.embedding for task in clicked],
            [task.target for task in clicked],
            [task.valid for task in clicked],
            max_clicks=job.max_clicks,
            iou_target=job.iou_target,
            policy=job.policy,
        )
        found = {task.sample.sample_id: result for task, result in zip(clicked, results, strict=True)}
        for task in tasks:
            result = found.get(task.sample.sample_id)
            clicks, ious = (result.clicks, result.ious) if result else ((), ())
            rows[task.sample.sample_id] = _row(job, task.sample, clicks, ious)
            advance()
    return [rows[sample.sample_id] for sample in samples if sample.sample_id in rows]


def _row(job: Job, sample: Sample, clicks: tuple, ious: tuple[float, ...]) -> Row:
    return Row(
        sample_id=sample.sample_id,
        dataset=sample.dataset,
        split=sample.split,
        task=sample.task,
        image=sample.image,
        width=sample.size[1],
        height=sample.size[0],
        query=sample.query,
        mask=sample.rle,
        clicks=clicks,
        ious=ious,
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
    """Tasks image by image, each image read and embedded once."""
    groups = defaultdict(list)
    for sample in samples:
        groups[sample.image, sample.size].append(sample)
    for batch in _batches(groups.values(), job.image_batch):
        ready = [(image, tasks) for image, tasks in (_load(group, leave_out) for group in batch) if tasks]
        wanted = [image for image, tasks in ready if any(task.target.any() for task in tasks)]
        embeddings = iter(job.segmenter.embed(wanted) if wanted else [])
        for _, tasks in ready:
            embedding = next(embeddings) if any(task.target.any() for task in tasks) else None
            for task in tasks:
                yield replace(task, embedding=embedding) if task.target.any() else task


def _load(group: Sequence[Sample], leave_out: Callable[..., None]) -> tuple[np.ndarray | None, list[Task]]:
    """The image of a group of samples and the tasks on it that can be done; empty targets only by intent."""
    try:
        image = group[0].read_image()
    except GeoClickError as error:
        for sample in group:
            leave_out(sample, "broken image", str(error))
        return None, []
    tasks = []
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
        elif sample.task != "no_target" and not counted.any():
            leave_out(sample, "empty mask")
        else:
            tasks.append(task)
    return image, tasks
