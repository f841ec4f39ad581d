"""What runs the predictor of an evaluation: this process, together with those of a launcher, or a Ray cluster."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from geoclick.inference.evaluation import answering, predictors, run_folder
from geoclick.inference.evaluation.answering import Engine
from geoclick.inference.evaluation.run_folder import Part
from geoclick.jobs import processes
from geoclick.yaml_file import Yaml

if TYPE_CHECKING:
    from geoclick.inference.evaluation.dataset_scan import DatasetScan
    from geoclick.inference.evaluation.options import ResolvedOptions
    from geoclick.inference.evaluation.predictors import Predictor


@dataclass(frozen=True)
class Local:
    """A predictor in this process."""

    options: "ResolvedOptions"
    predictor: "Predictor"

    @property
    def about(self) -> dict[str, Yaml]:
        """See Engine."""
        return self.predictor.describe()

    def answer(
        self,
        output: Path,
        parts: Callable[[], Iterable[Part]],
        held: BinaryIO,
        advance: Callable[[int], None],
    ) -> dict[str, Yaml]:
        """See Engine; returns when all parts are complete, or, in other processes than the first, are claimed."""
        ask = partial(answering.answer_batch, self.options, self.predictor)
        run_folder.answer(output, parts, held, batch_size=self.options.batch_size, ask=ask, advance=advance)
        return {"processes": processes.count()}


@contextmanager
def opened(options: "ResolvedOptions", scan: "DatasetScan") -> Iterator[Engine]:
    """The engine of the options, with its models; they are loaded by workers only if it is a Ray cluster."""
    if options.engine == "local":
        yield Local(options, predictors.load(options, scan))
        return
    from geoclick.inference.evaluation import ray_engine

    with ray_engine.opened(options, scan) as engine:
        yield engine
