"""The scores of `geoclick evaluate`, validated, and as the model-index of a model card on the hub.

https://github.com/huggingface/hub-docs/blob/main/modelcard.md describes the block.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from geoclick import files

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
"""The reported scores, as far as a mode has them, and their names in tables."""
MAPS = ("clip", "features", "templates", "class_bias", "select", "threshold", "threshold_source")
"""The keys of the protocol of a map of classes that are reported with the scores."""
PROTOCOL = (
    "n",
    "mode",
    "question",
    "question_seed",
    "predictor",
    "noise",
    *MAPS,
    "clip_fingerprint",
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
"""The keys of the protocol that are reported with the scores."""
ARGUMENTS = (
    "n",
    "mode",
    "question",
    "predictor",
    "noise",
    *MAPS,
    "segmenter",
    "decode",
    "answer_format",
    "temperature",
    "samples_sha256",
)
"""The keys recorded with every score of the model-index, which distinguish two runs on one split."""


@dataclass(frozen=True)
class Evaluation:
    """One run of `geoclick evaluate`.

    Attributes:
        dataset: the benchmark's title, or the reader's name and the dataset's folder, such as `folder: scenes`.
        kind: the reader's name.
        split: of the dataset.
        scores: keys of METRICS to shares of 1.
        interval: (low, high) of the mIoU, 95 % bootstrap; None if there is no mIoU.
        by_task: (number of samples, mIoU) by task; empty in mode `semantic`.
        per_class: IoU over the complete set by class, in mode `semantic`; empty in other modes.
        protocol: the keys of PROTOCOL that the run recorded.
    """

    dataset: str
    kind: str
    split: str
    scores: dict[str, float]
    interval: tuple[float, float] | None
    by_task: dict[str, tuple[int, float]]
    per_class: dict[str, float]
    protocol: dict[str, Any]


def of_summary(summary: Mapping[str, Any], titles: Mapping[str, str]) -> Evaluation:
    """The scores in the content of a metrics.json.

    Args:
        summary: the content.
        titles: of the benchmarks, by name.

    Raises:
        ValueError, TypeError, KeyError, IndexError, AttributeError: not a metrics.json of `geoclick evaluate`.
    """
    protocol, scores = summary["protocol"], summary["scores"]
    kind, root, split = (str(protocol[key]) for key in ("dataset", "root", "split"))
    dataset = titles.get(kind) or (kind if kind.startswith("scenes-v") else f"{kind}: {PurePath(root).name}")
    # In mode `semantic` the complete set and its classes have scores, tasks have none, and an absent class has None.
    semantic = protocol["mode"] == "semantic"
    reported = {"miou": scores["miou"]} | {key: scores[key] for key in METRICS if key in scores}
    interval, per_class = scores["miou_interval"], scores["per_class"] if semantic else {}
    if semantic:
        reported = {key: value for key, value in reported.items() if value is not None}
        per_class = {name: value for name, value in per_class.items() if value is not None}
    return Evaluation(
        dataset,
        kind,
        split,
        {key: _share(value) for key, value in reported.items()},
        None if semantic and interval is None else (_share(interval[0]), _share(interval[1])),
        {
            str(task): (int(block["n"]), _share(block["miou"]))
            for task, block in ({} if semantic else summary["by_task"]).items()
        },
        {str(name): _share(value) for name, value in per_class.items()},
        {key: protocol[key] for key in PROTOCOL if protocol.get(key) is not None},
    )


def _share(value: Any) -> float:
    """A number from 0 to 1; raises ValueError for anything else."""
    if type(value) not in (int, float) or not 0 <= value <= 1 or math.isnan(value):
        raise ValueError(f"{value!r} is not a number from 0 to 1")
    return float(value)


def _line(value: Any) -> Any:
    """Text on one line, without the line breaks that YAML would fold or lose; other values unchanged."""
    return " ".join(value.split()) if isinstance(value, str) else value


def results(evaluation: Evaluation) -> "list[EvalResult]":
    """The scores as entries of the hub's model-index, each with its protocol; one more for each task and class."""
    from huggingface_hub import EvalResult

    common = {
        "task_type": "image-segmentation",
        "task_name": "Text-prompted segmentation of overhead imagery",
        "dataset_type": _line(evaluation.kind),
        "dataset_name": _line(evaluation.dataset),
        "dataset_split": _line(evaluation.split),
    }
    arguments = {key: _line(evaluation.protocol[key]) for key in ARGUMENTS if key in evaluation.protocol}
    entries: list[tuple[str, str, float, dict[str, Any]]] = [
        (key, METRICS[key], value, {}) for key, value in evaluation.scores.items()
    ]
    entries += [
        ("miou", f"mIoU ({_line(task)})", value, {"task": _line(task), "n": n})
        for task, (n, value) in evaluation.by_task.items()
    ]
    entries += [
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
        for key, name, value, extra in entries
    ]


def write(folder: Path, summary: Mapping[str, Any], titles: Mapping[str, str]) -> None:
    """Write model-index.yaml, a block that can be pasted into the metadata of a model card.

    Args:
        folder: the run folder.
        summary: the content of its metrics.json.
        titles: of the benchmarks, by name.
    """
    from huggingface_hub import ModelCardData

    protocol = summary["protocol"]
    model = protocol.get("adapter") or protocol.get("vlm") or protocol["predictor"]
    name = _line(PurePath(str(model)).name)
    data = ModelCardData(model_name=name, eval_results=results(of_summary(summary, titles)))
    files.write_whole(folder / NAME, data.to_yaml() + "\n")
