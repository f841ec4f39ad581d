"""The figures of `geoclick evaluate`, checked, and as the model-index of a model card of the hub.

https://github.com/huggingface/hub-docs/blob/main/modelcard.md describes the block.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from geoclick import files
from geoclick.datasets.benchmarks import BENCHMARKS

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

NAME = "model-index.yaml"
METRICS = {
    "miou": "mIoU",
    "foreground_iou": "foreground IoU",
    "oiou": "oIoU",
    **{f"pr@0.{n}": f"Pr@0.{n}" for n in range(5, 10)},
    "boundary_iou": "boundary IoU",
}
"""The scores that are told, as far as a mode has them, and what a table calls them."""
PROTOCOL = (
    "n",
    "mode",
    "question",
    "question_seed",
    "predictor",
    "noise",
    "segmenter",
    "segmenter_sha256",
    "decode",
    "answer_format",
    "prompt_version",
    "max_pixels",
    "temperature",
    "samples_sha256",
    "geoclick",
)
"""What of the protocol is told beside the figures."""
ARGUMENTS = (
    "n",
    "mode",
    "question",
    "predictor",
    "noise",
    "segmenter",
    "decode",
    "answer_format",
    "temperature",
    "samples_sha256",
)
"""What of it stands with every figure of the model-index, so that two runs on one split are told apart."""


@dataclass(frozen=True)
class Evaluation:
    """One run of `geoclick evaluate`.

    Attributes:
        dataset: the benchmark's title, or the reader's name and the dataset's folder, such as `folder: scenes`.
        kind: the reader's name.
        split: of the dataset.
        scores: keys of METRICS to shares of 1.
        interval: (low, high) of the mIoU, 95 % bootstrap; None where there is no mIoU.
        by_task: task to (number of samples, mIoU); empty in the mode `semantic`.
        per_class: class to its IoU over the whole set, in the mode `semantic`; empty in others.
        protocol: the keys of PROTOCOL that it recorded.
    """

    dataset: str
    kind: str
    split: str
    scores: dict[str, float]
    interval: tuple[float, float] | None
    by_task: dict[str, tuple[int, float]]
    per_class: dict[str, float]
    protocol: dict[str, Any]


def of_summary(summary: Mapping[str, Any]) -> Evaluation:
    """The figures in what metrics.json holds.

    Raises:
        ValueError, TypeError, KeyError, IndexError, AttributeError: it is no metrics.json of `geoclick evaluate`.
    """
    protocol, scores = summary["protocol"], summary["scores"]
    kind, root, split = (str(protocol[key]) for key in ("dataset", "root", "split"))
    if kind in BENCHMARKS:
        dataset = BENCHMARKS[kind].title
    else:
        dataset = kind if kind == "scenes-v1" else f"{kind}: {PurePath(root).name}"
    # In the mode `semantic` only a whole set has a score: classes have one of their own, tasks have none, and what no
    # image holds is None.
    semantic = protocol["mode"] == "semantic"
    told = {"miou": scores["miou"]} | {key: scores[key] for key in METRICS if key in scores}
    interval, per_class = scores["miou_interval"], scores["per_class"] if semantic else {}
    if semantic:
        told, per_class = ({k: v for k, v in part.items() if v is not None} for part in (told, per_class))
    return Evaluation(
        dataset,
        kind,
        split,
        {key: _share(value) for key, value in told.items()},
        None if semantic and interval is None else (_share(interval[0]), _share(interval[1])),
        {
            str(task): (int(block["n"]), _share(block["miou"]))
            for task, block in ({} if semantic else summary["by_task"]).items()
        },
        {str(name): _share(value) for name, value in per_class.items()},
        {key: protocol[key] for key in PROTOCOL if protocol.get(key) is not None},
    )


def _share(value: Any) -> float:
    """A number of 0 to 1, and no other."""
    if type(value) not in (int, float) or not 0 <= value <= 1 or math.isnan(value):
        raise ValueError(f"{value!r} is no share of 1")
    return float(value)


def _line(value: Any) -> Any:
    """A text on one line, without the breaks that YAML would fold or lose; other values as they are."""
    return " ".join(value.split()) if isinstance(value, str) else value


def results(evaluation: Evaluation) -> "list[EvalResult]":
    """The figures as the hub's model-index knows them, each with its protocol; by task and class one figure each."""
    from huggingface_hub import EvalResult

    common = {
        "task_type": "image-segmentation",
        "task_name": "Text-prompted segmentation of overhead imagery",
        "dataset_type": _line(evaluation.kind),
        "dataset_name": _line(evaluation.dataset),
        "dataset_split": _line(evaluation.split),
    }
    arguments = {key: _line(evaluation.protocol[key]) for key in ARGUMENTS if key in evaluation.protocol}
    told = [(key, METRICS[key], value, {}) for key, value in evaluation.scores.items()]
    told += [
        ("miou", f"mIoU ({_line(task)})", value, {"task": _line(task), "n": n})
        for task, (n, value) in evaluation.by_task.items()
    ]
    told += [
        ("iou", f"IoU ({_line(name)})", value, {"class": _line(name)})
        for name, value in evaluation.per_class.items()
    ]
    return [
        EvalResult(
            **common,
            metric_type=key,
            metric_name=name,
            metric_value=round(value, 4),
            metric_args=arguments | extra,
        )
        for key, name, value, extra in told
    ]


def write(folder: Path, summary: Mapping[str, Any]) -> None:
    """Write model-index.yaml: a block that stands as it is in the metadata of a model card.

    Args:
        folder: of the run.
        summary: what its metrics.json holds.
    """
    from huggingface_hub import ModelCardData

    protocol = summary["protocol"]
    who = protocol.get("adapter") or protocol.get("vlm") or protocol["predictor"]
    name = _line(PurePath(str(who)).name)
    data = ModelCardData(model_name=name, eval_results=results(of_summary(summary)))
    files.write_whole(folder / NAME, data.to_yaml() + "\n")
