"""The vision tower runs in every training pass, also in that of a batch without images.

DDP, DeepSpeed ZeRO-3 and FSDP need every process to use the same weights in the same order, but one of two processes
may have texts only. It shows the tower a black image, multiplies its features by zero, and adds them to the embeddings
of its tokens: there, so that the backward pass of the first layers needs the weights that it needs with an image.
"""

from collections.abc import Iterator

import numpy as np
import torch
from transformers import PreTrainedModel

from geoclick.train.data.vision_features import Tensors
from geoclick.train.packing.packed_forward import Args, Kwargs
from geoclick.vlms.encoding import process_images
from geoclick.vlms.processor import Processor


def prepare(model: PreTrainedModel, processor: Processor) -> None:
    """Let every pass of a Qwen-VL in training mode run its vision tower, before the language model.

    Args:
        model: not yet wrapped; prepared by `packed_forward.prepare` before this if the run is packed.
        processor: the VLM's.
    """
    side = 2 * processor.image_processor.patch_size * processor.image_processor.merge_size
    black = process_images(processor, [np.zeros((side, side, 3), np.uint8)])
    zeros: list[torch.Tensor] = []

    def before(backbone: PreTrainedModel, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs] | None:
        zeros.clear()
        if not backbone.training or kwargs.get("mm_encoder_outputs"):
            return None
        kwargs = dict(kwargs)
        pixels, grids = kwargs.pop("pixel_values", None), kwargs.get("image_grid_thw")
        if pixels is not None:
            output = backbone.get_image_features(pixels, grids, return_dict=True)
            kwargs["mm_encoder_outputs"] = {"image": output}
            return args, kwargs
        inputs = (black[name].to(backbone.device) for name in ("pixel_values", "image_grid_thw"))
        output = backbone.get_image_features(*inputs, return_dict=True)
        names = [name for name in ("pooler_output", "deepstack_features") if output.get(name) is not None]
        zeros.append(torch.stack([0 * part.sum() for name in names for part in _tensors(output[name])]).sum())
        return args, kwargs

    def add(language_model: PreTrainedModel, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs] | None:
        if not zeros:
            return None
        embeddings = kwargs["inputs_embeds"]
        return args, {**kwargs, "inputs_embeds": embeddings + zeros.pop().to(embeddings.dtype)}

    model.model.register_forward_pre_hook(before, with_kwargs=True)
    model.model.language_model.register_forward_pre_hook(add, with_kwargs=True)


def _tensors(value: Tensors) -> Iterator[torch.Tensor]:
    """The tensors of nested sequences."""
    if isinstance(value, torch.Tensor):
        yield value
    else:
        for one in value:
            yield from _tensors(one)
