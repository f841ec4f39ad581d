"""The step of one token as a compiled graph with a cache of fixed size.

On a GPU a token costs a model of a few billion weights less time than Python needs to launch its kernels; a CUDA graph
launches all of them at once. A graph is compiled for each number of rows and length, both rounded up, which takes up to
a minute, so that it pays for many batches only.
"""

from weakref import WeakKeyDictionary

import torch
from transformers import Cache, StaticCache

from geoclick.vlms.generation.steps import LanguageModel, advance

LENGTHS = 256
"""Lengths of caches are multiples of this number of tokens."""

_steps: "WeakKeyDictionary[LanguageModel, dict[tuple[int, int], FixedStep]]" = WeakKeyDictionary()


def step_of(text: LanguageModel, rows: int, length: int) -> "FixedStep":
    """The step of a language model for at least `rows` rows of at least `length` tokens, the answers included.

    It is made once for each model and size, and its cache is used again by the next batch.
    """
    size = (1 << (rows - 1).bit_length(), -(-length // LENGTHS) * LENGTHS)
    steps = _steps.setdefault(text, {})
    if size not in steps:
        steps[size] = FixedStep(text, *size)
    return steps[size]


class FixedStep:
    """A `Step` (see steps.py) with a fixed number of rows, of which some are not used, and a cache of fixed length.

    Args:
        text: the language model.
        rows: of the batch.
        length: of the cache in tokens.
    """

    def __init__(self, text: LanguageModel, rows: int, length: int) -> None:
        device = text.device
        self._cache = StaticCache(text.config, max_cache_len=length)
        self._visible = torch.zeros(rows, 1, 1, length, dtype=torch.bool, device=device)
        self._ids = torch.zeros(rows, 1, dtype=torch.int64, device=device)
        self._places = torch.zeros_like(self._ids)
        self._open = torch.arange(rows, device=device)
        self._used = 0
        mode = "reduce-overhead" if device.type == "cuda" else "default"
        self._advance = torch.compile(advance, mode=mode, dynamic=False)
        self._text = text

    def start(self, cache: Cache, mask: torch.Tensor, position: torch.Tensor) -> None:
        """Take the tokens so far.

        Args:
            cache: of n rows, at most those of this step.
            mask: 1 where there is a token, [n, tokens].
            position: rotary position of the next token, int64 [n].
        """
        count, self._used = mask.shape
        self._open = torch.arange(count, device=mask.device)
        # Rows that are not used repeat the first one.
        rows = torch.zeros(len(self._ids), dtype=torch.int64, device=mask.device)
        rows[:count] = self._open
        for layer, source in zip(self._cache.layers, cache.layers, strict=True):
            if not layer.is_initialized:
                layer.lazy_initialization(source.keys[rows], source.values[rows])
            layer.keys[:, :, : self._used] = source.keys[rows]
            layer.values[:, :, : self._used] = source.values[rows]
            layer.cumulative_length.fill_(self._used)
        self._visible.zero_()
        self._visible[:, 0, 0, : self._used] = mask[rows].bool()
        self._places.copy_(position[rows][:, None])

    def __call__(self, left: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """See `Step`; answers that have ended stay in the batch."""
        self._open = self._open[left]
        self._ids[self._open, 0] = tokens
        self._visible[..., self._used] = True
        self._used += 1
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        hidden = self._advance(self._text, self._ids, self._places, self._visible, self._cache)
        self._places += 1
        return hidden[self._open]
