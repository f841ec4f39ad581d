"""The maps of an evaluation on its page: the confusion matrix, and some images with true and predicted classes."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypedDict

import numpy as np
from PIL import Image

from geoclick import masks, pages
from geoclick.geo.reading import PixelOptions
from geoclick.inference.evaluation.confusion import ConfusionResult
from geoclick.inference.reports import gallery, gallery_selection
from geoclick.pages.click_drawing import Color
from geoclick.pages.figures import Figure, Picture, data_uri
from geoclick.scoring.records import Record

NOT_SCORED: Color = (205, 205, 205)
"""Color of true pixels that are not scored."""


class Cell(NamedTuple):
    """A cell of a confusion matrix: its share of the row in percent, the same from 0 to 1, and what it counts."""

    text: str
    share: float
    title: str


def confusion_rows(confusion: ConfusionResult) -> list[tuple[str, int, list[Cell]]]:
    """The name and the pixels of each true class, with a cell for each predicted one."""
    names = confusion["classes"]
    rows = []
    for name, row in zip(names, confusion["pixels"], strict=True):
        total = sum(row)
        cells = [
            Cell(
                f"{100 * count / total:.1f}" if total else pages.DASH,
                count / total if total else 0.0,
                f"{count:,} pixels of {name} predicted as {other}",
            )
            for other, count in zip(names, row, strict=True)
        ]
        rows.append((name, total, cells))
    return rows


@dataclass(frozen=True)
class ImageIndex:
    """Where the records of an image are, and how much of its map is right.

    Attributes:
        offset: byte at which its first record starts.
        count: number of its records.
        right: pixels with their true class.
        total: scored pixels.
    """

    offset: int
    count: int
    right: int
    total: int

    @property
    def accuracy(self) -> float:
        """The share of the scored pixels with their true class."""
        return self.right / max(self.total, 1)


def index_images(path: Path, names: Sequence[str]) -> list[ImageIndex]:
    """The images that have a map.

    Args:
        path: a complete predictions.jsonl; the records of an image follow one another.
        names: of the classes.
    """
    found: list[ImageIndex] = []
    offset, last = 0, ""
    with path.open("rb") as file:
        for line in file:
            record: Record = json.loads(line)
            if "predicted_as" in record:
                number = names.index(record["category"])
                rest = record.get("rest_as", [])
                right = record["predicted_as"][number] + (rest[1 - number] if rest else 0)
                total = sum(record["predicted_as"]) + sum(rest)
                own = found.pop() if record["image"] == last else ImageIndex(offset, 0, 0, 0)
                last = record["image"]
                found.append(ImageIndex(own.offset, own.count + 1, own.right + right, own.total + total))
            offset += len(line)
    return found


def select(images: Sequence[ImageIndex], count: int) -> list[ImageIndex]:
    """At most `count` images at equal distances from the best to the worst one by accuracy."""
    order = sorted(images, key=lambda image: (-image.accuracy, image.offset))
    places = np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int)
    return [order[place] for place in places.tolist()]


class ClassAbout(TypedDict):
    """What a protocol says about a class; `color` is RGB."""

    prompts: list[str]
    color: list[int]


def listed(classes: Mapping[str, ClassAbout]) -> str:
    """The classes of a protocol with their prompts, such as `background; building, roof; other: facade`."""
    texts = []
    for name, about in classes.items():
        prompts = ", ".join(about["prompts"])
        texts.append(prompts if about["prompts"][0] == name.lower() else f"{name}: {prompts}")
    return "; ".join(texts)


@dataclass(frozen=True)
class Maps:
    """What a page shows of maps.

    Attributes:
        confusion: see `confusion_rows`.
        legend: the color of each class.
        not_scored: color of true pixels that are not scored.
        figures: some images with their maps.
    """

    confusion: list[tuple[str, int, list[Cell]]]
    legend: Mapping[str, Color]
    not_scored: Color
    figures: list[Figure]


def of_run(
    classes: Mapping[str, ClassAbout],
    confusion: ConfusionResult | None,
    records: Path,
    root: Path,
    pixels: PixelOptions,
    *,
    count: int,
) -> Maps | None:
    """What the page of a run shows of its maps; None without maps.

    Args:
        classes: of its protocol.
        confusion: of its metrics.json.
        records: its complete predictions.jsonl.
        root: of the dataset.
        pixels: how images are read.
        count: number of images.
    """
    if confusion is None:
        return None
    legend = {name: _color(about["color"]) for name, about in classes.items()}
    shown = list(figures(records, legend, root, pixels, count=count))
    return Maps(confusion_rows(confusion), legend, NOT_SCORED, shown)


def _color(values: Sequence[int]) -> Color:
    red, green, blue = values
    return red, green, blue


def figures(
    path: Path, classes: Mapping[str, Color], root: Path, pixels: PixelOptions, *, count: int
) -> Iterator[Figure]:
    """Images side by side with the colors of their true and of their predicted classes.

    Args:
        path: a complete predictions.jsonl.
        classes: the color of each class by its name.
        root: of the dataset.
        pixels: how images are read.
        count: number of images.
    """
    for image in select(index_images(path, list(classes)), count):
        own = list(gallery_selection.read_from(path, image.offset, image.count))
        shown, error = gallery.read_image(own[0], root, pixels)
        size = shown.shape[1], shown.shape[0]
        panels = [Picture(data_uri(shown, quality=70), "image")]
        for key, label in (("target", "truth"), ("mask", "prediction")):
            panels.append(Picture(data_uri(_colored(own, key, classes, size), kind="PNG"), label))
        notes = [error] if error else []
        yield Figure(panels, own[0]["image"], score=pages.number(image.accuracy), notes=notes)


def _colored(
    records: Sequence[Record], key: str, classes: Mapping[str, Color], size: tuple[int, int]
) -> np.ndarray:
    """The colors of the targets or masks of an image's records, resized to (width, height), uint8 [h, w, 3].

    Pixels of no record have the color of the class without a record, where there is one.
    """
    names = list(classes)
    others = classes.keys() - {record["category"] for record in records}
    numbers = np.full(records[0]["size"], names.index(min(others)) if others else len(names), np.uint8)
    for record in records:
        mask = masks.decode_rle(record["target"] if key == "target" else record["mask"])
        numbers[mask] = names.index(record["category"])
    valid = records[0]["valid"]
    if key == "target" and valid is not None:
        numbers[~masks.decode_rle(valid)] = len(names)
    resized = Image.fromarray(numbers).resize(size, Image.Resampling.NEAREST)
    return np.array([*classes.values(), NOT_SCORED], np.uint8)[np.asarray(resized)]
