"""What a supervised run trains on: click stores with their datasets, chats, and the shares of each."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from geoclick.config import option
from geoclick.errors import UsageError

FIRST, ALL = "first", "all"

T = TypeVar("T")


@dataclass(frozen=True)
class Source:
    """Something to train on.

    Attributes:
        name: short and unique within the run.
        path: of the click store, or of the file of chats.
        root: folder of its images.
        answer_format: of the answers; empty for chats.
        weight: share of an epoch, relative to the others; None if every epoch has all rows of all sources.
    """

    name: str
    path: str
    root: str
    answer_format: str
    weight: float | None

    @property
    def is_chats(self) -> bool:
        """Whether it is a file of chats instead of a click store."""
        return not self.answer_format


@dataclass(frozen=True, kw_only=True)
class MixtureOptions:
    """The sources of a run."""

    clicks: tuple[str, ...] = option(help="click stores made by 'geoclick synth'; several are mixed")
    root: tuple[str, ...] = option(
        help="folder that the image paths of the stores are relative to: one for all stores, or one for each store in "
        "the order of --clicks"
    )
    store_formats: tuple[str, ...] = option(
        (),
        help="format of the answers of each store in the order of --clicks (default: --answer-format); a store may be "
        "given several times in different formats",
        choices=("compact", "json"),
    )
    chats: tuple[str, ...] = option(
        (),
        help="JSONL or Parquet files of chats to train on besides clicks, against forgetting: rows of messages and, "
        "for chats about images, images (paths)",
    )
    chat_root: tuple[str, ...] = option(
        (),
        help="folder that holds the images of the chats: one for all files, or one for each in the order of --chats "
        "(default: the folder of each file)",
    )
    chat_tokens: int | None = option(
        None,
        help="leave out chats of more tokens, those of their images included (default: none, but a pack holds at most "
        "--packing-tokens)",
        minimum=1,
    )
    weights: tuple[float, ...] = option(
        (), help="share of each store in an epoch, such as 0.5 0.3 0.2 (default: all rows of all stores)"
    )
    chat_weights: tuple[float, ...] = option(
        (), help="share of each file of chats in an epoch, relative to --weights"
    )
    stopping: str | None = option(
        None,
        help="with --weights an epoch ends when the rows of the first source, or of all sources, have been used "
        "(default: first); with all the rows of shorter sources are repeated",
        choices=(FIRST, ALL),
    )

    def recorded(self) -> dict[str, str | list[str]]:
        """Stores and roots as config.yaml has them: one is a text, as in runs of earlier versions."""
        values = {"clicks": self.clicks, "root": self.root}
        return {name: list(value) if len(value) > 1 else value[0] for name, value in values.items()}

    @property
    def is_mixed(self) -> bool:
        """Whether the run has several sources."""
        return len(self.clicks) + len(self.chats) > 1


def sources_of(options: MixtureOptions, answer_format: str) -> list[Source]:
    """The sources of a run, the click stores first.

    Args:
        options: of the run.
        answer_format: of stores without their own.

    Raises:
        UsageError: the numbers of roots, formats or weights do not fit, or a source is given twice.
    """
    roots = _for_each(options.root, options.clicks, "--root", "--clicks")
    formats = options.store_formats or (answer_format,) * len(options.clicks)
    if len(formats) != len(options.clicks):
        raise _wrong_number("--store-formats", formats, "--clicks", options.clicks)
    folders = options.chat_root or tuple(str(Path(path).parent) for path in options.chats)
    folders = _for_each(folders, options.chats, "--chat-root", "--chats")
    paths = [*options.clicks, *options.chats]
    every_format = [*formats, *[""] * len(options.chats)]
    if twice := [path for (path, _), n in Counter(zip(paths, every_format, strict=True)).items() if n > 1]:
        raise UsageError(f"{twice[0]} is given twice; remove one, or raise its weight.")
    return [
        Source(*values)
        for values in zip(
            _names(paths, every_format),
            paths,
            [*roots, *folders],
            every_format,
            _weights(options),
            strict=True,
        )
    ]


def _weights(options: MixtureOptions) -> list[float | None]:
    """The weight of each source."""
    if not options.weights and not options.chat_weights:
        if options.stopping:
            raise UsageError("--stopping needs --weights: without them an epoch has all rows of all sources.")
        return [None] * (len(options.clicks) + len(options.chats))
    if len(options.weights) != len(options.clicks):
        raise _wrong_number("--weights", options.weights, "--clicks", options.clicks)
    if len(options.chat_weights) != len(options.chats):
        raise _wrong_number("--chat-weights", options.chat_weights, "--chats", options.chats)
    weights = [*options.weights, *options.chat_weights]
    if wrong := [weight for weight in weights if not 0 < weight < float("inf")]:
        raise UsageError(f"A weight is a number above 0, not {wrong[0]:g}; remove the source, or raise it.")
    return [weight / sum(weights) for weight in weights]


def _for_each(values: tuple[str, ...], of: tuple[str, ...], flag: str, other: str) -> tuple[str, ...]:
    """One value for each: a single one is that of all."""
    if len(values) == 1:
        return values * len(of)
    if len(values) != len(of):
        raise _wrong_number(flag, values, other, of, " or one for all")
    return values


def _wrong_number(
    flag: str, values: Sequence[T], other: str, of: Sequence[str], more: str = ""
) -> UsageError:
    return UsageError(
        f"{flag} has {len(values)} values, but {other} has {len(of)}; give one value for each{more}."
    )


def _names(paths: Sequence[str], formats: Sequence[str]) -> list[str]:
    """A name for each source: the last part of its path, with the format if a store is there twice."""
    names = [Path(path).name for path in paths]
    names = [path if names.count(name) > 1 else name for path, name in zip(paths, names, strict=True)]
    names = [
        Path(path).name if len(set(paths)) == 1 else name for path, name in zip(paths, names, strict=True)
    ]
    return [
        f"{name} ({answer_format})" if paths.count(path) > 1 else name
        for name, path, answer_format in zip(names, paths, formats, strict=True)
    ]
