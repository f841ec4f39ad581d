"""Mean IoU of the contrastive pipeline over the limits of proposals, on the copy of LoveDA with the embedded models.

    python -m benchmarks.proposal_limits --output runs/proposal_limits

For each pair of limits: the vote of the dense labels inside the proposals, the oracle (uncovered pixels are the
background's), the number of proposals and their coverage. Writes limits.json and prints a table.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geoclick import config, files
from geoclick.command import Command
from geoclick.config import option
from geoclick.datasets.benchmarks import BENCHMARKS
from geoclick.datasets.class_maps import IGNORED

DATASET, SEED = "loveda", 0


@dataclass(frozen=True, kw_only=True)
class LimitOptions:
    """Options of `python -m benchmarks.proposal_limits`."""

    output: str = option(help="folder for limits.json")
    images: int = option(6, help="number of images", minimum=1)
    points: int = option(16, help="clicks along each side of an image", minimum=1)
    predicted_iou: tuple[float, ...] = option((0.2, 0.3, 0.4, 0.5, 0.6, 0.88), help="limits of predicted IoU")
    stability: tuple[float, ...] = option((0.5, 0.7, 0.8, 0.85, 0.9, 0.95), help="limits of stability")
    device: str = option("auto", help="auto, cpu, cuda or cuda:N")
    threads: int | None = option(None, help="threads of PyTorch (default: one for each core)", minimum=1)


class Confusion:
    """The pixels of each true and predicted class, of all images."""

    def __init__(self, classes: int) -> None:
        self.matrix = np.zeros((classes, classes), np.int64)

    def add(self, predicted: np.ndarray, truth: np.ndarray) -> None:
        """Count an image; ignored pixels are left out."""
        valid, count = truth != IGNORED, len(self.matrix)
        pairs = truth[valid].astype(np.int64) * count + predicted[valid]
        self.matrix += np.bincount(pairs, minlength=count**2).reshape(count, count)

    def mean_iou(self) -> float:
        """Over the classes that occur."""
        both = np.diag(self.matrix)
        union = self.matrix.sum(0) + self.matrix.sum(1) - both
        return round(float(np.mean(both[union > 0] / union[union > 0])), 4)


def measure(options: LimitOptions) -> dict[str, dict[str, float]]:
    """The figures of the dense labels, and of each pair of limits as `IoU/stability`."""
    from geoclick import segmenters
    from geoclick.inference.contrastive import pipeline, selection
    from geoclick.inference.contrastive.proposals import propose
    from geoclick.scenes.copies.semantic import paint

    benchmark = BENCHMARKS[DATASET]
    listed = "; ".join(", ".join(names) for names in benchmark.prompts)
    dense = pipeline.load(listed, "clearclip", device=options.device)
    segmenter, count = segmenters.load(device=options.device), len(benchmark.names)
    pairs = [(iou, stability) for stability in options.stability for iou in options.predicted_iou]
    scores = {name: Confusion(count) for name in ("dense", *map(_name, pairs))}
    oracles = {pair: Confusion(count) for pair in pairs}
    covered: dict[tuple[float, float], list[tuple[int, float]]] = {pair: [] for pair in pairs}
    for index in range(options.images):
        image, truth = (np.asarray(one) for one in paint(DATASET, SEED, index))
        labels = dense.predict(image).labels
        scores["dense"].add(labels, truth)
        for iou, stability in pairs:
            proposals = propose(
                segmenter, image, points_per_side=options.points, predicted_iou=iou, stability=stability
            )
            pair = iou, stability
            scores[_name(pair)].add(selection.vote(labels, proposals, count), truth)
            oracles[pair].add(selection.oracle_proposals(truth, proposals, count), truth)
            covered[pair].append((len(proposals), selection.coverage(proposals, labels.shape[:2])))
    rows = {"dense": {"miou": scores["dense"].mean_iou()}}
    for pair in pairs:
        number, share = np.mean(covered[pair], axis=0).tolist()
        rows[_name(pair)] = {
            "miou": scores[_name(pair)].mean_iou(),
            "oracle": oracles[pair].mean_iou(),
            "proposals": round(number, 1),
            "coverage": round(share, 4),
        }
    return rows


def _name(pair: tuple[float, float]) -> str:
    return f"{pair[0]}/{pair[1]}"


def run(options: LimitOptions) -> None:
    """Measure and write the table."""
    import torch

    if options.threads:
        torch.set_num_threads(options.threads)
    rows = measure(options)
    folder = Path(options.output)
    config.write_config(options, folder)
    files.write_whole(folder / "limits.json", json.dumps(rows, indent=2) + "\n")
    print(f"{'IoU/stability':<15}{'mIoU':>8}{'oracle':>8}{'masks':>8}{'covered':>9}")
    for name, row in rows.items():
        shown = "".join(f"{value:>{width}}" for value, width in zip(row.values(), (8, 8, 8, 9), strict=False))
        print(f"{name:<15}{shown}")


main = Command(
    prog="python -m benchmarks.proposal_limits",
    options=LimitOptions,
    run=run,
    description="Measure the contrastive pipeline over the limits of proposals, with the embedded models.",
    example="python -m benchmarks.proposal_limits --output runs/proposal_limits",
)


if __name__ == "__main__":
    sys.exit(main())
