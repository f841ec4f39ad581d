"""The losses of the embedded VLM on a batch of lessons.

All questions about one image share its tokens: the image part of the chat runs once, and each question continues from
its keys and values. Every question is exactly the chat that it would be alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional
from transformers import Qwen3VLForConditionalGeneration

from geoclick.train.embedded.lessons import COLORS, IGNORED, KIND_INDEX, Batch

SUPERVISED_LAYERS = (2, 3)
"""Language layers in which every third attention head is trained to attend to the target."""

WEIGHTS = {"answer": 1.0, "dense": 0.5, "look": 0.2, "point": 4.0}
"""Weight of each loss of `losses`."""


@dataclass(frozen=True)
class BatchOutputs:
    """What the model computes for a batch.

    Attributes:
        hidden: hidden states of the questions' tokens, [Q, L, D] each: the input, then the output of every layer, the
            last one normalized.
        attentions: attention weights of every layer, [Q, heads, L, prefix + L] each.
        visual: the visual tokens, [B, N, D].
    """

    hidden: tuple[torch.Tensor, ...]
    attentions: tuple[torch.Tensor, ...]
    visual: torch.Tensor


def forward(model: Qwen3VLForConditionalGeneration, batch: Batch) -> BatchOutputs:
    """Run each image of a batch once, then its questions from the image's keys and values."""
    features = model.model.get_image_features(
        batch["pixel_values"], batch["image_grid_thw"], return_dict=True
    )
    cache = model.model(
        input_ids=batch["prefix"],
        position_ids=batch["prefix_positions"],
        image_grid_thw=batch["image_grid_thw"],
        mm_encoder_outputs={"image": features},
        use_cache=True,
    ).past_key_values
    questions, length = batch["tokens"].shape
    cache.batch_repeat_interleave(questions // len(batch["prefix"]))
    outputs = model.model(
        input_ids=batch["tokens"],
        attention_mask=torch.ones_like(batch["tokens"][:, :1]).expand(-1, batch["prefix"].shape[1] + length),
        position_ids=batch["positions"],
        past_key_values=cache,
        output_attentions=True,
        output_hidden_states=True,
    )
    return BatchOutputs(outputs.hidden_states, outputs.attentions, torch.stack(list(features.pooler_output)))


def losses(
    model: Qwen3VLForConditionalGeneration, heads: torch.nn.ModuleList, batch: Batch
) -> dict[str, torch.Tensor]:
    """The losses of a batch by name, each a scalar.

    `answer` is the mean cross-entropy of the answers' tokens. The others only help training: `dense` of the patch
    head, `look` of the attention (see `attention_loss`), and `point`, the mean absolute error of the point head in
    units of the image side.
    """
    patch_head, point_head = heads
    outputs = forward(model, batch)
    labels = batch["labels"][:, 1:]
    in_answer = labels != IGNORED
    logits = model.lm_head(outputs.hidden[-1][:, :-1][in_answer])
    answer = functional.cross_entropy(logits.float(), labels[in_answer])
    dense = _dense_loss(patch_head(outputs.visual).float(), batch)
    predicted = point_head(outputs.hidden[SUPERVISED_LAYERS[-1] + 1][:, :-1]).float()
    errors = (predicted[in_answer] - batch["points"][batch["parts"][:, 1:][in_answer]]).abs().mean(-1)
    errors = errors[~errors.isnan()]
    point = errors.mean() if len(errors) else predicted.sum() * 0
    return {
        "answer": answer,
        "dense": dense,
        "look": attention_loss(batch, outputs.attentions),
        "point": point,
    }


def _dense_loss(predicted: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Loss of kinds, colors and offsets of the patches; `predicted` is [images, tokens, 4 patches x values]."""
    images, side = len(predicted), int(predicted.shape[1] ** 0.5)
    patches = (
        predicted.view(images, side, side, 2, 2, -1).transpose(2, 3).reshape(images, 2 * side, 2 * side, -1)
    )
    kinds, colors, offsets = torch.split(patches, [len(KIND_INDEX) + 1, len(COLORS), 2], dim=-1)
    in_object = batch["kinds"] > 0
    return (
        functional.cross_entropy(kinds.flatten(0, 2), batch["kinds"].flatten())
        + functional.cross_entropy(colors[in_object], batch["colors"][in_object])
        + 4 * functional.l1_loss(offsets[in_object], batch["offsets"][in_object])
    )


def attention_loss(batch: Batch, attentions: Sequence[torch.Tensor]) -> torch.Tensor:
    """Mean cross-entropy of the attention of SUPERVISED_LAYERS against its targets, over the answers' tokens.

    The target of a token is the object of the part of the answer that it belongs to.

    Learning which of many objects a question means is the slow part of learning to point; with this loss it takes a
    fraction of the steps. The attention layers are ordinary ones, and the model needs nothing of this afterwards.
    """
    start = int((batch["prefix_positions"][0, 0].diff() == 0).nonzero()[0])
    in_answer = batch["labels"][:, 1:] != IGNORED
    targets = batch["attention_targets"][batch["parts"][:, 1:][in_answer]][:, None]
    layer_losses = []
    for layer in SUPERVISED_LAYERS:
        weights = attentions[layer][:, ::3, :-1, start : start + targets.shape[-1]].transpose(1, 2)[in_answer]
        log_weights = weights.float().clamp_min(1e-6).log()
        layer_losses.append(-(log_weights * targets).sum(-1).mean())
    return torch.stack(layer_losses).mean()
