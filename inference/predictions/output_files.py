"""The files of `geoclick predict`: their names, and which existing ones may be replaced."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from geoclick import output_folder
from geoclick.config import read_yaml
from geoclick.errors import GeoClickError, UsageError
from geoclick.inference.predictions import inputs
from geoclick.inference.predictions.inputs import Input
from geoclick.yaml_file import Yaml

ANSWER = ("mask.png", "mask.tif", "overlay.png", "json")
"""The files of one answer: the mask as GeoTIFF only for a TIFF or JPEG 2000, the record last."""

VECTORS = ("gpkg", "geojson")
"""The files of all answers about one georeferenced image."""

RECORDS, FAILURES = "records.jsonl", "failures.jsonl"
"""All records in the order of the inputs, and the inputs that failed."""

TEXT_LENGTH = 40
"""Characters of a text in the names of its outputs."""


class Names(NamedTuple):
    """The stems of the outputs of one image.

    Attributes:
        image: of the files for all texts.
        answers: of the files of each text; with several texts they end with the text's words.
    """

    image: str
    answers: tuple[str, ...]

    def files(self) -> Iterator[str]:
        """The names of all possible outputs."""
        for stem in self.answers:
            yield from (f"{stem}.{suffix}" for suffix in ANSWER)
        yield from (f"{self.image}.{suffix}" for suffix in VECTORS)


def output_stems(paths: Sequence[Path]) -> list[str]:
    """A stem for the outputs of each image: its own, with a number if an earlier image has the same.

    Stems that differ only in case count as the same, as on some file systems.
    """
    return _numbered([path.stem for path in paths])


def _numbered(names: Iterable[str]) -> list[str]:
    """The names, each with a number if an earlier one is the same except for case."""
    taken: set[str] = set()
    last: dict[str, int] = {}
    unique = []
    for name in names:
        own, number = name, last.get(name.lower(), 1)
        while own.lower() in taken:
            number += 1
            own = f"{name}-{number}"
        last[name.lower()] = number
        taken.add(own.lower())
        unique.append(own)
    return unique


def names_of(images: Sequence[Input]) -> list[Names]:
    """The stems of the outputs of each image."""
    stems = output_stems([image.path for image in images])
    flat = [
        stem if len(image.texts) == 1 else f"{stem}.{end}"
        for stem, image in zip(stems, images, strict=True)
        for end in _numbered(map(_words, image.texts))
    ]
    numbered = iter(_numbered(flat))
    return [
        Names(stem, tuple(next(numbered) for _ in image.texts))
        for stem, image in zip(stems, images, strict=True)
    ]


def _words(text: str) -> str:
    """The words of a text for the name of a file."""
    return re.sub(r"\W+", "-", text.lower()).strip("-")[:TEXT_LENGTH] or "text"


def output_names(images: Sequence[Input]) -> list[str]:
    """The names of all possible outputs of the images."""
    return [name for names in names_of(images) for name in names.files()]


def check(folder: Path, images: Sequence[Input]) -> None:
    """Refuse to replace what is not an earlier answer to the same text.

    Args:
        folder: the output folder.
        images: with what to segment in each; a class list is a single text.

    Raises:
        UsageError: a file of another origin, an image, or the answer to another text has the name of an output.
    """
    if not folder.is_dir():
        return
    earlier = _earlier_names(folder / "config.yaml")
    paths = {image.path.resolve() for image in images}
    present = {path.name for path in folder.iterdir()}
    for image, names in zip(images, names_of(images), strict=True):
        if not present.intersection(names.files()):
            continue
        known = names.image in earlier
        for stem, text in zip(names.answers, image.texts, strict=True):
            record = read_record(folder / f"{stem}.json")
            if record and record["query"] != text:
                raise UsageError(
                    f"{folder / stem}.json answers another text, {record['query']!r}; name another --output."
                )
            known = known or record is not None
        for path in (folder / name for name in names.files()):
            if path.name in present and (not known or path.resolve() in paths):
                raise output_folder.not_own(path, "predict")


def _earlier_names(config: Path) -> set[str]:
    """The stems of the images of an earlier run: if it was killed, its last outputs have no record."""
    try:
        options = read_yaml(config)
    except UsageError:
        return set()
    words, listed = options.get("images"), options.get("listed")
    try:
        expanded = inputs.expand(
            list(map(str, words)) if isinstance(words, list) else [],
            str(listed) if listed else None,
            ("any",),
        )
    except GeoClickError:
        return set()
    return set(output_stems([image.path for image in expanded.images]))


def read_record(path: Path) -> dict[str, Yaml] | None:
    """The record of an earlier answer; None if the file is missing or something else."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or not {"query", "segmenter", "mask"} <= record.keys():
        return None
    return record if {"vlm", "status"} <= record.keys() or {"clip", "classes"} <= record.keys() else None
