"""Clicks against segmenters: the mean IoU of each segmenter after one click, two clicks and so on.

Oracle clicks follow the center rule with the segmenter in the loop: each click goes to the center of the largest error.
The clicks of an adapter are the same for all segmenters, and are decoded as in predict.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypedDict

from geoclick import files, segmenters
from geoclick.datasets import Sample
from geoclick.errors import GeoClickError
from geoclick.inference.ablation.data import identity, read_images
from geoclick.inference.ablation.options import AblateOptions
from geoclick.inference.ablation.plan import Model
from geoclick.inference.ablation.rows import FOLDER
from geoclick.inference.contrastive.cache import key
from geoclick.inference.generative.mask_decoding import decode_embedded_objects
from geoclick.masks import iou
from geoclick.progress_bar import progress
from geoclick.segmenters.center_rule import next_click
from geoclick.segmenters.clicking import Clicking
from geoclick.yaml_file import Yaml

if TYPE_CHECKING:
    from geoclick.codec import Answer
    from geoclick.segmenters.base import Embedding, Segmenter

NO_TARGET = "no target"
"""Why a sample is left out: there is nothing to click on."""

VERSION = 1
"""Changes when the same clicks and data give other scores."""

BATCH = 16
"""Queries in one call of the VLM."""


class ClickRow(TypedDict):
    """The result of a segmenter.

    Attributes:
        segmenter: as the option names it.
        sha256: of its weights.
        oracle: mean IoU after 1, 2, ... oracle clicks.
        adapter: mean IoU after 1, 2, ... clicks of each part of the adapter's answers; None without an adapter.
        samples: their number.
        cpu_seconds: of all threads of the process.
    """

    segmenter: str
    sha256: str
    oracle: list[float]
    adapter: list[float] | None
    samples: int
    cpu_seconds: float


class ClickData(NamedTuple):
    """The samples of an ablation of clicks.

    Attributes:
        images: the samples of each image, all with a target.
        decisive: what decides the scores besides the segmenter.
        left_out: number of samples that were left out, by reason.
    """

    images: list[list[Sample]]
    decisive: dict[str, Yaml]
    left_out: dict[str, int]

    @property
    def samples(self) -> list[Sample]:
        """All samples."""
        return [sample for group in self.images for sample in group]


def read(options: AblateOptions, root: Path, split: str) -> ClickData:
    """Read the samples with a target of a split.

    Raises:
        UsageError: the root has no such layout or split.
        GeoClickError: a file is broken, or no sample has a target.
    """
    groups, left_out = read_images(options, root, split)
    with_target = [[sample for sample in group if sample.mask.any()] for group in groups]
    left_out[NO_TARGET] += sum(map(len, groups)) - sum(map(len, with_target))
    images = [group for group in with_target if group]
    if not images:
        raise GeoClickError(
            f"{root} has no sample with a target in the split {split}; check --root and --split."
        )
    decisive: dict[str, Yaml] = identity(options, images) | {"clicks": options.max_clicks}
    return ClickData(images, decisive, {reason: count for reason, count in left_out.items() if count})


def row_of(
    model: Model, options: AblateOptions, data: ClickData, answers: "Sequence[Answer] | None"
) -> ClickRow:
    """The row of a segmenter, from the output folder if it was measured there; else it is written there.

    Raises:
        UsageError: an unknown segmenter.
        GeoClickError: its weights cannot be read.
    """
    segmenter = segmenters.load(model.name, checkpoint=model.checkpoint, device=options.device)
    setting = data.decisive | {"version": VERSION, "segmenter": segmenter.name, "sha256": segmenter.sha256}
    path = Path(options.output) / FOLDER / f"{key(setting)}.json"
    if path.is_file():
        row: ClickRow = json.loads(path.read_text(encoding="utf-8"))
        return row
    row = measure(segmenter, data, options.max_clicks or 1, answers, str(model))
    files.write_whole(path, json.dumps(row, indent=1) + "\n")
    return row


def measure(
    segmenter: "Segmenter", data: ClickData, count: int, answers: "Sequence[Answer] | None", name: str
) -> ClickRow:
    """The mean IoU of a segmenter after 1 to `count` clicks.

    Args:
        segmenter: decodes the clicks.
        data: the samples.
        count: of clicks.
        answers: of the adapter, for all samples in order; None without one.
        name: of the segmenter.
    """
    start, oracle, adapted, done = time.process_time(), list[list[float]](), list[list[float]](), 0
    with progress(name, len(data.samples)) as bar:
        for group in data.images:
            image = group[0].read_image()
            embeddings = segmenter.embed([image]) * len(group)
            oracle += oracle_ious(segmenter, embeddings, group, count)
            if answers is not None:
                adapted += answer_ious(segmenter, embeddings, group, answers[done : done + len(group)], count)
            done += len(group)
            bar.advance(len(group))
    return ClickRow(
        segmenter=name,
        sha256=segmenter.sha256,
        oracle=_means(oracle, count),
        adapter=_means(adapted, count) if answers is not None else None,
        samples=done,
        cpu_seconds=time.process_time() - start,
    )


def oracle_ious(
    segmenter: "Segmenter", embeddings: "Sequence[Embedding]", samples: Sequence[Sample], count: int
) -> list[list[float]]:
    """The IoU of each sample after 1 to `count` clicks of the center rule; a perfect mask stays as it is."""
    state = Clicking(segmenter, embeddings)
    found: list[list[float]] = [[] for _ in samples]
    for _ in range(count):
        rows = zip(samples, state.masks, state.sequences, strict=True)
        state.step([next_click(sample.mask, mask, clicked, sample.valid) for sample, mask, clicked in rows])
        for own, sample, mask in zip(found, samples, state.masks, strict=True):
            own.append(iou(mask, sample.mask, sample.valid))
    return found


def answer_ious(
    segmenter: "Segmenter",
    embeddings: "Sequence[Embedding]",
    samples: Sequence[Sample],
    answers: "Sequence[Answer]",
    count: int,
) -> list[list[float]]:
    """The IoU of each sample with the first 1 to `count` clicks of each part of its answer."""
    given = [i for i, answer in enumerate(answers) if answer.prompts]
    # Without clicks the mask is empty, and no sample has an empty target.
    found: list[list[float]] = [[] if answer.prompts else [0.0] * count for answer in answers]
    for number in range(1, count + 1):
        objects = [[replace(part, clicks=part.clicks[:number]) for part in answers[i].prompts] for i in given]
        decoded = decode_embedded_objects(segmenter, [embeddings[i] for i in given], objects)
        for i, one in zip(given, decoded, strict=True):
            found[i].append(iou(one.mask, samples[i].mask, samples[i].valid))
    return found


def adapter_answers(options: AblateOptions, data: ClickData) -> "list[Answer]":
    """The answers of an adapter to all samples, and into `data.decisive` what decides them.

    Raises:
        GeoClickError: the adapter is broken or does not fit its base.
    """
    from geoclick import devices, vlms
    from geoclick.inference.backends.local import Local
    from geoclick.inference.generative.answering import read_answers
    from geoclick.inference.generative.settings import Generation
    from geoclick.vlms import adapter, quantization
    from geoclick.vlms.loading import default_dtype

    folder = Path(str(options.adapter))
    record, device = adapter.read_record(folder), devices.choose(options.device)
    quantized = quantization.of_adapter("auto", folder, default_dtype(device), device)
    vlm = vlms.load(record.base, adapter=folder, device=device, quantized=quantized)
    backend = Local(vlm, Generation(batch_size=BATCH))
    data.decisive["adapter_sha256"] = files.sha256(folder / adapter.WEIGHTS)
    answers: list[Answer] = []
    with progress("adapter", len(data.samples)) as bar:
        for group in data.images:
            image = group[0].read_image()
            replies = backend.answer([image] * len(group), [sample.query for sample in group])
            sizes = [(image.shape[0], image.shape[1])] * len(group)
            texts = [reply.text for reply in replies]
            answers += read_answers(vlm, texts, sizes, answer_format=record.answer_format)
            bar.advance(len(group))
    return answers


def _means(ious: list[list[float]], count: int) -> list[float]:
    return [sum(own[k] for own in ious) / len(ious) for k in range(count)]
