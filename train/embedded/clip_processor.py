"""The embedded CLIP's processor: a tokenizer of whole words, and an image processor.

A word outside the vocabulary is one token, which training uses as the name of something that no scene shows.
"""

import itertools
from collections.abc import Iterator

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import CLIPImageProcessor, CLIPProcessor, PreTrainedTokenizerFast

from geoclick.scenes.kinds import KINDS
from geoclick.train.embedded.clip_captions import FORMS, NUMBERS, TEMPLATES
from geoclick.train.embedded.clip_words import ABSENT, BACKGROUND, NAMES, plural

SIDE, PATCH = 128, 16
"""Side of the images and of their patches, in pixels."""

CONTEXT = 32
"""Most tokens of a text."""

START, END, UNKNOWN = "<|startoftext|>", "<|endoftext|>", "<|unknown|>"
SPECIAL = (START, END, UNKNOWN)
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""OpenAI's normalization, which dense.py uses for every CLIP model by default."""

_WORD = r"[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]"


def texts() -> Iterator[str]:
    """Texts with all words of the vocabulary."""
    yield from (template.format("") for template in (*TEMPLATES, *FORMS))
    for word in itertools.chain(BACKGROUND, ABSENT, *NAMES.values()):
        yield f"{word} {plural(word)}"
    yield from (color for kind in KINDS.values() for color in kind.colors)
    yield " ".join(("a", "an", "the", "and", "on", ",", ".", "with", "of", "in", *NUMBERS))


def build_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer: lower case, letters in a row and single other characters are words."""
    normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    splitter = pre_tokenizers.Split(Regex(_WORD), "removed", invert=True)
    words = {
        word for text in texts() for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))
    }
    vocabulary = {word: i for i, word in enumerate([*SPECIAL, *sorted(words)])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, splitter
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(START, vocabulary[START]), (END, vocabulary[END])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=START,
        eos_token=END,
        pad_token=END,
        unk_token=UNKNOWN,
        model_max_length=CONTEXT,
        padding_side="right",
    )


def build_processor() -> CLIPProcessor:
    """The processor: the shorter side becomes SIDE pixels, and the middle is cut out."""
    image_processor = CLIPImageProcessor(
        size={"shortest_edge": SIDE},
        crop_size={"height": SIDE, "width": SIDE},
        image_mean=list(MEAN),
        image_std=list(STD),
    )
    return CLIPProcessor(image_processor=image_processor, tokenizer=build_tokenizer())
