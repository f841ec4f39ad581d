"""The files of `geoclick predict`: their names, and which existing ones may be replaced."""

import json
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

from geoclick import output_folder
from geoclick.config import read_yaml
from geoclick.errors import UsageError

SUFFIXES = ("mask.png", "overlay.png", "json")
"""The files of one image, in the order in which they are written."""


def output_stems(paths: Sequence[Path]) -> list[str]:
    """A stem for the outputs of each image: its own, with a number if an earlier image has the same.

    Stems that differ only in case count as the same, as on some file systems.
    """
    taken: set[str] = set()
    stems = []
    for path in paths:
        names = (path.stem if n == 1 else f"{path.stem}-{n}" for n in count(1))
        stem = next(name for name in names if name.lower() not in taken)
        taken.add(stem.lower())
        stems.append(stem)
    return stems


def output_names(paths: Sequence[Path]) -> list[str]:
    """The names of all outputs of the images."""
    return [f"{stem}.{suffix}" for stem in output_stems(paths) for suffix in SUFFIXES]


def check(folder: Path, paths: Sequence[Path], text: str) -> None:
    """Refuse to replace what is not an earlier answer to the same text.

    Args:
        folder: the output folder.
        paths: the images.
        text: what to segment.

    Raises:
        UsageError: a file of another origin, an image, or the answer to another text has the name of an output.
    """
    recorded = _recorded_stems(folder / "config.yaml", text)
    inputs = {path.resolve() for path in paths}
    for stem in output_stems(paths):
        record = _read_answer(folder / f"{stem}.json")
        if record and record["query"] != text:
            raise UsageError(
                f"{folder / stem}.json answers another text, {record['query']!r}; name another --output."
            )
        for path in (folder / f"{stem}.{suffix}" for suffix in SUFFIXES):
            if path.exists() and (not (record or stem in recorded) or path.resolve() in inputs):
                raise output_folder.not_own(path, "predict")


def _recorded_stems(config: Path, text: str) -> set[str]:
    """The stems of an earlier run with the same text: if it was killed, its last masks have no record."""
    try:
        options = read_yaml(config)
    except UsageError:
        return set()
    images = options.get("images")
    if options.get("text") != text or not isinstance(images, list):
        return set()
    return set(output_stems([Path(str(image)) for image in images]))


def _read_answer(path: Path) -> dict[str, Any] | None:
    """The record of an earlier answer; None if the file is missing or something else."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    names = {"query", "vlm", "segmenter", "status", "mask"}
    return record if isinstance(record, dict) and names <= record.keys() else None
