"""Which raw files a job takes, found by their published names wherever the download was unpacked."""

import re
from dataclasses import dataclass
from pathlib import Path

from geoclick.datasets.reading import inside
from geoclick.errors import GeoClickError, UsageError
from geoclick.prepare.jobs import Job

NAMED = 4
"""Missing files that an error names; it counts the others."""


@dataclass(frozen=True)
class Source:
    """A raw image and its label."""

    name: str
    image: Path
    label: Path


def find(job: Job, root: Path, split: str, only: tuple[str, ...] = ()) -> list[Source]:
    """The raw images of a split with their labels, by name.

    Args:
        job: whose.
        root: the folder that holds the download, unpacked.
        split: a split of the job.
        only: names of raw images, or first parts of them such as a sequence; empty for the whole split.

    Raises:
        UsageError: `root` is no folder, or `only` names what the split has not.
        GeoClickError: files are missing, are there twice, or lie outside `root`.
    """
    if not root.is_dir():
        raise UsageError(f"{root} is no folder; name the one with the unpacked download as --root.")
    listed = job.splits[split].names
    if strange := [name for name in only if listed and not _is_among(name, listed)]:
        raise UsageError(
            f"{', '.join(strange)} is not of {job.title}'s {split}, which is made of {', '.join(listed)}."
        )
    paths = sorted(path.relative_to(root).as_posix() for path in root.rglob("*"))
    images, *kinds = (_matching(job, template, split, paths) for template in (job.image, *job.labels))
    labels = {name: path for kind in reversed(kinds) for name, path in kind.items()}
    wanted = only or listed
    names = sorted(name for name in images | labels if not wanted or _is_among(name, wanted))
    lacking = [f"{entry} ({job.image})" for entry in wanted if not any(_is_among(n, (entry,)) for n in names)]
    lacking += [f"{name} ({job.image})" for name in names if name not in images]
    lacking += [f"{name} ({' or '.join(job.labels)})" for name in names if name not in labels]
    if lacking:
        shown = ", ".join(lacking[:NAMED]) + (", ..." if len(lacking) > NAMED else "")
        raise GeoClickError(
            f"Below {root}, {len(lacking)} raw files of {job.title}'s {split} are missing: {shown}; unpack the whole "
            "download there, or name what you have with --only."
        )
    if not names:
        raise GeoClickError(
            f"{root} holds nothing of {job.title}'s {split} (such as {job.image}); unpack the download there, or name "
            "another --root."
        )
    return [Source(name, inside(root, images[name]), inside(root, labels[name])) for name in names]


def _is_among(name: str, names: tuple[str, ...]) -> bool:
    """Whether an image, or the sequence or disaster that is the first part of its name, is named."""
    return name in names or name.partition("_")[0] in names


def _matching(job: Job, template: str, split: str, paths: list[str]) -> dict[str, str]:
    """The paths that a template of the job stands for, by the image's name; raises GeoClickError for two of one."""
    pattern = _pattern(job, template, split)
    found: dict[str, str] = {}
    for path in paths:
        if match := pattern.search(path):
            name = "_".join(match.groups())
            if name in found:
                raise GeoClickError(
                    f"{job.title}'s {name} is there twice, as {found[name]} and as {path}; keep one of them."
                )
            found[name] = path
    return found


def _pattern(job: Job, template: str, split: str) -> re.Pattern[str]:
    """A template as an expression for the end of a path, letters of either case."""
    known = {
        "{split}": re.escape(split),
        "**/": "(?:.*/)?",
        "*": "[^/]+",
    } | {f"{{{part}}}": f"({looks})" for part, looks in job.parts.items()}
    pieces = re.split(r"(\{\w+\}|\*\*/|\*)", template)
    return re.compile(
        "(?:^|/)" + "".join(known.get(piece, re.escape(piece)) for piece in pieces) + "$", re.IGNORECASE
    )
