"""Memory and time of a run on a card that is not here, from the shapes of the model and the lengths of the rows."""

from dataclasses import dataclass

from transformers import PreTrainedModel

from geoclick.errors import GeoClickError
from geoclick.train.loop.cards import Card
from geoclick.vlms.families import FAMILIES

UTILIZATION = 0.35
"""Share of a card's peak that training reaches; published trainings of Qwen-VL reach 30 to 40 %."""

LAYER_SECONDS = 1e-3
"""Time of a layer for each generated token, where it is not limited by the memory's bandwidth."""

RESERVED = 1.5e9
"""Bytes of the CUDA context, workspaces and fragmentation."""

STATE_BYTES = 16
"""Bytes of a trained weight in float32, its gradient and AdamW's two moments."""

QUANTIZED_BYTES = 0.53
"""Bytes of a weight in NF4, with the scales of its blocks."""


@dataclass(frozen=True)
class Shapes:
    """The widths of a model.

    Attributes:
        layers: of the language model.
        hidden: width of a layer.
        intermediate: width of its MLP.
        queries: width of all query heads.
        keys: width of all key heads.
        normalized: whether queries and keys are normalized.
        vocabulary: number of tokens.
        layer_weights: weights of all layers of the language model, without LoRA.
        vision_weights: weights of the vision tower, without LoRA.
        other_weights: all other weights without LoRA, such as the embeddings.
    """

    layers: int
    hidden: int
    intermediate: int
    queries: int
    keys: int
    normalized: bool
    vocabulary: int
    layer_weights: int
    vision_weights: int
    other_weights: int


@dataclass(frozen=True)
class Work:
    """What a process computes.

    Attributes:
        longest: tokens of the longest batch, padding included.
        tokens: tokens of a step, padding included.
        squares: sum of the squared lengths of the rows of a step.
        patches: image patches that the vision tower sees in a step.
        accumulated: batches of a step.
        trained: trained weights.
        checkpointed: whether activations are computed again in the backward pass.
        quantized: whether the layers of the language model are in 4 bits.
        shares: processes among which the frozen weights are divided.
    """

    longest: int
    tokens: float
    squares: float
    patches: float
    accumulated: int
    trained: int
    checkpointed: bool
    quantized: bool
    shares: int


def shapes_of(model: PreTrainedModel) -> Shapes:
    """The widths of a Qwen-VL, wrapped by PEFT or not.

    Raises:
        GeoClickError: it is a mixture of experts or has linear attention, whose costs are not known.
    """
    config = model.config.text_config
    family = FAMILIES.get(model.config.model_type)
    if family is not None and (family.experts or family.recurrent):
        raise GeoClickError(
            f"The memory and time of {family.name} on another card are not known; use --dry-run without a value on the "
            "machine of the run."
        )
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    frozen = {name: weight.numel() for name, weight in model.named_parameters() if "lora_" not in name}
    layers = sum(count for name, count in frozen.items() if ".language_model.layers." in name)
    vision = sum(count for name, count in frozen.items() if ".visual." in name)
    return Shapes(
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        intermediate=config.intermediate_size,
        queries=config.num_attention_heads * width,
        keys=config.num_key_value_heads * width,
        normalized=any(".q_norm." in name for name in frozen),
        vocabulary=config.vocab_size,
        layer_weights=layers,
        vision_weights=vision,
        other_weights=sum(frozen.values()) - layers - vision,
    )


def activation_bytes(shapes: Shapes, *, checkpointed: bool) -> float:
    """Bytes that a token keeps for the backward pass, in bfloat16 with frozen weights and LoRA on every projection.

    A normalization keeps its input in float32; each LoRA keeps the input of its projection; attention keeps queries,
    keys, values and its result; the MLP keeps gate, its activation and up. Frozen projections keep nothing.
    """
    hidden, queries, keys = shapes.hidden, shapes.queries, shapes.keys
    norms = 2 * 4 * hidden + (4 * (queries + keys) if shapes.normalized else 0)
    adapters = 2 * (5 * hidden + queries + shapes.intermediate)
    attention = 2 * (2 * queries + 2 * keys)
    mlp = 2 * 3 * shapes.intermediate
    layer = norms + adapters + attention + mlp
    return shapes.layers * 2 * hidden + layer if checkpointed else shapes.layers * layer


def base_bytes(shapes: Shapes, work: Work) -> float:
    """Bytes of the frozen weights in a process."""
    layer = QUANTIZED_BYTES if work.quantized else 2
    return (layer * shapes.layer_weights + 2 * (shapes.vision_weights + shapes.other_weights)) / work.shares


def peak_bytes(shapes: Shapes, work: Work) -> float:
    """The largest memory of a process: weights, optimizer, and the activations of the longest batch."""
    activations = work.longest * activation_bytes(shapes, checkpointed=work.checkpointed)
    return base_bytes(shapes, work) + STATE_BYTES * work.trained + activations + RESERVED


def step_flops(shapes: Shapes, work: Work) -> float:
    """Operations of a step: forward and backward through frozen layers, and LoRA's own gradients."""
    passes = 3 if work.checkpointed else 2
    layers = 2 * passes * shapes.layer_weights * work.tokens + 6 * work.trained * work.tokens
    # Causal attention: two products forward, five backward, of half a square each.
    attention = shapes.layers * shapes.queries * work.squares * (2 * (passes - 1) + 5)
    return layers + attention + 2 * shapes.vision_weights * work.patches


def step_seconds(shapes: Shapes, work: Work, card: Card) -> float:
    """Time of a step on a card."""
    return step_flops(shapes, work) / (UTILIZATION * card.flops)


def answer_seconds(shapes: Shapes, work: Work, card: Card, *, tokens: int) -> float:
    """Time to generate a batch of answers of some tokens on a card, without the segmenter."""
    return tokens * max(base_bytes(shapes, work) / card.bandwidth, LAYER_SECONDS * shapes.layers)


def cache_bytes(shapes: Shapes, *, tokens: int) -> float:
    """Bytes of the keys and values of some tokens."""
    return 4.0 * shapes.keys * shapes.layers * tokens
