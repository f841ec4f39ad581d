"""What runs the models of `geoclick predict`: this process, or a Ray cluster."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from geoclick.inference.predictions.asking import Engine, Local
from geoclick.inference.predictions.models import Models
from geoclick.inference.predictions.options import PredictOptions


def load(options: PredictOptions, device: str) -> Models:
    """The models of the options on a device."""
    options = replace(options, device=device)
    if options.classes is not None:
        from geoclick.inference.contrastive import map_models

        return map_models.load(options)
    from geoclick.vlms import adapter, bitsandbytes_import, quantization

    if options.backend == "local" and not quantization.kind_of(options.quantise, options.adapter):
        bitsandbytes_import.leave_out(adapter.base_of(options.vlm, options.adapter))
    from geoclick.inference.predictions import answers

    return answers.models_of(options)


def queries(options: PredictOptions) -> int:
    """The texts of a group, see `asking.groups`; maps are made image by image."""
    return 1 if options.classes is not None else options.batch_size


@contextmanager
def opened(options: PredictOptions, images: int) -> Iterator[Engine]:
    """The engine of the options, with its models; they are loaded by workers only if it is a Ray cluster.

    Args:
        options: of the command.
        images: their number.
    """
    if options.engine == "local":
        yield Local(load(options, options.device))
        return
    from geoclick.inference.predictions import ray_engine

    with ray_engine.opened(load, options, images) as engine:
        yield engine
