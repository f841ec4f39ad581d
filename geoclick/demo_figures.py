"""The pictures of the page of `geoclick demo`: answers of all runs, and land cover maps next to the truth."""

import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
from PIL import Image

from geoclick import masks
from geoclick.demo_results import RUNS, TASKS
from geoclick.geo.reading import read_image
from geoclick.pages import record_drawing
from geoclick.pages.click_drawing import Color, Window
from geoclick.pages.figures import Figure, Picture, data_uri
from geoclick.scoring.records import Record

SHOWN = ("base", "lora", "upper_bound")
"""Runs whose answers are shown."""

SIDE = 320
"""Longest side of a picture in pixels."""

MAX_TEXT = 200
"""Characters of an answer that are shown."""

NOT_SCORED: Color = (205, 205, 205)
"""Color of true pixels that are not scored."""

Records = Mapping[str, Mapping[str, Record]]
"""The records of each of SHOWN by sample."""


def read_records(output: Path) -> Records:
    """The records of the runs in the demo's folder."""
    return {name: {one["sample_id"]: one for one in _read(output / name)} for name in SHOWN}


def gains(output: Path, records: Records) -> list[Figure]:
    """Of each task the sample on which the tuned model gains most on the base; the first of equal ones."""
    chosen = []
    for task in (*TASKS, "no_target"):
        samples = [ident for ident, record in records["lora"].items() if record["task"] == task]
        if samples:
            chosen.append(max(samples, key=lambda ident: _gain(records, ident)))
    return [_figure(output, [records[name][ident] for name in SHOWN]) for ident in chosen]


def failures(output: Path, records: Records) -> list[Figure]:
    """Of each task with targets the sample on which the tuned model is furthest below the upper bound."""
    chosen = []
    for task in TASKS:
        samples = [ident for ident, record in records["lora"].items() if record["task"] == task]
        if samples:
            worst = max(samples, key=lambda ident: _missing(records, ident))
            chosen += [worst] if _missing(records, worst) > 0 else []
    return [_figure(output, [records[name][ident] for name in SHOWN]) for ident in chosen]


def _read(run: Path) -> list[Record]:
    lines = (run / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def _gain(records: Records, ident: str) -> float:
    return records["lora"][ident]["iou"] - records["base"][ident]["iou"]


def _missing(records: Records, ident: str) -> float:
    return records["upper_bound"][ident]["iou"] - records["lora"][ident]["iou"]


def _figure(output: Path, records: Sequence[Record]) -> Figure:
    """The target of a sample on the complete image, and the answers of SHOWN in a window around all of them."""
    first = records[0]
    image = read_image(output / "scenes" / first["image"])
    window = record_drawing.window_of(records)
    pictures = [Picture(data_uri(record_drawing.target(image, first, window, side=SIDE)), "target")]
    for name, record in zip(SHOWN, records, strict=True):
        label = f"{RUNS[name]}: IoU {record['iou']:.2f}"
        pictures.append(Picture(data_uri(_answer(image, record, window)), label))
    texts = [(RUNS[name], record.get("text", "")) for name, record in zip(SHOWN, records, strict=True)]
    answers = [
        (name, text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]} ...") for name, text in texts if text
    ]
    return Figure(pictures, first["query"], notes=[first["task"].replace("_", " ")], answers=answers)


def _answer(image: np.ndarray, record: Record, window: Window | None) -> np.ndarray:
    """A drawing of an answer: in a window, but of several parts, each of a color, on the complete image."""
    if window and not record.get("parts"):
        return record_drawing.answer(image, record, window, side=SIDE)
    return record_drawing.complete_answer(image, record, side=SIDE)


def map_figures(output: Path, run: Path) -> tuple[dict[str, Color], list[Figure]]:
    """The colors of the classes, and each image of an evaluation of maps with its true and predicted classes.

    Args:
        output: folder of the dataset.
        run: folder of the evaluation.
    """
    protocol = json.loads((run / "protocol.json").read_text(encoding="utf-8"))
    colors = {name: _color(about["color"]) for name, about in protocol["classes"].items()}
    figures = []
    for name, group in groupby(_read(run), key=lambda record: record["image"]):
        records = list(group)
        picture = Image.fromarray(read_image(output / name))
        picture.thumbnail((SIDE, SIDE))
        labels = [_labels(records, key, colors) for key in ("target", "mask")]
        drawn = [
            np.asarray(Image.fromarray(one).resize(picture.size, Image.Resampling.NEAREST)) for one in labels
        ]
        panels = [np.asarray(picture), *drawn]
        kinds = ("JPEG", "PNG", "PNG")
        figures.append(
            Figure(
                [
                    Picture(data_uri(panel, kind=kind), label)
                    for panel, kind, label in zip(panels, kinds, ("image", "truth", "map"), strict=True)
                ],
                Path(name).name,
            )
        )
    return colors, figures


def _color(values: Sequence[int]) -> Color:
    red, green, blue = values
    return red, green, blue


def _labels(records: Sequence[Record], key: str, colors: Mapping[str, Color]) -> np.ndarray:
    """The colors of the targets or masks of the records of an image, uint8 [H, W, 3].

    Pixels of no record have the color of the class without a record, where there is one.
    """
    others = sorted(colors.keys() - {record["category"] for record in records})
    height, width = records[0]["size"]
    picture = np.full((height, width, 3), colors[others[0]] if others else NOT_SCORED, np.uint8)
    for record in records:
        rle = record["target"] if key == "target" else record["mask"]
        picture[masks.decode_rle(rle)] = colors[record["category"]]
    valid = records[0]["valid"]
    if key == "target" and valid is not None:
        picture[~masks.decode_rle(valid)] = NOT_SCORED
    return picture
