"""Packed rows in a Qwen-VL: the vision tower sees each image once, and no sample attends to another.

These are hooks on the model's backbone, so that they run inside any wrapper of the model: PEFT, DDP, DeepSpeed, FSDP.
"""

from typing import Any

import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.modeling_outputs import ModelOutput
from transformers.utils.generic import is_flash_attention_requested

from geoclick.train.data import vision_features
from geoclick.train.packing import linear_attention, variable_length

Args = tuple[Any, ...]
Kwargs = dict[str, Any]

BY_SAMPLE = "sdpa_by_sample"
"""Name of the attention that replaces `sdpa`."""


def prepare(model: PreTrainedModel) -> None:
    """Let a Qwen-VL take the batches of `geoclick.train.packing.packed_collator`; other batches work as before.

    Args:
        model: a conditional-generation model of transformers, not yet wrapped.

    Raises:
        GeoClickError: its linear attention cannot keep samples apart, see `linear_attention.prepare`.
    """
    linear_attention.prepare(model)
    config = model.model.language_model.config
    if config._attn_implementation == "sdpa":
        AttentionInterface.register(BY_SAMPLE, by_sample)
        AttentionMaskInterface.register(BY_SAMPLE, sdpa_mask)
        config._attn_implementation = BY_SAMPLE
    model.model.register_forward_pre_hook(_before, with_kwargs=True)
    model.model.register_forward_hook(_after, with_kwargs=True)


def by_sample(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    sample_lengths: list[int] | None = None,
    sample_bounds: torch.Tensor | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Scaled-dot-product attention, causal within each sample.

    On GPUs in half precision one kernel takes all samples; elsewhere they follow one another. A block-diagonal mask
    would give the same result, but its time and memory grow with the square of the pack.

    Args:
        module: the layer.
        query: [1, heads, T, width].
        key: [1, key heads, T, width].
        value: as `key`.
        attention_mask: of batches that are not packed.
        sample_lengths: their sum is T; None is plain `sdpa`.
        sample_bounds: where the samples begin, and T at the end, int32 [samples + 1].
        kwargs: of transformers' attention.

    Returns:
        [1, T, heads, width], and None for the weights.
    """
    if sample_lengths is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    if sample_bounds is not None and not kwargs.get("dropout") and variable_length.usable(query):
        scale = kwargs.get("scaling")
        longest = max(sample_lengths)
        return variable_length.attend(query, key, value, sample_bounds, longest, scale), None
    parts = zip(*(torch.split(tensor, sample_lengths, dim=2) for tensor in (query, key, value)), strict=True)
    kwargs |= {"is_causal": True}
    return torch.cat(
        [sdpa_attention_forward(module, *part, None, **kwargs)[0] for part in parts], dim=1
    ), None


def _before(backbone: PreTrainedModel, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs] | None:
    if kwargs.get("cu_seq_lens") is None:
        return None
    kwargs = dict(kwargs)
    bounds, lengths = kwargs.pop("cu_seq_lens"), kwargs.pop("sample_lengths")
    index = kwargs.pop("image_index", None)
    if index is not None:
        pixels, grids = kwargs.pop("pixel_values"), kwargs.pop("image_grid_thw")
        output = backbone.get_image_features(pixels, grids, return_dict=True)
        images = vision_features.split(output, grids)
        kwargs["mm_encoder_outputs"] = {"image": vision_features.join(images[i] for i in index)}
    # Without a mask and a cache, transformers makes a block-diagonal mask from the first row of the positions.
    kwargs |= {"attention_mask": None, "use_cache": False}
    config = backbone.language_model.config
    if config._attn_implementation == BY_SAMPLE or "linear_attention" in (
        getattr(config, "layer_types", None) or ()
    ):
        kwargs |= {"sample_lengths": lengths}
    if config._attn_implementation == BY_SAMPLE:
        kwargs |= {"sample_bounds": bounds}
        kwargs |= {"position_ids": kwargs["position_ids"][1:]}
    elif is_flash_attention_requested(config):
        # Otherwise every layer would compute the bounds again.
        kwargs |= {"cu_seq_lens_q": bounds, "cu_seq_lens_k": bounds}
        kwargs |= {"max_length_q": max(lengths), "max_length_k": max(lengths)}
    return args, kwargs


def _after(backbone: PreTrainedModel, args: Args, kwargs: Kwargs, output: ModelOutput) -> ModelOutput:
    """Select the label positions, so that only they get logits.

    transformers' head selects them itself and does not pass `logits_to_keep` on; TRL's fused head passes it.
    """
    positions = kwargs.get("logits_to_keep")
    if positions is not None:
        output.last_hidden_state = output.last_hidden_state[:, positions]
    return output
