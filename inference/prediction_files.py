"""The files of `geoclick predict`: their names, and which existing ones may be replaced."""

import json
import re
from collections.abc import Sequence
from itertools import chain, count, cycle
from pathlib import Path
from typing import Any

from geoclick import output_folder
from geoclick.config import read_yaml
from geoclick.errors import UsageError

SUFFIXES = ("mask.png", "overlay.png", "json")
"""The files of one answer, in the order in which they are written."""

MAP_SUFFIXES = ("mask.png", "overlay.png", "mask.tif", "gpkg", "geojson", "json")
"""The files of one map of classes; those in coordinates only for a GeoTIFF."""

TEXT_LENGTH = 40
"""Characters of a text in the names of its outputs."""


def output_stems(paths: Sequence[Path]) -> list[str]:
    """A stem for the outputs of each image: its own, with a number if an earlier image has the same.

    Stems that differ only in case count as the same, as on some file systems.
    """
    return _numbered([path.stem for path in paths])


def _numbered(names: Sequence[str]) -> list[str]:
    """The names, each with a number if an earlier one is the same except for case."""
    taken: set[str] = set()
    unique = []
    for name in names:
        numbered = (name if n == 1 else f"{name}-{n}" for n in count(1))
        own = next(candidate for candidate in numbered if candidate.lower() not in taken)
        taken.add(own.lower())
        unique.append(own)
    return unique


def answer_stems(paths: Sequence[Path], texts: Sequence[str]) -> list[tuple[str, ...]]:
    """For each image the stems of the outputs for each text; with several texts they end with the text's words."""
    stems = output_stems(paths)
    if len(texts) == 1:
        return [(stem,) for stem in stems]
    words = [re.sub(r"\W+", "-", text.lower()).strip("-")[:TEXT_LENGTH] or "text" for text in texts]
    ends = _numbered(words)
    flat = _numbered([f"{stem}.{end}" for stem in stems for end in ends])
    return [tuple(flat[i : i + len(texts)]) for i in range(0, len(flat), len(texts))]


def output_names(
    paths: Sequence[Path], texts: Sequence[str], suffixes: Sequence[str] = SUFFIXES
) -> list[str]:
    """The names of all outputs of the images; `suffixes` are those of one answer."""
    stems = chain.from_iterable(answer_stems(paths, texts))
    return [f"{stem}.{suffix}" for stem in stems for suffix in suffixes]


def check(
    folder: Path, paths: Sequence[Path], texts: Sequence[str], suffixes: Sequence[str] = SUFFIXES
) -> None:
    """Refuse to replace what is not an earlier answer to the same text.

    Args:
        folder: the output folder.
        paths: the images.
        texts: what to segment.
        suffixes: of the files of one answer.

    Raises:
        UsageError: a file of another origin, an image, or the answer to another text has the name of an output.
    """
    recorded = _recorded_stems(folder / "config.yaml", texts)
    inputs = {path.resolve() for path in paths}
    stems = chain.from_iterable(answer_stems(paths, texts))
    for stem, text in zip(stems, cycle(texts)):
        record = _read_answer(folder / f"{stem}.json")
        if record and record["query"] != text:
            raise UsageError(
                f"{folder / stem}.json answers another text, {record['query']!r}; name another --output."
            )
        for path in (folder / f"{stem}.{suffix}" for suffix in suffixes):
            if path.exists() and (not (record or stem in recorded) or path.resolve() in inputs):
                raise output_folder.not_own(path, "predict")


def _recorded_stems(config: Path, texts: Sequence[str]) -> set[str]:
    """The stems of an earlier run with the same texts: if it was killed, its last masks have no record."""
    try:
        options = read_yaml(config)
    except UsageError:
        return set()
    images = options.get("images")
    # A class list is a single question. Earlier versions recorded a single text.
    asked = options.get("classes") or options.get("text")
    if asked not in ([*texts], *texts) or not isinstance(images, list):
        return set()
    return set(chain.from_iterable(answer_stems([Path(str(image)) for image in images], texts)))


def _read_answer(path: Path) -> dict[str, Any] | None:
    """The record of an earlier answer; None if the file is missing or something else."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or not {"query", "segmenter", "mask"} <= record.keys():
        return None
    return record if {"vlm", "status"} <= record.keys() or {"clip", "classes"} <= record.keys() else None
