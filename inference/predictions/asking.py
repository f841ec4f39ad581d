"""Asking about many images: which are finished, in which groups they are asked, and what is said about them."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from geoclick.geo import georeference, reading, views
from geoclick.inference.predictions import records
from geoclick.inference.predictions.inputs import Input
from geoclick.inference.predictions.models import Done, Models, Named
from geoclick.inference.predictions.output_files import Names
from geoclick.inference.predictions.records import Failures
from geoclick.progress_bar import progress
from geoclick.yaml_file import Yaml

LARGE = 2**24
"""Bytes of a TIFF or JPEG 2000 from which it is a group of its own: it has many windows."""


class Engine(Protocol):
    """Answers groups of images: this process, or a Ray cluster."""

    @property
    def about(self) -> "dict[str, Yaml]":
        """See Models."""
        ...

    def answer(
        self, groups: Iterable[Sequence[Named]], folder: Path, on_done: Callable[[Done], None]
    ) -> None:
        """Answer all images of all groups.

        Args:
            groups: images that may be in one batch.
            folder: of the outputs.
            on_done: called with each image when its outputs are in the folder.
        """
        ...


@dataclass(frozen=True)
class Local:
    """Models in this process."""

    models: Models

    @property
    def about(self) -> dict[str, Yaml]:
        """See Engine."""
        return dict(self.models.about)

    def answer(
        self, groups: Iterable[Sequence[Named]], folder: Path, on_done: Callable[[Done], None]
    ) -> None:
        """See Engine."""
        with views.small_cache():
            for group in groups:
                for done in self.models.answer(group, folder):
                    on_done(done)


def groups(named: Iterable[Named], queries: int) -> list[list[Named]]:
    """Images in groups, in order; batches do not go beyond a group.

    So the batches, on which rounding may depend, are the same for every engine. A group ends when it has `queries`
    texts or more; a large raster is a group of its own.
    """
    result: list[list[Named]] = []
    count = queries  # the first image begins a group
    for image, names in named:
        large = _is_large(image.path)
        if large or count >= queries:
            result.append([])
            count = 0
        result[-1].append((image, names))
        count = queries if large else count + len(image.texts)
    return result


def _is_large(path: Path) -> bool:
    """Whether a file is a large raster; False if it is missing."""
    with suppress(OSError):
        return path.stat().st_size > LARGE and reading.driver_of(path) in georeference.DRIVERS
    return False


def answer_all(
    engine: Engine, folder: Path, images: Sequence[Input], names: Sequence[Names], queries: int
) -> Failures:
    """Answer images and write their outputs; finished answers are not asked again.

    Args:
        engine: answers them.
        folder: of the outputs.
        images: with their texts; those that do not exist fail.
        names: of the outputs of each.
        queries: texts of a group, see `groups`.

    Returns:
        The reason for each query that failed.
    """
    failures: Failures = {}
    about = engine.about
    named = list(zip(images, names, strict=True))
    todo = [
        [one for one in group if not _is_finished(one, about, folder)] for group in groups(named, queries)
    ]
    done = len(named) - sum(map(len, todo))
    with progress("predict", len(named), done=done) as bar:
        if done:
            bar.print(f"{done} of {len(named)} images have their outputs from an earlier run")

        def on_done(one: Done) -> None:
            path = one.named[0].path
            for line in one.lines:
                bar.print(line)
            if one.errors:
                failures[path] = one.errors
                for error in dict.fromkeys(one.errors.values()):
                    bar.print(f"{path}: failed, {error}")
            bar.advance()

        engine.answer([group for group in todo if group], folder, on_done)
    # In the order of the inputs, whatever the order in which they ended.
    return {image.path: failures[image.path] for image in images if image.path in failures}


def _is_finished(named: Named, about: dict[str, Yaml], folder: Path) -> bool:
    """Whether all answers about an image exist."""
    image, names = named
    if not image.path.is_file():
        return False
    return all(
        records.is_finished(folder, stem, records.request(about, image.path, text))
        for stem, text in zip(names.answers, image.texts, strict=True)
    )
