"""The embedded VLM's processor: a small byte-level tokenizer, an image processor and the family's chat template.

The tokenizer has Qwen's class and splitting rules: every digit is one token, unknown text becomes bytes. Its
vocabulary is trained only on the queries, prompts and answers of this project.
"""

import itertools
import json
from collections.abc import Iterator

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import Qwen2Tokenizer, Qwen2VLImageProcessor, Qwen3VLProcessor, Qwen3VLVideoProcessor

from geoclick.prompts import INSTRUCTIONS
from geoclick.scenes.kinds import KINDS
from geoclick.scenes.queries import EXTREMES, PLACES, REASONING, REFERRING

PATCH, MERGE, SIDE = 16, 2, 256
"""Patch size and merge factor of the vision tower, and the side in pixels of the training images."""

VOCABULARY = 1400

SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)

CHAT_TEMPLATE = """\
{%- for message in messages -%}
<|im_start|>{{ message.role }}
{% if message.content is string -%}
{{ message.content }}
{%- else -%}
{%- for part in message.content -%}
{%- if part.type == 'image' -%}<|vision_start|><|image_pad|><|vision_end|>
{%- elif part.type == 'text' -%}{{ part.text }}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}
<|im_start|>assistant
{% endif -%}"""

ANSWERS = (
    '[{"point_2d": [1, 2], "label": "positive"}, {"point_2d": [3, 4], "label": "negative"}]',
    "+(1,2) -(3,4) +(5,6)",
    "[] none",
)


def corpus() -> Iterator[str]:
    """Training text of the tokenizer: all query templates of the scenes, all prompts and all answer forms."""
    yield from itertools.chain.from_iterable(
        itertools.repeat(a, 200) for a in (*ANSWERS, "user\nassistant\n")
    )
    yield from (text.format(query="the building") for text in INSTRUCTIONS.values() for _ in range(100))
    for kind in KINDS.values():
        for color, template in itertools.product(kind.colors, REFERRING):
            yield template.format(f"{color} {kind.name}")
        for template, purpose in itertools.product(REASONING, kind.purposes):
            yield template.format(purpose)
        for extreme, place in itertools.product(EXTREMES, PLACES):
            yield f"the {extreme} {kind.name} in the {place}, the {extreme} one, the one in the {place}"
            yield f"the {kind.name} closest to the {kind.name}\nHow many: {kind.name}"


def train_tokenizer() -> Qwen2Tokenizer:
    """Train the tokenizer on `corpus`; the result is the same on every machine."""
    reference = Qwen2Tokenizer()
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = reference.backend_tokenizer.pre_tokenizer
    bpe.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, initial_alphabet=alphabet, show_progress=False, min_frequency=2
    )
    bpe.train_from_iterator(corpus(), trainer)
    vocabulary = bpe.get_vocab()
    merges = [tuple(pair) for pair in json.loads(bpe.to_str())["model"]["merges"]]
    tokenizer = Qwen2Tokenizer(
        vocab=vocabulary, merges=merges, unk_token=None, pad_token="<|endoftext|>", eos_token="<|im_end|>"
    )
    tokenizer.add_special_tokens({"additional_special_tokens": list(SPECIAL)})
    return tokenizer


def build_processor() -> Qwen3VLProcessor:
    """The processor; every image becomes about 64 visual tokens."""
    pixels = {"shortest_edge": SIDE * SIDE, "longest_edge": SIDE * SIDE}
    sizes = {"patch_size": PATCH, "temporal_patch_size": 2, "merge_size": MERGE}
    normalization = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    return Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=pixels, **sizes, **normalization),
        tokenizer=train_tokenizer(),
        video_processor=Qwen3VLVideoProcessor(size=pixels, **sizes, **normalization),
        chat_template=CHAT_TEMPLATE,
    )
