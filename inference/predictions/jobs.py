"""Answering the queries about many images: the windows of all images in batches, image by image written."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from geoclick.errors import GeoClickError
from geoclick.geo.tiles import Tile
from geoclick.inference.generative.prediction import Prediction
from geoclick.inference.predictions.inputs import Input

if TYPE_CHECKING:
    from geoclick.inference.pipeline import ImageSource


class Predictor(Protocol):
    """What answers queries, such as a Pipeline."""

    def predict_batch(self, images: "Sequence[ImageSource]", texts: Sequence[str]) -> Sequence[Prediction]:
        """A prediction for each pair of image and text."""
        ...


@dataclass(eq=False)
class Job:
    """The queries about one image; `ImageJob` and `RasterJob` say how it is read and what is written.

    Attributes:
        image: its path and texts.
        errors: the reason for each text that failed.
    """

    image: Input
    errors: dict[str, str] = field(default_factory=dict)

    def windows(self) -> Iterator[tuple[Tile, np.ndarray]]:
        """The windows to ask about, row by row, each uint8 [H, W, 3]; raises GeoClickError if the file is broken."""
        raise NotImplementedError

    def add(self, tile: Tile, answers: Sequence[Prediction]) -> None:
        """Take the answers about a window, one for each text; the windows come in the order of `windows`."""
        raise NotImplementedError

    def finish(self) -> list[str]:
        """Write the outputs of the texts without error; returns what was found, a line for each text."""
        raise NotImplementedError

    def abort(self, error: Exception) -> None:
        """Remove unfinished files and close the image."""

    def fail(self, error: str) -> None:
        """Record an error of the complete image."""
        self.errors = dict.fromkeys(self.image.texts, error) | self.errors


def answer_all(jobs: Iterable[Job], predictor: Predictor, batch_size: int) -> Iterator[tuple[Job, list[str]]]:
    """Each job when its outputs are written, with the lines of `Job.finish`.

    An image that fails does not stop the others; errors of the disk do.

    Args:
        jobs: in the order in which they are answered.
        predictor: answers batches of windows, of one or several images.
        batch_size: queries in one batch.
    """
    events: list[tuple[Job, tuple[Tile, np.ndarray] | None]] = []
    queries = 0
    try:
        for job in jobs:
            for part in _readable(job):
                events.append((job, part))
                queries += len(job.image.texts)
                if queries >= batch_size:
                    yield from _answer(events, predictor)
                    events, queries = [], 0
            events.append((job, None))
            if not queries:
                yield from _answer(events, predictor)
                events = []
        yield from _answer(events, predictor)
    except BaseException as error:
        for job in {id(job): job for job, _ in events}.values():
            job.abort(error if isinstance(error, Exception) else GeoClickError("Interrupted."))
        raise


def _readable(job: Job) -> Iterator[tuple[Tile, np.ndarray]]:
    """The windows of a job, up to the first one that cannot be read and while a text has not failed."""
    try:
        for part in job.windows():
            if len(job.errors) == len(job.image.texts):
                return
            yield part
    except GeoClickError as error:
        job.fail(str(error))


def _answer(
    events: Sequence[tuple[Job, tuple[Tile, np.ndarray] | None]], predictor: Predictor
) -> Iterator[tuple[Job, list[str]]]:
    """Answer the windows of a batch, and finish the jobs that end in it (None in place of a window)."""
    asked = [(part[1], text) for job, part in events if part is not None for text in job.image.texts]
    answers = iter(
        predictor.predict_batch([image for image, _ in asked], [text for _, text in asked]) if asked else []
    )
    for job, part in events:
        if part is not None:
            own = [next(answers) for _ in job.image.texts]
            for text, answer in zip(job.image.texts, own, strict=True):
                if answer.error:
                    job.errors.setdefault(text, answer.error)
            job.add(part[0], own)
        else:
            yield job, _finished(job)


def _finished(job: Job) -> list[str]:
    """The lines of a job that has ended; none if all its texts failed."""
    if len(job.errors) == len(job.image.texts):
        job.abort(GeoClickError(next(iter(job.errors.values()))))
        return []
    try:
        return job.finish()
    except GeoClickError as error:
        job.fail(str(error))
        job.abort(error)
        return []
