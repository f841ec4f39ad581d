"""The comparison of two runs in numbers, as compare.json holds it; differences are B minus A."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np

from geoclick.inference.evaluation.results import PARTS
from geoclick.inference.reports import significance
from geoclick.inference.reports.record_pairs import RecordPairs
from geoclick.inference.reports.significance import Difference
from geoclick.scoring.intervals import image_sums
from geoclick.scoring.semantic import BACKGROUND

IOU, PIXELS, BOUNDARY = slice(0, 1), slice(1, 3), slice(3, 4)
"""Columns of record_pairs.NUMBERS."""


class TestedDifference(Difference):
    """A difference with the p-value of a permutation test; None where a score is undefined."""

    p_value: float | None


class GroupDifference(Difference):
    """The difference of a group of `n` samples, or of a class that `n` images were asked for."""

    n: int


class Scores(TypedDict):
    """Differences of the scores that a mode has, and of the groups of every key of PARTS."""

    miou: TestedDifference
    oiou: NotRequired[Difference]
    boundary_iou: NotRequired[Difference]
    foreground_iou: NotRequired[Difference]
    by_task: NotRequired[dict[str, GroupDifference]]
    by_category: NotRequired[dict[str, GroupDifference]]
    by_size: NotRequired[dict[str, GroupDifference]]
    by_query_kind: NotRequired[dict[str, GroupDifference]]


class Comparison(Scores):
    """The content of compare.json.

    Attributes:
        a: folder of run A.
        b: folder of run B.
        mode: of both.
        n: samples.
        images: their images, over which intervals and p-values are computed.
        seed: of resamples and permutations.
        verdict: see `verdict`.
        wins: samples with a higher IoU in B.
        losses: samples with a lower IoU in B.
        ties: samples with equal IoU.
        answers: shares of the answers in the requested format and numbers of answers by status, as [of A, of B]; None
            where there are none.
        protocol: what differs between the protocols, by key, as [of A, of B].
    """

    a: str
    b: str
    mode: str
    n: int
    images: int
    seed: int
    verdict: str
    wins: int
    losses: int
    ties: int
    answers: dict[str, list[float | None]]
    protocol: dict[str, list[Any]]


def compare(
    folders: tuple[Path, Path], summaries: Sequence[dict[str, Any]], pairs: RecordPairs, seed: int
) -> Comparison:
    """The comparison of two runs.

    Args:
        folders: of A and of B.
        summaries: the metrics.json of A and of B, with the same mode.
        pairs: their records.
        seed: of resamples and permutations.
    """
    protocols = [summary["protocol"] for summary in summaries]
    a, b = (numbers[:, 0] for numbers in pairs.arrays())
    mode = protocols[0].get("mode", "")
    scores = semantic_scores(pairs, seed) if mode == "semantic" else sample_scores(pairs, seed)
    return {
        "a": str(folders[0]),
        "b": str(folders[1]),
        "mode": mode,
        "n": len(a),
        "images": len(set(pairs.images)),
        "seed": seed,
        "verdict": verdict(scores["miou"]),
        "wins": int(np.count_nonzero(b > a)),
        "losses": int(np.count_nonzero(b < a)),
        "ties": int(np.count_nonzero(b == a)),
        **scores,
        "answers": answers([summary.get("answers", {}) for summary in summaries]),
        "protocol": {
            key: [protocol.get(key) for protocol in protocols]
            for key in dict.fromkeys([*protocols[0], *protocols[1]])
            if protocols[0].get(key) != protocols[1].get(key)
        },
    }


class Answers(TypedDict, total=False):
    """The `answers` of a metrics.json, or those of all samples in it."""

    parse_rate: float | None
    by_status: dict[str, int]
    sampled: "Answers"


def answers(runs: Sequence[Answers]) -> dict[str, list[float | None]]:
    """The answers of two runs side by side, see `Comparison`; empty if no model was asked."""
    if all(run.get("parse_rate") is None for run in runs):
        return {}
    rates: dict[str, list[float | None]] = {"parse_rate": [run.get("parse_rate") for run in runs]}
    if any("sampled" in run for run in runs):
        rates["sampled_parse_rate"] = [run.get("sampled", {}).get("parse_rate") for run in runs]
    counts = [run.get("by_status", {}) for run in runs]
    return rates | {
        status: [count.get(status, 0) for count in counts] for status in sorted({*counts[0], *counts[1]})
    }


def sample_scores(pairs: RecordPairs, seed: int) -> Scores:
    """The differences of scores that are means over samples, or sums of their pixels; their units are images."""
    numbers, images = pairs.arrays(), np.array(pairs.images)
    everything = np.arange(len(images))

    def units(columns: slice, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The sums of columns, and the number of samples, of each image of some rows, for A and for B."""
        ones = np.ones((len(rows), 1))
        a, b = (image_sums(np.hstack([run[rows, columns], ones]), images[rows]) for run in numbers)
        return a, b

    ious, pixels = units(IOU, everything), units(PIXELS, everything)
    scores: Scores = {
        "miou": {
            **significance.difference(*ious, significance.mean, seed),
            "p_value": significance.p_value(*ious, significance.mean, seed),
        },
        "oiou": significance.difference(pixels[0][:, :2], pixels[1][:, :2], significance.mean_ratio, seed),
        "boundary_iou": significance.difference(*units(BOUNDARY, everything), significance.mean, seed),
    }
    for part, (order, _) in PARTS.items():
        groups, differences = pairs.groups[part], dict[str, GroupDifference]()
        for name in (n for n in order or sorted(groups) if n in groups):
            rows = np.array(groups[name])
            differences[name] = {
                "n": len(rows),
                **significance.difference(*units(IOU, rows), significance.mean, seed),
            }
        scores[part] = differences  # type: ignore[literal-required]
    return scores


def semantic_scores(pairs: RecordPairs, seed: int) -> Scores:
    """The differences of scores of classes over the complete test set, whose units are images."""
    images, classes = np.array(pairs.images), pairs.groups["by_category"]
    tables = []
    for numbers in pairs.arrays():
        # [images, 2 * classes]: intersections, then unions.
        pixels = np.zeros((2, images.max() + 1, len(classes)))
        for column, rows in enumerate(map(np.array, classes.values())):
            for plane, values in zip(pixels, numbers[rows, PIXELS].T, strict=True):
                np.add.at(plane[:, column], images[rows], values)
        tables.append(np.hstack(list(pixels)))
    a, b = tables
    miou = significance.difference(a, b, significance.mean_ratio, seed)
    scores: Scores = {"miou": {**miou, "p_value": significance.p_value(a, b, significance.mean_ratio, seed)}}
    by_class: dict[str, GroupDifference] = {}
    for column, name in enumerate(classes):
        own = slice(column, None, len(classes))
        difference = significance.difference(a[:, own], b[:, own], significance.mean_ratio, seed)
        by_class[name] = {"n": len(classes[name]), **difference}
    foreground = [name for name in classes if name != BACKGROUND]
    if len(foreground) == 1:
        one = by_class[foreground[0]]
        scores["foreground_iou"] = {
            "a": one["a"],
            "b": one["b"],
            "difference": one["difference"],
            "interval": one["interval"],
        }
    return {**scores, "by_category": by_class}


def verdict(miou: TestedDifference) -> str:
    """Which run is better, by interval and p-value together.

    With few images the bootstrap's interval is too narrow, so that the p-value must agree.
    """
    low, high = miou["interval"] or (0, 0)
    p_value = miou["p_value"]
    if (low > 0 or high < 0) and p_value is not None and p_value < 0.05:
        return "B is better" if low > 0 else "A is better"
    return "no difference that these samples show"


def summary_text(result: Comparison) -> str:
    """The comparison in two lines, for the terminal."""
    miou, n = result["miou"], result["n"]
    counts = (
        f"of {n} samples on {result['images']} images {result['wins']} are better in B, "
        f"{result['losses']} worse, {result['ties']} equal"
    )
    if miou["difference"] is None or miou["interval"] is None:
        return f"no mIoU to compare, since no class is in any target or mask of one of the runs; {counts}"
    low, high = miou["interval"]
    return (
        f"mIoU of A {miou['a']:.3f}, of B {miou['b']:.3f}: {miou['difference']:+.3f} ({low:+.3f} to {high:+.3f}), "
        f"p = {miou['p_value']:.4f}: {result['verdict']}\n{counts}"
    )
