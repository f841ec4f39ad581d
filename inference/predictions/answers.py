"""The answers of the generative pipeline about many images: what is finished, asked and written."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from geoclick import files
from geoclick.geo import views
from geoclick.inference import pipeline as pipelines
from geoclick.inference.backends import ledger
from geoclick.inference.backends.openai import Server
from geoclick.inference.backends.vllm import Vllm
from geoclick.inference.pipeline import Pipeline
from geoclick.inference.predictions import asking, jobs
from geoclick.inference.predictions.image_job import ImageJob
from geoclick.inference.predictions.inputs import Input
from geoclick.inference.predictions.jobs import Job
from geoclick.inference.predictions.models import Done, Named
from geoclick.inference.predictions.options import PredictOptions
from geoclick.inference.predictions.output_files import Names
from geoclick.inference.predictions.raster_job import RasterJob
from geoclick.inference.predictions.records import Failures, Setting
from geoclick.vlms import Vlm
from geoclick.vlms.adapter import WEIGHTS
from geoclick.yaml_file import Yaml


def load(options: PredictOptions) -> Pipeline:
    """The generative pipeline of `--text`."""
    requests = Path(options.output) / ledger.FOLDER
    pipeline = pipelines.from_options(
        options, batch_size=options.batch_size, revision=options.revision, ledger=requests
    )
    pipelines.warn_of_untrained(pipeline, options.pixels())
    return pipeline


def setting_of(options: PredictOptions, pipeline: Pipeline) -> Setting:
    """How images are read and cut, and what their records share."""
    return Setting(
        folder=Path(options.output),
        pixels=options.pixels(),
        tile=options.tile,
        overlap=options.overlap,
        resolution=options.resolution,
        tolerance=options.tolerance,
        about=describe(options, pipeline),
    )


def describe(options: PredictOptions, pipeline: Pipeline) -> dict[str, Yaml]:
    """The part of a record that all answers share: the models, and how images are read and cut."""
    cut: dict[str, Yaml] = {} if options.tile is None else {"tile": options.tile}
    vlm = pipeline.vlm
    model = vlm.describe() if isinstance(vlm, Server) else _describe_local(options, vlm)
    return {
        **cut,
        "overlap": options.overlap,
        "resolution": options.resolution,
        "tolerance": options.tolerance,
        "adapter": options.adapter,
        "answer_format": pipeline.generation.answer_format,
        "max_new_tokens": pipeline.generation.max_new_tokens,
        **model,
        **_describe_sampling(options, pipeline),
        "segmenter": pipeline.segmenter.name,
        "segmenter_sha256": pipeline.segmenter.sha256,
        "decode": options.decode,
        "bands": list(options.bands),
        "stretch": list(options.stretch),
    }


def _describe_sampling(options: PredictOptions, pipeline: Pipeline) -> dict[str, Yaml]:
    """How tokens are chosen and answers are put together, where it is not the default."""
    seeded = options.temperature and not isinstance(pipeline.vlm, Server)
    sampling: dict[str, Yaml] = {"temperature": options.temperature, "seed": options.seed}
    return (sampling if seeded else {}) | pipeline.generation.describe()


def _describe_local(options: PredictOptions, vlm: Vlm | Vllm) -> dict[str, Yaml]:
    """A model in this process and its adapter."""
    weights = Path(options.adapter) / WEIGHTS if options.adapter else None
    return {
        "vlm": vlm.name,
        "vlm_revision": vlm.revision,
        "vlm_fingerprint": vlm.fingerprint,
        "adapter_sha256": files.sha256(weights) if weights else None,
        "quantise": vlm.quantized,
        "pixel_limits": [options.min_pixels, options.max_pixels],
        **(vlm.describe() if isinstance(vlm, Vllm) else {}),
    }


@dataclass(frozen=True)
class TextModels:
    """The generative pipeline as Models, see there.

    Attributes:
        pipeline: answers queries.
        setting: how images are read.
        batch_size: queries in one call of the model.
    """

    pipeline: jobs.Predictor
    setting: Setting
    batch_size: int

    @property
    def about(self) -> Mapping[str, Yaml]:
        """See Models."""
        return self.setting.about

    def answer(self, named: Sequence[Named], folder: Path) -> Iterator[Done]:
        """See Models."""
        of_image = {image: (image, names) for image, names in named}
        setting = replace(self.setting, folder=folder)
        for job, lines in jobs.answer_all(_jobs(named, setting), self.pipeline, self.batch_size):
            yield Done(of_image[job.image], job.errors, lines)


def models_of(options: PredictOptions) -> TextModels:
    """The models of `--text`."""
    pipeline = load(options)
    return TextModels(pipeline, setting_of(options, pipeline), options.batch_size)


def answer_all(
    pipeline: jobs.Predictor,
    setting: Setting,
    images: Sequence[Input],
    names: Sequence[Names],
    batch_size: int,
) -> Failures:
    """Predict and write in this process; finished answers are not asked again.

    Args:
        pipeline: the models.
        setting: how images are read.
        images: with their texts; those that do not exist fail.
        names: of the outputs of each.
        batch_size: queries in one call of the model.

    Returns:
        The reason for each query that failed.
    """
    engine = asking.Local(TextModels(pipeline, setting, batch_size))
    return asking.answer_all(engine, setting.folder, images, names, batch_size)


def _jobs(named: Sequence[Named], setting: Setting) -> Iterator[Job]:
    """How each image is read and written."""
    for image, names in named:
        if views.can_open(image.path):
            yield RasterJob(image, names, setting)
        elif setting.resolution is None:
            yield ImageJob(image, names, setting)
        else:
            yield _Refused(image)


class _Refused(Job):
    """An image that has no resolution."""

    def windows(self) -> Iterator[tuple[tuple[int, int], np.ndarray]]:
        """See Job."""
        raise views.no_place(self.image.path)
