"""The embedded VLM's processor: a byte-level tokenizer of the project's own words, the family's chat template.

The tokenizer is Qwen's class with Qwen's rule of splitting (each digit a token of its own, bytes as the last resort)
over a vocabulary learnt from the queries, prompts and answers of this project; no text of other origin enters.
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
"""Patch side and merge factor of the vision tower, and the side in pixels of the square it was trained on."""

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
    """Every sentence form that the scenes can ask in, every prompt and every form of answer."""
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


def tokenizer() -> Qwen2Tokenizer:
    """Learn the merges; the result is the same on every machine."""
    reference = Qwen2Tokenizer()
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = reference.backend_tokenizer.pre_tokenizer
    learner.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, initial_alphabet=alphabet, show_progress=False, min_frequency=2
    )
    learner.train_from_iterator(corpus(), trainer)
    vocabulary = learner.get_vocab()
    merges = [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]
    made = Qwen2Tokenizer(
        vocab=vocabulary, merges=merges, unk_token=None, pad_token="<|endoftext|>", eos_token="<|im_end|>"
    )
    made.add_special_tokens({"additional_special_tokens": list(SPECIAL)})
    return made


def processor() -> Qwen3VLProcessor:
    """Tokenizer, image processor and chat template together; every image becomes about 64 visual tokens."""
    pixels = {"shortest_edge": SIDE * SIDE, "longest_edge": SIDE * SIDE}
    sizes = {"patch_size": PATCH, "temporal_patch_size": 2, "merge_size": MERGE}
    look = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    return Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=pixels, **sizes, **look),
        tokenizer=tokenizer(),
        video_processor=Qwen3VLVideoProcessor(size=pixels, **sizes, **look),
        chat_template=CHAT_TEMPLATE,
    )
