"""`geoclick predict --engine ray`: groups of images, answered by a pool of Ray actors with their own models.

A worker writes the outputs of its images to a folder of its own and returns their bytes; the driver writes them. So the
nodes of a cluster share the images and the models with it, but not the output. A large raster is one item of the pool.
"""

import io
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from geoclick import files
from geoclick.errors import GeoClickError
from geoclick.geo import views
from geoclick.inference.predictions.models import Done, Models, Named
from geoclick.inference.predictions.options import PredictOptions
from geoclick.inference.predictions.output_files import Names
from geoclick.jobs import ray_pool
from geoclick.jobs.ray_pool import Resources, Workers
from geoclick.yaml_file import Yaml

Load = Callable[[PredictOptions, str], Models]
"""Loads the models of the options on a device."""


@dataclass(frozen=True)
class Task:
    """What a worker is asked.

    Attributes:
        group: images; empty asks for `Models.about`.
        missing: those of them that the driver does not see either.
        about: of the first worker, which that of the worker must equal.
    """

    group: tuple[Named, ...] = ()
    missing: frozenset[Path] = frozenset()
    about: dict[str, Yaml] | None = None


@dataclass(frozen=True)
class Answers:
    """What a worker returns.

    Attributes:
        done: the images, each with the content of its outputs by name, in the order in which they are written.
        about: of its models; empty if it was asked about images.
        printed: what was printed while the models were loaded, likewise.
    """

    done: tuple[tuple[Done, dict[str, bytes]], ...]
    about: dict[str, Yaml]
    printed: str


@dataclass(frozen=True)
class GroupSetup:
    """Prepares a worker of the pool: it loads the models and answers groups of images with them."""

    load: Load
    options: PredictOptions

    def __call__(self, device: str) -> Callable[[Task], Answers]:
        """A function that answers a group."""
        printed = io.StringIO()
        with redirect_stdout(printed):
            models = self.load(self.options, device)
        return partial(_answer, models, dict(models.about), printed.getvalue())

    def describe(self, item: Task) -> str:
        """A group and a fix, for the error about a group on which every worker dies."""
        paths = [image.path for image, _ in item.group]
        what = "the models, which they load first"
        if paths:
            what = str(paths[0]) if len(paths) == 1 else f"the images {paths[0]} to {paths[-1]}"
        return f"{what}; if memory ran out, rerun the command with fewer --workers to continue."


def _answer(models: Models, about: dict[str, Yaml], printed: str, task: Task) -> Answers:
    """Answer a group; raises GeoClickError if this node lacks images or disk, or has other models."""
    if not task.group:
        return Answers((), about, printed)
    ray_pool.check_equal(about, task.about or {})
    for image, _ in task.group:
        if image.path not in task.missing and not image.path.is_file():
            raise GeoClickError(
                f"Node {ray_pool.node()} has no file {image.path}; give absolute paths that all nodes share."
            )
    try:
        with tempfile.TemporaryDirectory() as folder, views.small_cache():
            done = models.answer(task.group, Path(folder))
            return Answers(tuple((one, _taken(Path(folder), one.named[1])) for one in done), {}, "")
    except OSError as error:
        raise GeoClickError(f"Node {ray_pool.node()} cannot write ({error}); fix its disk.") from error


def _taken(folder: Path, names: Names) -> dict[str, bytes]:
    """The content of the outputs of an image, which are removed."""
    taken = {}
    for name in _in_order(names):
        path = folder / name
        if path.exists():
            taken[name] = path.read_bytes()
            path.unlink()
    return taken


def _in_order(names: Names) -> list[str]:
    """The names of all possible outputs of an image, the records last."""
    return sorted(names.files(), key=lambda name: name.endswith(".json"))


@dataclass(frozen=True)
class RayEngine:
    """Workers that have loaded the models.

    Attributes:
        workers: of the pool.
        about: see Engine.
    """

    workers: "Workers[Task, Answers]"
    about: dict[str, Yaml]

    def answer(
        self, groups: Iterable[Sequence[Named]], folder: Path, on_done: Callable[[Done], None]
    ) -> None:
        """See Engine."""

        def tasks() -> Iterator[tuple[int, Task]]:
            for index, group in enumerate(groups):
                missing = frozenset(image.path for image, _ in group if not image.path.is_file())
                yield index, Task(tuple(group), missing, self.about)

        def write(_: int, answers: Answers) -> None:
            for done, outputs in answers.done:
                for name, content in outputs.items():
                    files.refuse_link(folder / name)
                    with files.whole(folder / name) as partial_path:
                        partial_path.write_bytes(content)
                on_done(done)

        self.workers.run(tasks(), write)


@contextmanager
def opened(load: Load, options: PredictOptions, images: int) -> Iterator[RayEngine]:
    """Start the workers; one of them describes the models.

    Args:
        load: loads the models of a worker.
        options: of the command.
        images: their number; there are no more workers.
    """
    where = Resources(options.device, options.workers, options.ray_address)
    with ray_pool.opened(GroupSetup(load, options), images, where) as workers:
        described: list[Answers] = []
        workers.run([(0, Task())], lambda _, answers: described.append(answers))
        print(described[0].printed, end="")
        yield RayEngine(workers, described[0].about)
