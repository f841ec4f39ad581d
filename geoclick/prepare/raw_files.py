"""The raw files of a job, located by their published names below the folder of the download."""

import re
from dataclasses import dataclass
from pathlib import Path

from geoclick.datasets.reading import inside
from geoclick.errors import GeoClickError, UsageError
from geoclick.prepare.jobs import Job

MAX_NAMED = 4
"""Missing files that an error names; the others are counted."""


@dataclass(frozen=True)
class Source:
    """A raw image and its label."""

    name: str
    image: Path
    label: Path


def find(job: Job, root: Path, split: str, only: tuple[str, ...] = ()) -> list[Source]:
    """The raw images of a split with their labels, by name.

    Args:
        job: the job.
        root: folder of the unpacked download.
        split: a split of the job.
        only: names of raw images, or first parts of names such as a sequence; empty for the complete split.

    Raises:
        UsageError: `root` is no folder, or `only` has a name that the split lacks.
        GeoClickError: files are missing, exist twice, or lie outside `root`.
    """
    if not root.is_dir():
        raise UsageError(f"{root} is no folder; name the one with the unpacked download as --root.")
    listed = job.splits[split].names
    if unknown := [name for name in only if listed and not _is_among(name, listed)]:
        raise UsageError(
            f"{', '.join(unknown)} is not in the split {split} of {job.title}; --only takes {', '.join(listed)}."
        )
    paths = sorted(path.relative_to(root).as_posix() for path in root.rglob("*"))
    images, *kinds = (_matching(job, template, split, paths) for template in (job.image, *job.labels))
    labels = {name: path for kind in reversed(kinds) for name, path in kind.items()}
    wanted = only or listed
    names = sorted(name for name in images | labels if not wanted or _is_among(name, wanted))
    missing = [f"{entry} ({job.image})" for entry in wanted if not any(_is_among(n, (entry,)) for n in names)]
    missing += [f"{name} ({job.image})" for name in names if name not in images]
    missing += [f"{name} ({' or '.join(job.labels)})" for name in names if name not in labels]
    if missing:
        shown = ", ".join(missing[:MAX_NAMED]) + (", ..." if len(missing) > MAX_NAMED else "")
        raise GeoClickError(
            f"Below {root}, {len(missing)} raw files of {job.title}'s {split} are missing: {shown}; unpack the "
            "complete download there, or name the images that you have with --only."
        )
    if not names:
        raise GeoClickError(
            f"{root} holds no raw files of {job.title}'s {split} (such as {job.image}); unpack the download there, or "
            "name another --root."
        )
    return [Source(name, inside(root, images[name]), inside(root, labels[name])) for name in names]


def _is_among(name: str, names: tuple[str, ...]) -> bool:
    """Whether a list holds an image, or the first part of its name, such as its sequence or disaster."""
    return name in names or name.partition("_")[0] in names


def _matching(job: Job, template: str, split: str, paths: list[str]) -> dict[str, str]:
    """The paths that match a pattern of the job, by image name; raises GeoClickError if two have the same name."""
    pattern = _pattern(job, template, split)
    matches: dict[str, str] = {}
    for path in paths:
        if match := pattern.search(path):
            name = "_".join(match.groups())
            if name in matches:
                raise GeoClickError(
                    f"{name} of {job.title} exists twice, as {matches[name]} and as {path}; remove one of them."
                )
            matches[name] = path
    return matches


def _pattern(job: Job, template: str, split: str) -> re.Pattern[str]:
    """A pattern of the job as a regular expression for the end of a path, ignoring case."""
    known = {
        "{split}": re.escape(split),
        "**/": "(?:.*/)?",
        "*": "[^/]+",
    } | {f"{{{part}}}": f"({looks})" for part, looks in job.parts.items()}
    pieces = re.split(r"(\{\w+\}|\*\*/|\*)", template)
    return re.compile(
        "(?:^|/)" + "".join(known.get(piece, re.escape(piece)) for piece in pieces) + "$", re.IGNORECASE
    )
