"""What a Qwen-VL must do for a packed row beyond its own code: one pass of the tower an image, no sight of neighbours.

Hooks on the model's backbone, so that they run inside whatever wraps the model: PEFT, DDP, DeepSpeed, FSDP.
"""

from typing import Any

import torch
from torch import nn
from transformers.modeling_flash_attention_utils import FlashAttentionKwargs
from transformers.utils.generic import is_flash_attention_requested

from train import features


def prepare(model: nn.Module) -> None:
    """Let a Qwen-VL take the batches of `train.packed_collator`; other batches pass as before.

    Args:
        model: a conditional-generation model of transformers, not yet wrapped.
    """
    model.model.register_forward_pre_hook(_before, with_kwargs=True)
    model.model.register_forward_hook(_after, with_kwargs=True)


def _before(backbone: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]] | None:
    if kwargs.get("cu_seq_lens") is None:
        return None
    kwargs = dict(kwargs)
    bounds, longest = kwargs.pop("cu_seq_lens"), kwargs.pop("max_length")
    index = kwargs.pop("image_index", None)
    if index is not None:
        pixels, grids = kwargs.pop("pixel_values"), kwargs.pop("image_grid_thw")
        # The tower is frozen. Without this, checkpointing would keep a graph through it all the same.
        with torch.no_grad():
            output = backbone.get_image_features(pixels, grids, return_dict=True)
        images = features.split(output, grids)
        kwargs["mm_encoder_outputs"] = {"image": features.join(images[i] for i in index)}
    # Without a mask and a cache, transformers makes the block-diagonal one from the places in the samples.
    kwargs |= {"attention_mask": None, "use_cache": False}
    if is_flash_attention_requested(backbone.language_model.config):
        kwargs |= variable_length(bounds, longest)
    return args, kwargs


def variable_length(bounds: torch.Tensor, longest: int) -> FlashAttentionKwargs:
    """The bounds of samples, int32 [N + 1], as flash attention takes them; without them every layer finds them anew."""
    return FlashAttentionKwargs(
        cu_seq_lens_q=bounds, cu_seq_lens_k=bounds, max_length_q=longest, max_length_k=longest
    )


def _after(backbone: nn.Module, args: tuple, kwargs: dict[str, Any], output: Any) -> Any:
    """Keep the label positions only, so that no other gets logits.

    transformers' own head does so by itself and does not pass `logits_to_keep` on; TRL's fused head passes it.
    """
    kept = kwargs.get("logits_to_keep")
    if kept is not None:
        output.last_hidden_state = output.last_hidden_state[:, kept]
    return output
