"""The figures of a quality report, for the complete store and for each dataset, task and category in it."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from geoclick.data_synthesis.quality.measures import CODECS, GROUPS, UNCOUNTED, Measures

QUANTILES = (5, 25, 50, 75, 95)
LEVELS = (80, 85, 90)
"""IoUs, in percent, for which the number of clicks (NoC) is computed."""

GRID = 16
"""Cells per side of the map of clicks."""

EDGES = (-32, -16, -8, -4, -2, 0, 2, 4, 8, 16, 32)
"""Edges, in pixels, of the bins of distances to the target's border."""


def all_figures(measures: Measures, flags: Mapping[str, np.ndarray], max_clicks: int) -> dict[str, Any]:
    """The figures of a store, as in quality.json.

    Args:
        measures: the store in numbers.
        flags: bool [N] by reason.
        max_clicks: see `figures`.

    Returns:
        `all`, and `by_dataset`, `by_task`, `by_category` and `by_parts`, each empty if there is only one; samples
        without a category or parts are in no group.
    """
    result: dict[str, Any] = {"all": figures(measures, np.ones(len(measures.rows), bool), flags, max_clicks)}
    for group in GROUPS:
        names = {name: code for code, name in enumerate(measures.names[group]) if name}
        blocks = {
            name: figures(measures, measures.rows[group] == names[name], flags, max_clicks)
            for name in sorted(names)
        }
        result[f"by_{group}"] = blocks if len(blocks) > 1 else {}
    return result


def figures(
    measures: Measures, chosen: np.ndarray, flags: Mapping[str, np.ndarray], max_clicks: int
) -> dict[str, Any]:
    """The figures of some samples of a store.

    Args:
        measures: the store in numbers.
        chosen: the samples, bool [N].
        flags: bool [N] by reason.
        max_clicks: number of clicks that count in the IoUs after clicks and in NoC.

    Returns:
        The numbers of `samples`, of samples with `no_target`, of `sequences` (samples with a target), and of
        sequences `without_clicks`. Of the sequences: `given` (those that begin with clicks of a model), `lengths`,
        `final_iou`, `best_iou`, `below_best` (how many end below their best IoU), `iou_after_clicks`, `noc`. Of their
        clicks: `harmful_clicks` (how many of those after the first lower the IoU), `signs` by position, `places` as
        counts on a grid of the image, `border_distance` in pixels by sign. Of all samples: `tokens` by family and
        format, `flagged` by reason. A mean of no values is None.
    """
    rows = measures.rows[chosen]
    clicks = measures.clicks[chosen[measures.clicks["row"]]]
    with_target = rows["area"] > 0
    sequences = rows[with_target]
    after = iou_after_clicks(measures, chosen & measures.targets, max_clicks)
    return {
        "samples": len(rows),
        "no_target": int(np.count_nonzero(~with_target)),
        "sequences": len(sequences),
        "without_clicks": int(np.count_nonzero(sequences["clicks"] == 0)),
        "given": _given(sequences[sequences["given"] > 0]),
        "lengths": _lengths(sequences["clicks"]),
        "final_iou": spread(sequences["final_iou"]),
        "best_iou": spread(sequences["best_iou"]),
        "below_best": _part(sequences["final_iou"] < sequences["best_iou"], "sequences"),
        "harmful_clicks": _part(harmful(clicks), "later_clicks"),
        "iou_after_clicks": [{"clicks": k + 1, **spread(after[:, k])} for k in range(max_clicks)],
        "noc": {str(level): _noc(after, level / 100) for level in LEVELS},
        "signs": _signs(clicks),
        "places": _places(clicks),
        "border_distance": {"edges": list(EDGES), **_border_distance(clicks)},
        "tokens": _tokens(rows["tokens"]),
        "flagged": {reason: int(np.count_nonzero(flag & chosen)) for reason, flag in flags.items()},
    }


def _given(rows: np.ndarray) -> dict[str, float | int | None]:
    """Of ROW [n] that begin with clicks of a model: their number, its clicks, the mean IoUs, how many end with them."""
    if not len(rows):
        return {"sequences": 0, "clicks": 0, "given_iou": None, "final_iou": None, "ended": 0}
    return {
        "sequences": len(rows),
        "clicks": int(rows["given"].sum()),
        "given_iou": round(float(rows["given_iou"].mean()), 6),
        "final_iou": round(float(rows["final_iou"].mean()), 6),
        "ended": int(np.count_nonzero(rows["given"] == rows["clicks"])),
    }


def iou_after_clicks(measures: Measures, chosen: np.ndarray, max_clicks: int) -> np.ndarray:
    """The IoU of each chosen row after each number of clicks, float [rows, max_clicks].

    A sequence that ended earlier has its last IoU; one without clicks has 0, the IoU of an empty prediction.
    """
    after = np.zeros((len(measures.rows), max_clicks))
    counted = measures.clicks[measures.clicks["position"] < max_clicks]
    after[counted["row"], counted["position"]] = counted["iou"]
    for k in range(1, max_clicks):
        ended = measures.rows["clicks"] <= k
        after[ended, k] = after[ended, k - 1]
    return after[chosen]


def harmful(clicks: np.ndarray) -> np.ndarray:
    """For each click after the first of its sequence, whether it lowers the IoU, bool [later clicks].

    Args:
        clicks: CLICK [M] of complete sequences, as in `Measures`.
    """
    later = np.flatnonzero(clicks["position"] > 0)
    return np.asarray(clicks["iou"][later] < clicks["iou"][later - 1])


def number_of_clicks(after: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """NoC: the clicks after which each sequence first has an IoU of at least `level`.

    Args:
        after: IoU after 1 to K clicks, float [N, K].
        level: an IoU.

    Returns:
        The numbers, int [N], K for sequences that never reach it; and which reach it, bool [N].

    Source:
        The convention of RITM's evaluation (Sofiiuk et al., 2021).
    """
    reached = after >= level
    ever = reached.any(axis=1)
    return np.where(ever, reached.argmax(axis=1) + 1, after.shape[1]), np.asarray(ever)


def spread(values: np.ndarray) -> dict[str, float | None]:
    """Mean and quantiles (linear between samples) of numbers [N]; None if there are none."""
    if len(values) == 0:
        return dict.fromkeys(("mean", *(f"q{q:02d}" for q in QUANTILES)))
    quantiles = np.quantile(values, [q / 100 for q in QUANTILES])
    return {
        "mean": _rounded(values.mean(dtype=np.float64)),
        **{f"q{q:02d}": _rounded(v) for q, v in zip(QUANTILES, quantiles, strict=True)},
    }


def _rounded(value: float) -> float:
    return round(float(value), 6)


def _share(part: np.ndarray) -> float | None:
    return _rounded(part.mean()) if len(part) else None


def _part(part: np.ndarray, of: str) -> dict[str, Any]:
    """The number and the share of the true values of bool [N], and N under the name `of`."""
    return {of: len(part), "number": int(np.count_nonzero(part)), "share": _share(part)}


def _lengths(clicks: np.ndarray) -> dict[str, Any]:
    lengths, counts = np.unique(clicks, return_counts=True)
    by_length = {str(k): int(n) for k, n in zip(lengths.tolist(), counts.tolist(), strict=True)}
    return {"mean": _rounded(clicks.mean()) if len(clicks) else None, "counts": by_length}


def _noc(after: np.ndarray, level: float) -> dict[str, float | None]:
    if len(after) == 0:
        return {"mean": None, "never": None}
    numbers, ever = number_of_clicks(after, level)
    return {"mean": _rounded(numbers.mean()), "never": _share(~ever)}


def _signs(clicks: np.ndarray) -> list[dict[str, Any]]:
    result = []
    for position in range(int(clicks["position"].max(initial=-1)) + 1):
        positive = clicks["positive"][clicks["position"] == position]
        result.append({"position": position + 1, "clicks": len(positive), "positive": _share(positive)})
    return result


def _places(clicks: np.ndarray) -> dict[str, Any]:
    """Clicks by cell of the image, rows from the top, columns from the left."""
    result = {}
    for name, sign in (("positive", True), ("negative", False)):
        some = clicks[clicks["positive"] == sign]
        cells = [(some[axis] * GRID).astype(np.int64).clip(0, GRID - 1) for axis in ("y", "x")]
        counts = np.zeros((GRID, GRID), np.int64)
        np.add.at(counts, tuple(cells), 1)
        result[name] = counts.tolist()
    return {"grid": GRID, **result}


def _border_distance(clicks: np.ndarray) -> dict[str, Any]:
    result = {}
    for name, sign in (("positive", True), ("negative", False)):
        distances = clicks["distance"][clicks["positive"] == sign]
        bars = np.bincount(np.searchsorted(EDGES, distances, side="right"), minlength=len(EDGES) + 1)
        result[name] = {
            "clicks": len(distances),
            "inside": _share(distances > 0),
            **spread(distances),
            "counts": bars.tolist(),
        }
    return result


def _tokens(tokens: np.ndarray) -> dict[str, dict[str, Any]]:
    result: dict[str, dict[str, Any]] = {family: {} for family, _ in CODECS}
    for (family, answer_format), column in zip(CODECS, tokens.T, strict=True):
        counted = column[column != UNCOUNTED]
        result[family][answer_format] = {
            "answers": len(counted),
            **spread(counted),
            "max": int(counted.max()) if len(counted) else None,
        }
    return result
