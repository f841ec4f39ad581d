"""The records of `geoclick predict`: one file for each answer, all of them as JSONL, failures, and what is finished."""

import functools
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from geoclick import files
from geoclick.geo.reading import PixelOptions
from geoclick.inference.generative.prediction import Prediction
from geoclick.inference.predictions import output_files
from geoclick.inference.predictions.inputs import Input
from geoclick.inference.predictions.output_files import Names
from geoclick.instances import Instance
from geoclick.yaml_file import Yaml


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How images are read and cut, and what their outputs share.

    Attributes:
        folder: of the outputs.
        pixels: how values become 8-bit RGB.
        tile: side of the windows in pixels; None for the default of the kind of image.
        overlap: smallest overlap of neighboring windows.
        resolution: of rasters in meters per pixel; None for their own.
        tolerance: of the outlines of polygons in pixels.
        about: the models and all settings, for the records.
    """

    folder: Path
    pixels: PixelOptions
    tile: int | None
    overlap: int
    resolution: float | None
    tolerance: float
    about: Mapping[str, Yaml]


def request(about: Mapping[str, Yaml], path: Path, text: str) -> str:
    """A hash of all that decides an answer: the query, models and settings, and the content of the file."""
    state = path.stat()
    content = _content(path, (state.st_size, state.st_mtime_ns, state.st_ctime_ns))
    asked = [text, str(path), content, dict(about)]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


@functools.lru_cache(maxsize=1024)
def _content(path: Path, _state: tuple[int, int, int]) -> str:
    """SHA-256 of a file, which is read once for all its queries."""
    return files.sha256(path)


def is_finished(folder: Path, stem: str, asked: str) -> bool:
    """Whether an earlier run has answered the same request, and its outputs still exist."""
    record = output_files.read_record(folder / f"{stem}.json")
    if record is None or record.get("request") != asked:
        return False
    outputs = record.get("files")
    return isinstance(outputs, list) and all((folder / str(name)).is_file() for name in outputs)


def record_of(
    setting: Setting, image: Input, text: str, size: tuple[int, int], prediction: Prediction
) -> dict[str, Yaml]:
    """What all records hold; `size` is (height, width) of the image."""
    clicks: list[Yaml] = [
        {"x": click.x, "y": click.y, "positive": click.positive} for click in prediction.clicks
    ]
    return {
        "query": text,
        **setting.about,
        "image": str(image.path),
        "size": list(size),
        "text": prediction.text,
        "status": prediction.status,
        **scores_of(prediction),
        "clicks": clicks,
        **_boxes(prediction),
        **_parts(prediction),
        **sampled_of(prediction),
        "dropped": list(prediction.dropped),
        "request": request(setting.about, image.path, text),
    }


def scores_of(prediction: Prediction) -> dict[str, Yaml]:
    """The scores of an answer; `agreement` only if several were sampled."""
    values = {
        "score": prediction.score,
        "probability": prediction.probability,
        "confidence": prediction.confidence,
        **({} if prediction.agreement is None else {"agreement": prediction.agreement}),
    }
    return {name: None if value is None else round(value, 6) for name, value in values.items()}


def _boxes(prediction: Prediction) -> dict[str, Yaml]:
    """The boxes of an answer, if there are any."""
    boxes: list[Yaml] = [list(box) for box in prediction.boxes]
    return {"boxes": boxes} if boxes else {}


def _parts(prediction: Prediction) -> dict[str, Yaml]:
    """The parts of an answer of several: clicks, pixels, the box around these (left, top, right, bottom) and score."""
    parts: list[Yaml] = [part_of(one) for one in prediction.instances]
    return {"parts": parts} if parts else {}


def part_of(one: Instance, scale: tuple[float, float] = (1.0, 1.0)) -> dict[str, Yaml]:
    """One part of an answer; `box` is null if it has no pixel.

    Args:
        one: the part.
        scale: pixels of the image in a row and in a column of what the models saw; the area is not scaled.
    """
    rows, columns = scale
    box: list[Yaml] | None = None
    if one.box is not None:
        left, top, right, bottom = one.box
        box = [left * columns, top * rows, (right + 1) * columns - 1, (bottom + 1) * rows - 1]
    return {
        "clicks": [
            {
                "x": click.x * columns + (columns - 1) / 2,
                "y": click.y * rows + (rows - 1) / 2,
                "positive": click.positive,
            }
            for click in one.clicks
        ],
        "area": one.area,
        "box": box,
        "score": None if one.score is None else round(one.score, 6),
    }


def sampled_of(prediction: Prediction) -> dict[str, Yaml]:
    """All sampled answers, if there are several."""
    sampled: list[Yaml] = [cast("Yaml", sample.record()) for sample in prediction.samples]
    return {"sampled": sampled} if sampled else {}


def write(folder: Path, stem: str, record: Mapping[str, Yaml]) -> None:
    """Write `STEM.json`, the last file of an answer."""
    text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
    files.write_whole(folder / f"{stem}.json", text)


def write_all(folder: Path, names: Iterable[Names]) -> None:
    """Write records.jsonl, the records of all answers in the order of the inputs."""
    path = folder / output_files.RECORDS
    files.refuse_link(path)
    with files.whole(path) as partial, partial.open("w", encoding="utf-8") as lines:
        for one in names:
            for stem in one.answers:
                record = output_files.read_record(folder / f"{stem}.json")
                if record is not None:
                    lines.write(json.dumps(record, ensure_ascii=False) + "\n")


Failures = dict[Path, dict[str, str]]
"""The reason for each image and text that failed."""


def write_failures(folder: Path, failures: Failures) -> None:
    """Write failures.jsonl, a line for each query that failed; the file is removed if there is none."""
    path = folder / output_files.FAILURES
    if not failures:
        path.unlink(missing_ok=True)
        return
    lines: Sequence[dict[str, str]] = [
        {"image": str(image), "query": text, "error": error}
        for image, errors in failures.items()
        for text, error in errors.items()
    ]
    files.refuse_link(path)
    files.write_whole(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
