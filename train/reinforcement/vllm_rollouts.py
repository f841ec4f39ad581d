"""Sampling the answers of GRPO with vLLM, in this process (colocate) or on a server, by TRL's VLLMGeneration.

Four things differ from TRL. Images are resized by the adapter's pixel limits before they are sent, so that vLLM sees
the pixels of the trainer whatever its own limits are; other numbers of visual tokens end the run. In this process vLLM
gets prompts with one image token for each image, which it expands itself. The adapter is merged into copies of the
weights: TRL merges it into the base and subtracts it again, which changes weights of 16 bits a little at each step. And
errors are one sentence.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, TypedDict

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from PIL import Image
from torchvision.transforms.v2 import InterpolationMode, functional

from geoclick.datasets import Sample
from geoclick.errors import GeoClickError, UsageError, first_line
from geoclick.inference.backends.constrained import pattern_of
from geoclick.vlms.loading import Vlm, pixel_limits, resized_size
from geoclick.vlms.processor import Processor

if TYPE_CHECKING:
    from trl import GRPOConfig
    from trl.generation.vllm_generation import VLLMGeneration

SERVER, COLOCATE = "server", "colocate"


class Place(TypedDict):
    """Where the tokens of an image are in a prompt."""

    offset: int
    length: int


class Features(TypedDict):
    """What GeoClick uses of a server's features of the images of a prompt: their places, by the key `image`."""

    mm_placeholders: dict[str, list[Place]]


def check(arguments: "GRPOConfig", *, constrained: bool, estimated: bool = False) -> None:
    """Refuse options of vLLM that do not work, before the model is loaded.

    Args:
        arguments: TRL's config of the run.
        constrained: whether vLLM shall write answers in their format only.
        estimated: whether memory and time are estimated for another card.

    Raises:
        GeoClickError: the run has no GPU.
        UsageError: `constrained` without vLLM or with a regular expression of the user, or an estimate with vLLM.
    """
    if estimated and arguments.use_vllm:
        raise UsageError("--dry-run CARD does not know the memory and time of vLLM; remove use_vllm.")
    if constrained and not arguments.use_vllm:
        raise UsageError("--constrained has no effect without use_vllm; give that, too.")
    if constrained and arguments.vllm_structured_outputs_regex:
        raise UsageError("--constrained sets vllm_structured_outputs_regex; remove one of them.")
    if arguments.use_vllm and arguments.device.type != "cuda":
        raise GeoClickError(
            "use_vllm needs a GPU, from which the weights are sent to vLLM, but the run is on the CPU; remove it."
        )


@contextmanager
def readable_errors(arguments: "GRPOConfig") -> Iterator[None]:
    """Turn errors of vLLM, and of TRL's client of its server, into a GeoClickError of one sentence."""
    try:
        yield
    except GeoClickError:
        raise
    # TRL raises plain Exceptions; vLLM, its workers and CUDA raise errors of many types.
    except Exception as error:
        if not arguments.use_vllm:
            raise
        reason = first_line(error).rstrip(".:") or type(error).__name__
        where = "the vLLM server" if arguments.vllm_mode == SERVER else "vLLM"
        raise GeoClickError(
            f"The answers could not be sampled by {where} ({reason}); fix that, then rerun the command, with --resume "
            "if the run has a checkpoint."
        ) from error


def pattern(vlm: Vlm, samples: Sequence[Sample], answer_format: str, max_completion_length: int) -> str:
    """The regular expression of the answers about all images of a run.

    Coordinates of Qwen2.5-VL are pixels of the resized image: the pattern allows those of the largest one, and clicks
    outside of a smaller image are dropped, as in any answer.

    Args:
        vlm: its family and processor define how clicks are written.
        samples: of the run.
        answer_format: `json` or `compact`.
        max_completion_length: length limit of an answer; as many clicks are allowed as fit.
    """
    sizes = {sample.size for sample in samples}
    largest = max(max(resized_size(vlm.processor, size)) for size in sizes)
    frame = replace(vlm.frame(next(iter(sizes)), answer_format), resized_size=(largest, largest))
    return pattern_of(frame, max_completion_length)


def pictures(processor: Processor, samples: Sequence[Sample]) -> list[list[Image.Image]]:
    """The images of samples, one list for each, resized by the processor's pixel limits as the processor does it.

    A processor with other limits leaves such an image as it is, unless they exclude its size.
    """
    made: dict[int, Image.Image] = {}
    for sample in samples:
        if id(sample) not in made:
            pixels = torch.from_numpy(sample.read_image().copy()).permute(2, 0, 1)
            resized = functional.resize(
                pixels,
                list(resized_size(processor, sample.size)),
                interpolation=InterpolationMode.BICUBIC,
                antialias=True,
            )
            made[id(sample)] = Image.fromarray(resized.permute(1, 2, 0).contiguous().numpy())
    return [[made[id(sample)]] for sample in samples]


def adapt(generation: "VLLMGeneration", processor: Processor) -> None:
    """Let TRL's generation check the visual tokens of the server's images, and merge the adapter into copies."""
    place = generation._place_features

    def placed(features: Features | None, prompt_ids: list[int]) -> Features | None:
        moved: Features | None = place(features, prompt_ids)
        if features is not None and moved is not None:
            check_visual_tokens(features, moved, processor)
        return moved

    generation._place_features = placed
    generation._iter_named_params = lambda: merged_weights(generation.model, generation)


def check_visual_tokens(features: Features, moved: Features, processor: Processor) -> None:
    """Compare the server's number of visual tokens of each image with that of the prompt.

    Args:
        features: of the server, for one prompt.
        moved: the same with the places of the images in the prompt.
        processor: of the run.

    Raises:
        GeoClickError: they differ, since the server resizes the image again.
    """
    numbers = [[one["length"] for one in each["mm_placeholders"]["image"]] for each in (features, moved)]
    if numbers[0] != numbers[1]:
        least, most = pixel_limits(processor)
        raise GeoClickError(
            f"The vLLM server makes {numbers[0][0]} visual tokens of an image of {numbers[1][0]}; start it with "
            f'--mm-processor-kwargs \'{{"min_pixels": {least}, "max_pixels": {most}}}\'.'
        )


def merged_weights(model: PeftModel, generation: "VLLMGeneration") -> Iterator[tuple[str, torch.Tensor]]:
    """The weights of a model with its adapter merged, by the names of vLLM; the model itself does not change.

    Args:
        model: with one active adapter.
        generation: TRL's, which knows the names.
    """
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, BaseTunerLayer)}
    for name, parameter in model.named_parameters():
        plain = name.removeprefix("base_model.model.").replace(".base_layer", "")
        # As in TRL: vLLM knows neither the adapter's weights nor two versions of a module.
        if model.prefix in plain or "original_module" in plain:
            continue
        layer = layers.get(name.rpartition(".base_layer.")[0])
        weight = parameter.data if layer is None else merged(layer, parameter)
        yield generation._fix_param_name_to_vllm(plain, extra_prefixes=["modules_to_save.default."]), weight


def merged(layer: BaseTunerLayer, parameter: torch.nn.Parameter) -> torch.Tensor:
    """A weight of a layer's base with the adapter merged into a copy of it."""
    before = [(one, one.data) for one in layer.get_base_layer().parameters()]
    try:
        for one, data in before:
            one.data = data.clone()
        layer.merge()
        return parameter.data
    finally:
        layer.merged_adapters.clear()
        for one, data in before:
            one.data = data
