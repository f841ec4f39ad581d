"""Ablation of clicks: one to six, positive only or of both signs, replayed or all in one prompt.

    python -m benchmarks.click_ablation --output runs/ablation

The clicks are simulated by the center rule with the segmenter in the loop, on every sample with a target; there is no
VLM. Writes ablation.json and prints a table of mean IoU by number of clicks.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from geoclick import config, files
from geoclick.command import Command
from geoclick.config import option
from geoclick.options import DatasetOptions, SegmenterOptions
from geoclick.progress_bar import track

if TYPE_CHECKING:
    from geoclick.datasets import Sample
    from geoclick.segmenters import Segmenter

UNREACHABLE = 2.0
"""An IoU target that no mask reaches, so that every sequence has the maximum number of clicks."""


@dataclass(frozen=True, kw_only=True)
class AblationOptions(DatasetOptions, SegmenterOptions):
    """Options of `python -m benchmarks.click_ablation`."""

    output: str = option(help="folder for ablation.json")
    dataset: str = option(
        "scenes-v1", help="layout of the dataset: folder, coco, raster, scenes-v1 or scenes-v2"
    )
    split: str = option("test", help="name of the split")
    device: str = option("auto", help="auto, cpu, cuda or cuda:N")
    clicks: int = option(6, help="clicks per sequence", minimum=1)
    limit: int | None = option(
        None, help="size of a random pick of the split's samples, which depends on --seed", minimum=1
    )
    first: int | None = option(None, help="only the first samples of the split", minimum=1)
    seed: int = option(0, help="random seed (--limit)", minimum=0)


Curves = dict[str, list[list[float]]]
"""IoUs [samples, clicks] by the way of decoding."""


def curves(
    segmenter: "Segmenter", samples: "Sequence[Sample]", clicks: int, *, positive_only: bool
) -> Curves:
    """IoU of samples of one image after 1 to `clicks` clicks, decoded by `replay` and `joint`."""
    from geoclick.data_synthesis.simulation.policies import Clicker
    from geoclick.data_synthesis.simulation.simulate import simulate
    from geoclick.masks import iou
    from geoclick.segmenters import clicking

    embeddings = segmenter.embed([samples[0].read_image()]) * len(samples)
    targets, valids = [s.mask for s in samples], [s.valid for s in samples]
    simulated = simulate(
        segmenter,
        embeddings,
        targets,
        valids,
        max_clicks=clicks,
        iou_target=UNREACHABLE,
        clicker=Clicker(positive_only=positive_only),
    )
    # A sequence that ends early, because there is no pixel left to click on, repeats its last IoU.
    replayed = [[s.ious[min(k, len(s.ious) - 1)] for k in range(clicks)] for s in simulated]
    joint = []
    for count in range(1, clicks + 1):
        answers = clicking.joint(segmenter, embeddings, [s.clicks[:count] for s in simulated])
        truths = zip(answers, targets, valids, strict=True)
        joint.append([iou(answer.mask, target, valid) for answer, target, valid in truths])
    return {"replay": replayed, "joint": np.transpose(joint).tolist()}


def read_samples(options: AblationOptions) -> "list[list[Sample]]":
    """The samples with a target, grouped by image."""
    from geoclick import datasets
    from geoclick.datasets import selection

    root = datasets.root_of(options.dataset, options.root)
    samples = datasets.read(options.dataset, root, options.split, options=options.reading())
    selected = selection.select(samples, limit=options.limit, first=options.first, seed=options.seed)
    targets = [sample for sample in selected if sample.task != "no_target"]
    return [list(group) for _, group in groupby(targets, key=lambda sample: sample.image)]


def run(options: AblationOptions) -> None:
    """Simulate the clicks, decode them in both ways, and write the mean IoUs."""
    from geoclick import segmenters

    images = read_samples(options)
    segmenter = segmenters.load(options.segmenter, checkpoint=options.checkpoint, device=options.device)
    ious: Curves = {}
    for samples in track(images, "click"):
        for signs, positive_only in (("both signs", False), ("positive only", True)):
            by_decoding = curves(segmenter, samples, options.clicks, positive_only=positive_only)
            for decoding, rows in by_decoding.items():
                ious.setdefault(f"{signs}, {decoding}", []).extend(rows)
    count = sum(map(len, images))
    means = {name: np.mean(rows, axis=0).round(4).tolist() for name, rows in ious.items()}
    figures = {"samples": count, "segmenter": segmenter.name, "segmenter_sha256": segmenter.sha256}
    folder = Path(options.output)
    config.write_config(options, folder)
    files.write_whole(folder / "ablation.json", json.dumps(figures | {"miou": means}, indent=2) + "\n")
    print(f"{'':<24}" + "".join(f"{k:>8}" for k in range(1, options.clicks + 1)))
    for name, row in means.items():
        print(f"{name:<24}" + "".join(f"{value:>8.3f}" for value in row))
    print(f"mean IoU of {count} samples by number of clicks")


main = Command(
    prog="python -m benchmarks.click_ablation",
    options=AblationOptions,
    run=run,
    description="Measure mean IoU by number of clicks, their signs and the way of decoding.",
    example="python -m benchmarks.click_ablation --output runs/ablation",
)


if __name__ == "__main__":
    sys.exit(main())
