"""The figures of `geoclick evaluate` as a model card needs them: checked to be this model's, and as a model-index."""

import json
import math
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from geoclick.errors import GeoClickError
from train.story import Story

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

METRICS = {"miou": "mIoU", "oiou": "oIoU"} | {f"pr@0.{n}": f"Pr@0.{n}" for n in range(5, 10)}
"""The scores that are told, and what the table calls them."""
PROTOCOL = (
    "n",
    "mode",
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
ARGUMENTS = ("n", "mode", "segmenter", "decode", "answer_format", "temperature", "samples_sha256")
"""What of it stands with every figure of the model-index, so that two runs on one split are told apart."""


@dataclass(frozen=True)
class Evaluation:
    """One run of `geoclick evaluate`.

    Attributes:
        dataset: the reader's name and the dataset's folder, such as `folder: scenes`.
        kind: the reader's name.
        split: of the dataset.
        scores: keys of METRICS to shares of 1.
        interval: (low, high) of the mIoU, 95 % bootstrap.
        by_task: task to (number of samples, mIoU).
        protocol: the keys of PROTOCOL that it recorded.
    """

    dataset: str
    kind: str
    split: str
    scores: dict[str, float]
    interval: tuple[float, float]
    by_task: dict[str, tuple[int, float]]
    protocol: dict[str, Any]


def read(folder: Path, story: Story) -> Evaluation:
    """The figures in an evaluation's folder.

    Args:
        folder: that `geoclick evaluate` wrote.
        story: of the model that the card is about.

    Raises:
        GeoClickError: there are none, they are broken, or they are another model's.
    """
    path = folder / "metrics.json"
    try:
        metrics = json.loads(path.read_text(encoding="utf-8"))
        protocol, scores = metrics["protocol"], metrics["scores"]
        kind, root, split = (str(protocol[key]) for key in ("dataset", "root", "split"))
        found = Evaluation(
            kind if kind == "scenes-v1" else f"{kind}: {PurePath(root).name}",
            kind,
            split,
            {key: _share(scores[key]) for key in METRICS},
            (_share(scores["miou_interval"][0]), _share(scores["miou_interval"][1])),
            {
                str(task): (int(block["n"]), _share(block["miou"]))
                for task, block in metrics["by_task"].items()
            },
            {key: protocol[key] for key in PROTOCOL if key in protocol},
        )
    except FileNotFoundError as error:
        raise GeoClickError(
            f"{folder} holds no metrics.json; give a folder of a finished 'geoclick evaluate'."
        ) from error
    except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise GeoClickError(
            f"{path} is none of 'geoclick evaluate' ({error!r}); evaluate the model again."
        ) from error
    if story.merged:
        same = protocol.get("vlm_fingerprint") == story.merged.fingerprint and not protocol.get("adapter")
    else:
        same = protocol.get("adapter_sha256") == story.adapter_sha256
    if not same:
        raise GeoClickError(
            f"The figures in {folder} are not this model's: evaluate it by "
            f"{'--vlm' if story.merged else '--adapter'}, and give that folder."
        )
    return found


def _share(value: Any) -> float:
    """A number of 0 to 1, and no other."""
    if type(value) not in (int, float) or not 0 <= value <= 1 or math.isnan(value):
        raise ValueError(f"{value!r} is no share of 1")
    return float(value)


def _line(value: Any) -> Any:
    """A text on one line, without the breaks that YAML would fold or lose; other values as they are."""
    return " ".join(value.split()) if isinstance(value, str) else value


def model_index(evaluation: Evaluation) -> "list[EvalResult]":
    """The figures as the hub's model-index knows them, each with its protocol; by task the mIoU only."""
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
