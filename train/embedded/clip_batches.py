"""The batches of the embedded CLIP by step number: views with captions, and regions with phrases that name them."""

from collections.abc import Sequence

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerFast

from geoclick.train.embedded.clip_captions import (
    TEMPLATES,
    Caption,
    Claim,
    Counts,
    absent,
    describe,
    nearly_true,
    possible,
    write,
)
from geoclick.train.embedded.clip_processor import CONTEXT, MEAN, SIDE, STD, UNKNOWN
from geoclick.train.embedded.clip_views import Scenes, View, random_view
from geoclick.train.embedded.clip_words import ABSENT, BACKGROUND, CATEGORIES, NAMES, colors_of, named

ABSENT_PHRASES = 8
"""Phrases of a step for what no scene shows."""

LARGE_SIDE, LARGE_SHARE = 224, 0.25
"""Side of larger views, of which a batch has fewer, and the share of the batches that consist of them.

Dense features are often computed in windows of 224 pixels, with interpolated position embeddings.
"""

Batch = dict[str, torch.Tensor]


class ClipBatches(Dataset[Batch]):
    """Complete batches by step number; a step has the same batch in resumed and in uninterrupted runs.

    A batch holds (V views, N regions, K phrases):
        pixel_values: float32 [V, 3, S, S].
        captions: token ids [2V, L]: a true caption of each view, then a wrong one of each.
        possible: whether a caption may hold for a view, bool [2V, V].
        region_views: the view of each region, int64 [N].
        region_weights: of its patches, float32 [N, patches].
        phrases: token ids [K, L]; the last one is a word for the background.
        truth: 1 where a phrase names a region, -1 where it does not, 0 where that is unclear, int8 [N, K].
        plain: whether a phrase names no color, bool [K].

    Args:
        scenes: to cut views from.
        tokenizer: of the model.
        steps: number of steps of the run.
        views: number of views of SIDE pixels in a batch.
        seed: of views and captions.
    """

    def __init__(
        self, scenes: Scenes, tokenizer: PreTrainedTokenizerFast, *, steps: int, views: int, seed: int
    ) -> None:
        self.scenes, self.tokenizer = scenes, tokenizer
        self.steps, self.views, self.seed = steps, views, seed

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> Batch:
        rng = np.random.default_rng([self.seed, step])
        side, count = SIDE, self.views
        if rng.random() < LARGE_SHARE:
            side, count = LARGE_SIDE, max(2, round(count * (SIDE / LARGE_SIDE) ** 2))
        views = [random_view(self.scenes, rng, side) for _ in range(count)]
        return self._captions(views, rng) | self._regions(views, rng) | {"pixel_values": pixel_values(views)}

    def _captions(self, views: Sequence[View], rng: np.random.Generator) -> Batch:
        true, wrong = [], []
        for view in views:
            true.append(describe(view.fewest, view.most, rng))
            wrong.append(nearly_true(true[-1], counts_of([view]), rng) or absent(rng))
        captions = true + wrong
        return {
            "captions": tokenize(self.tokenizer, [caption.text for caption in captions]),
            "possible": torch.from_numpy(possible(captions, counts_of(views))),
        }

    def _regions(self, views: Sequence[View], rng: np.random.Generator) -> Batch:
        phrases = draw_phrases(rng)
        table = np.stack([truth_of(phrase) for phrase in phrases], 1)
        owner = np.repeat(np.arange(len(views)), [len(view.categories) for view in views])
        return {
            "region_views": torch.from_numpy(owner),
            "region_weights": torch.from_numpy(np.concatenate([view.weights for view in views])),
            "phrases": tokenize(self.tokenizer, [phrase.text for phrase in phrases]),
            "truth": torch.from_numpy(table[np.concatenate([view.categories for view in views])]),
            "plain": torch.tensor([phrase.claims[0].color is None for phrase in phrases]),
        }


def counts_of(views: Sequence[View]) -> Counts:
    """The objects of several views."""
    return Counts(np.stack([view.fewest for view in views]), np.stack([view.most for view in views]))


def pixel_values(views: Sequence[View]) -> torch.Tensor:
    """Normalized images, float32 [V, 3, S, S]."""
    values = torch.from_numpy(np.stack([view.image for view in views])).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(numbers).view(3, 1, 1) for numbers in (MEAN, STD))
    return (values - mean) / std


def tokenize(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> torch.Tensor:
    """Token ids [texts, L], cut at CONTEXT and padded to the longest."""
    encoded = tokenizer(list(texts), padding=True, truncation=True, max_length=CONTEXT, return_tensors="pt")
    return encoded.input_ids


def draw_phrases(rng: np.random.Generator) -> list[Caption]:
    """Names of all kinds and colors in random words and templates, names of absent things, one for the background."""
    claims = []
    for names in NAMES.values():
        first, second = names[0], str(rng.choice(names))
        claims += [Claim(word) for word in dict.fromkeys((first, second))]
        colored = str(rng.choice(names))
        claims += [Claim(colored, color) for color in colors_of(colored)]
    wrong = [*rng.choice(ABSENT, ABSENT_PHRASES - 1, replace=False), UNKNOWN]
    claims += [Claim(str(word)) for word in [*wrong, rng.choice(BACKGROUND)]]
    return [write((claim,), template(rng), rng) for claim in claims]


def template(rng: np.random.Generator) -> str:
    """A random template; every third is the bare text."""
    return "{}" if rng.random() < 1 / 3 else str(rng.choice(TEMPLATES))


def truth_of(phrase: Caption) -> np.ndarray:
    """For each category 1 if a phrase names it, -1 if not, 0 if that is unclear or it names the background, int8."""
    claim = phrase.claims[0]
    if claim.word in BACKGROUND:
        return np.zeros(len(CATEGORIES), np.int8)
    names, may_name = named(claim.word, claim.color)
    return np.where(names, 1, np.where(may_name, 0, -1)).astype(np.int8)
