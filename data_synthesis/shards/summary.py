"""The quality of a click store's sequences in figures: metrics.json and the last lines of the command."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from geoclick.data_synthesis.shards import progress
from geoclick.datasets import LeftOut
from geoclick.store import Row


def summarize(rows: Iterable[Row], max_clicks: int, iou_target: float) -> dict[str, Any]:
    """The quality of a store's sequences.

    Args:
        rows: of a click store, read once.
        max_clicks: number of means.
        iou_target: IoU that counts as reached.

    Returns:
        `samples`, the number of rows: a sample has one for each sequence; `no_target`; `sequences`, those with
        clicks, which the others are about; `mean_clicks`; `reached_target`, the fraction that reached the target;
        `mean_iou_after_clicks`, for 1 to `max_clicks`, where a sequence that ended earlier counts with its last IoU;
        `parts`, the number of sequences and the mean of their last IoUs by the number of parts; `on_policy`, see
        `_OnPolicy`, if sequences begin with the clicks of a model.
    """
    samples = sequences = clicks = reached = 0
    own = _OnPolicy()
    sums = [0.0] * max_clicks
    by_parts: dict[int, list[float]] = defaultdict(list)
    for row in rows:
        samples += 1
        if not row.ious:
            continue
        sequences, clicks = sequences + 1, clicks + len(row.ious)
        reached += row.ious[-1] >= iou_target
        by_parts[len(row.parts)].append(row.ious[-1])
        own.add(row)
        for k in range(max_clicks):
            sums[k] += row.ious[min(k, len(row.ious) - 1)]
    divisor = max(sequences, 1)
    return {
        "samples": samples,
        "no_target": samples - sequences,
        "sequences": sequences,
        "mean_clicks": round(clicks / divisor, 4),
        "reached_target": round(reached / divisor, 4),
        "mean_iou_after_clicks": [round(total / divisor, 4) for total in sums],
        "parts": {
            str(parts): {"sequences": len(last), "mean_iou": round(fmean(last), 4)}
            for parts, last in sorted(by_parts.items())
        },
        **({"on_policy": own.figures()} if own.given else {}),
    }


class _OnPolicy:
    """Sequences that begin with the clicks of a model.

    Attributes:
        given: the IoU after the model's clicks of each sequence.
        last: the IoU after the last click of each.
        clicks: number of the model's clicks.
        ended: number of sequences that end with them.
    """

    def __init__(self) -> None:
        self.given, self.last = list[float](), list[float]()
        self.clicks = self.ended = 0

    def add(self, row: Row) -> None:
        """Count a row, if it begins with the clicks of a model."""
        if row.given:
            self.given.append(row.ious[row.given - 1])
            self.last.append(row.ious[-1])
            self.clicks += row.given
            self.ended += row.given == len(row.clicks)

    def figures(self) -> dict[str, float]:
        """`sequences`, `own_clicks` of one, `own_iou`, `iou` at their end, and how many `ended` with own clicks."""
        return {
            "sequences": len(self.given),
            "own_clicks": round(self.clicks / len(self.given), 4),
            "own_iou": round(fmean(self.given), 4),
            "iou": round(fmean(self.last), 4),
            "ended": self.ended,
        }


def read_accounts(output: Path, count: int) -> tuple[list[LeftOut], float]:
    """What all `count` shards of a store left out, and the seconds that they took."""
    left_out: list[LeftOut] = []
    seconds = 0.0
    for index in range(count):
        of_shard, shard_seconds = progress.read_account(output, index)
        left_out, seconds = left_out + of_shard, seconds + shard_seconds
    return left_out, seconds


def counts(metrics: dict[str, Any], left_out: Sequence[LeftOut], seconds: float) -> dict[str, Any]:
    """The rest of metrics.json: what was left out, and the speed."""
    dropped: Counter[str] = Counter()
    for item in left_out:
        if not item.error:
            dropped[item.reason] += item.count
    return {
        "failures": sum(bool(item.error) for item in left_out),
        "dropped": dict(dropped),
        "seconds": round(seconds, 3),
        "masks_per_second": round(metrics["sequences"] / seconds, 3) if seconds else 0.0,
    }


def text(metrics: dict[str, Any], output: Path, unit: str) -> str:
    """The last lines of the command; `unit`, such as " per worker", says whose speed it is."""
    ious = metrics["mean_iou_after_clicks"]
    lines = [
        f"{metrics['samples']} rows in {output}: mean IoU {ious[0]:.3f} after 1 click, "
        f"{ious[-1]:.3f} after {len(ious)}; {metrics['masks_per_second']:.1f} masks/s{unit}"
    ]
    several = {parts: group for parts, group in metrics["parts"].items() if parts != "1"}
    if several:
        count = sum(group["sequences"] for group in several.values())
        mean = sum(group["sequences"] * group["mean_iou"] for group in several.values()) / count
        most = max(map(int, several))
        lines.append(f"{count} targets in 2 to {most} parts: mean IoU {mean:.3f} after their last click")
    if own := metrics.get("on_policy"):
        lines.append(
            f"{own['sequences']} sequences begin with the model's clicks: mean IoU {own['own_iou']:.3f} after these, "
            f"{own['iou']:.3f} at the end; {own['ended']} end with these"
        )
    if metrics["dropped"]:
        lines.append("dropped: " + ", ".join(f"{n} {reason}" for reason, n in metrics["dropped"].items()))
    if metrics["failures"]:
        lines.append(f"warning: {metrics['failures']} failed and are missing; see {output}/failures.jsonl")
    return "\n".join(lines)
