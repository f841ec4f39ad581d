"""`geoclick evaluate --engine ray`: the parts of an evaluation, answered by a pool of Ray actors with their own models.

The driver reads the samples, sends those of each part that lacks answers, and writes the answers that return. So the
nodes of a cluster share the images and the models with it, but not the run folder.
"""

import io
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from geoclick.inference.evaluation import answering, predictors, run_folder
from geoclick.inference.evaluation.run_folder import Entry, Part
from geoclick.jobs import claims, ray_pool
from geoclick.jobs.ray_pool import Resources, Workers
from geoclick.yaml_file import Yaml

if TYPE_CHECKING:
    from geoclick.inference.evaluation.dataset_scan import DatasetScan
    from geoclick.inference.evaluation.options import ResolvedOptions
    from geoclick.inference.evaluation.predictors import Predictor


@dataclass(frozen=True)
class Task:
    """What a worker is asked.

    Attributes:
        part: samples to answer; None asks for the predictor's part of the protocol.
        done: positions of the samples that have an answer.
        about: the predictor's part of the protocol, which that of the worker must equal.
    """

    part: Part | None = None
    done: frozenset[int] = frozenset()
    about: dict[str, Yaml] | None = None


@dataclass(frozen=True)
class Answers:
    """What a worker returns.

    Attributes:
        entries: lines of the file of the part.
        about: its predictor's part of the protocol; empty if it was asked about a part.
        printed: what the predictor printed while it was loaded, likewise.
    """

    entries: list[Entry]
    about: dict[str, Yaml]
    printed: str


@dataclass(frozen=True)
class PartSetup:
    """Prepares a worker of the pool: it loads the predictor and answers parts with it."""

    options: "ResolvedOptions"
    scan: "DatasetScan"

    def __call__(self, device: str) -> Callable[[Task], Answers]:
        """A function that answers a part."""
        options = replace(self.options, device=device)
        printed = io.StringIO()
        with redirect_stdout(printed):
            predictor = predictors.load(options, self.scan)
        return partial(_answer, options, predictor, predictor.describe(), printed.getvalue())

    def describe(self, item: Task) -> str:
        """A part and a fix, for the error about a part on which every worker dies."""
        fix = (
            "if memory ran out, rerun the command with fewer --workers or a smaller --batch-size to continue."
        )
        if item.part is None:
            return f"the models, which they load first; {fix}"
        first, last = item.part.samples[0], item.part.samples[-1]
        return f"the samples {first.sample_id} to {last.sample_id}; {fix}"


def _answer(
    options: "ResolvedOptions", predictor: "Predictor", about: dict[str, Yaml], printed: str, task: Task
) -> Answers:
    """Answer a part; raises GeoClickError if this node lacks the images or has other models."""
    if task.part is None:
        return Answers([], about, printed)
    ray_pool.check_folder(task.part.samples[0].root)
    ray_pool.check_equal(about, task.about or {})
    ask = partial(answering.answer_batch, options, predictor)
    batches = run_folder.answers(task.part, task.done, options.batch_size, ask)
    return Answers([entry for batch in batches for entry in batch], {}, "")


@dataclass(frozen=True)
class RayEngine:
    """Workers that have loaded the predictor.

    Attributes:
        workers: of the pool.
        about: see Engine.
    """

    workers: "Workers[Task, Answers]"
    about: dict[str, Yaml]

    def answer(
        self,
        output: Path,
        parts: Callable[[], Iterable[Part]],
        held: BinaryIO,
        advance: Callable[[int], None],
    ) -> dict[str, Yaml]:
        """See Engine."""

        def missing() -> Iterator[tuple[int, Task]]:
            for part in parts():
                claims.acquire_all(held, [part.number], output)
                done = run_folder.answered(output, part.number)
                advance(len(done))
                if len(done) < len(part.samples):
                    yield part.number, Task(part, done, self.about)

        def write(number: int, answers: Answers) -> None:
            run_folder.append(output, number, answers.entries)
            advance(len(answers.entries))

        self.workers.run(missing(), write)
        return {"engine": "ray", "workers": self.workers.pool.workers}


@contextmanager
def opened(options: "ResolvedOptions", scan: "DatasetScan") -> Iterator[RayEngine]:
    """Start the workers; one of them describes the predictor."""
    # The samples of a random pick come with the parts.
    setup = PartSetup(options, replace(scan, picked=None))
    most = run_folder.most_parts(len(scan.ids), options.batch_size, by_image=options.by_image)
    where = Resources(options.device, options.workers, options.ray_address)
    with ray_pool.opened(setup, most, where) as workers:
        described: list[Answers] = []
        workers.run([(0, Task())], lambda _, answers: described.append(answers))
        print(described[0].printed, end="")
        yield RayEngine(workers, described[0].about)
