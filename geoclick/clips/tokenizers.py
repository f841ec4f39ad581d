"""CLIP's tokenizer for checkpoint files, which hold weights only."""

import gzip
import importlib.util
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from geoclick.errors import GeoClickError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import CLIPTokenizer

VOCABULARY = "bpe_simple_vocab_16e6.txt.gz"
"""OpenAI's file of merges, which open_clip_torch and OpenAI's clip contain."""

TOKENS = 49408
"""Tokens of CLIP: 256 bytes, each also as the end of a word, the merges, and two special tokens."""

HUB = "openai/clip-vit-base-patch32"


class Tokenizer(Protocol):
    """What we use of transformers' tokenizers."""

    def __call__(
        self, text: list[str], *, padding: str, max_length: int | None = None, return_tensors: str
    ) -> "dict[str, Tensor]":
        """The tokens of texts [N, T] as `input_ids`."""
        ...


def for_checkpoint(path: Path) -> Tokenizer:
    """CLIP's tokenizer, from VOCABULARY next to a checkpoint, an installed package, or the hub.

    Raises:
        GeoClickError: there is none.
    """
    folders = [path.parent, *_packages()]
    file = next((folder / VOCABULARY for folder in folders if (folder / VOCABULARY).is_file()), None)
    return from_vocabulary(file) if file else _from_hub(path)


def _packages() -> list[Path]:
    specs = [importlib.util.find_spec(name) for name in ("open_clip", "clip")]
    return [Path(spec.origin).parent for spec in specs if spec and spec.origin]


@lru_cache
def from_vocabulary(path: Path) -> "CLIPTokenizer":
    """CLIP's tokenizer from a file of merges such as VOCABULARY; raises GeoClickError if it is another file."""
    from transformers import CLIPTokenizer
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            lines = file.read().split("\n")
        # The first line is a header, and the last lines of the file are not used.
        pairs = [tuple(line.split()) for line in lines[1 : TOKENS - 2 * 256 - 2 + 1]]
        merges = [(first, second) for first, second in pairs]
    except (OSError, EOFError, ValueError) as error:
        raise GeoClickError(f"{path} is damaged or no vocabulary of CLIP; remove or replace it.") from error
    symbols = list(bytes_to_unicode().values())
    tokens = [*symbols, *(f"{symbol}</w>" for symbol in symbols), *map("".join, merges)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    if len(vocabulary) != TOKENS:
        raise GeoClickError(f"{path} has {len(vocabulary)} tokens, not CLIP's {TOKENS}; replace it.")
    return CLIPTokenizer(vocab=vocabulary, merges=merges)


def _from_hub(path: Path) -> Tokenizer:
    from transformers import CLIPTokenizer

    try:
        tokenizer = CLIPTokenizer.from_pretrained(HUB)
        # Without its files a tokenizer is empty rather than an error.
        if len(tokenizer) != TOKENS:
            raise ValueError("incomplete")
        return tokenizer
    except Exception as error:  # the hub's client raises many kinds: network, HTTP, cache
        raise GeoClickError(
            f"The tokenizer of CLIP cannot be downloaded ({type(error).__name__}); put {VOCABULARY} next to {path}, or "
            "install open_clip_torch, which contains it."
        ) from error
