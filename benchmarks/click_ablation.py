"""What clicks are worth: one to six of them, positive only or of both signs, replayed or all in one prompt.

    python -m benchmarks.click_ablation --output runs/ablation

The clicks are those of the center rule with the segmenter in the loop, on every sample with a target; no VLM is asked.
Writes ablation.json and prints a table of mean IoU after so many clicks.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from geoclick import config, files
from geoclick.command import Command
from geoclick.config import option
from geoclick.options import DatasetOptions

if TYPE_CHECKING:
    from geoclick.datasets import Sample
    from geoclick.segmenters import Segmenter

NEVER = 2.0
"""An IoU target that no mask reaches: every sequence gets all its clicks."""


@dataclass(frozen=True, kw_only=True)
class AblationOptions(DatasetOptions):
    """What `python -m benchmarks.click_ablation` takes."""

    output: str = option(help="folder for ablation.json")
    dataset: str = option("scenes-v1", help="layout of the dataset: folder, coco, raster, or scenes-v1")
    split: str = option("test", help="name of the split")
    segmenter: str = option("embedded", help="embedded, or sam_vit_b|l|h with --checkpoint")
    checkpoint: str | None = option(None, help="weights of the segmenter, a .pth file")
    device: str = option("auto", help="auto, cpu, cuda or cuda:N")
    clicks: int = option(6, help="clicks of a sequence", minimum=1)
    limit: int | None = option(None, help="only the first samples of the split", minimum=1)


def curves(segmenter: "Segmenter", samples: "Sequence[Sample]", clicks: int, *, positive_only: bool) -> dict:
    """IoU after 1 to `clicks` clicks of samples of one image, by decoding: lists [samples, clicks]."""
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
        iou_target=NEVER,
        clicker=Clicker(positive_only=positive_only),
    )
    # A sequence that ends early, because nothing is left to click on, keeps its last mask.
    replayed = [[s.ious[min(k, len(s.ious) - 1)] for k in range(clicks)] for s in simulated]
    joint = []
    for count in range(1, clicks + 1):
        masks = [a.mask for a in clicking.joint(segmenter, embeddings, [s.clicks[:count] for s in simulated])]
        joint.append([iou(*given) for given in zip(masks, targets, valids, strict=True)])
    return {"replay": replayed, "joint": np.transpose(joint).tolist()}


def run(options: AblationOptions) -> None:
    """Click, decode in both ways, write the means."""
    from rich.progress import track

    from geoclick import datasets, segmenters

    root = datasets.root_of(options.dataset, options.root)
    samples = datasets.read(options.dataset, root, options.split, options=options.reading())
    samples = [sample for sample in islice(samples, options.limit) if sample.task != "no_target"]
    segmenter = segmenters.load(options.segmenter, checkpoint=options.checkpoint, device=options.device)
    images = [list(group) for _, group in groupby(samples, key=lambda sample: sample.image)]
    found: dict[str, list] = {}
    for group in track(images, "Clicking"):
        for signs, positive_only in (("both signs", False), ("positive only", True)):
            of_group = curves(segmenter, group, options.clicks, positive_only=positive_only)
            for decoding, rows in of_group.items():
                found.setdefault(f"{signs}, {decoding}", []).extend(rows)
    means = {name: np.mean(rows, axis=0).round(4).tolist() for name, rows in found.items()}
    made = {"samples": len(samples), "segmenter": segmenter.name, "segmenter_sha256": segmenter.sha256}
    config.write_config(options, Path(options.output))
    files.write_whole(
        Path(options.output) / "ablation.json", json.dumps(made | {"miou": means}, indent=2) + "\n"
    )
    print(f"{'':<24}" + "".join(f"{k:>8}" for k in range(1, options.clicks + 1)))
    for name, row in means.items():
        print(f"{name:<24}" + "".join(f"{value:>8.3f}" for value in row))
    print(f"mean IoU of {len(samples)} samples after so many clicks")


main = Command(
    prog="python -m benchmarks.click_ablation",
    options=AblationOptions,
    run=run,
    description="Measure what clicks are worth, by number, signs and decoding.",
    example="python -m benchmarks.click_ablation --output runs/ablation",
)


if __name__ == "__main__":
    sys.exit(main())
