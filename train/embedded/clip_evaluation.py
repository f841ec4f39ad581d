"""How well the embedded CLIP tells true captions from wrong ones, and names regions, on held-out scenes."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import torch
from transformers import CLIPModel, PreTrainedTokenizerBase

from geoclick.train.embedded.clip_batches import counts_of, pixel_values, tokenize
from geoclick.train.embedded.clip_captions import (
    CHANGES,
    Caption,
    Claim,
    describe,
    nearly_true,
    phrase,
    possible,
)
from geoclick.train.embedded.clip_model import image_and_patch_features, text_features
from geoclick.train.embedded.clip_processor import SIDE
from geoclick.train.embedded.clip_views import Scenes, View, random_view
from geoclick.train.embedded.clip_words import NAMES, named

BATCH = 50
"""Views in one batch."""

CANDIDATES = 16
"""Captions of which one is the view's own, in the figure `caption`."""


@dataclass(frozen=True)
class HeldOut:
    """Held-out views with their captions and, by the kind of change, nearly true captions where there is one."""

    views: list[View]
    captions: list[Caption]
    wrong: dict[str, list[Caption | None]]


def held_out_views(scenes: Scenes, count: int, seed: int = 0) -> HeldOut:
    """Random views of held-out scenes."""
    rng = np.random.default_rng(seed)
    views = [random_view(scenes, rng, SIDE) for _ in range(count)]
    captions = [describe(view.fewest, view.most, rng) for view in views]
    wrong = {
        change: [
            nearly_true(caption, counts_of([view]), rng, change)
            for view, caption in zip(views, captions, strict=True)
        ]
        for change in CHANGES
    }
    return HeldOut(views, captions, wrong)


@torch.no_grad()
def evaluate(model: CLIPModel, tokenizer: PreTrainedTokenizerBase, held_out: HeldOut) -> dict[str, float]:
    """The figures of a model.

    Returns:
        `color`, `kind` and `count`: the share of views that are closer to their caption than to the one in which this
        is changed; chance is 0.5. `count` is the mean over the first numbers that the captions name, of which the
        majority is one. `caption`: the share that are closest to their own caption of CANDIDATES, those of
        other views that may hold left out. `region`: the share of regions that are closest to a word that names them,
        of one word for each kind of object and ground, by MaskCLIP's patch features.
    """
    features = [
        image_and_patch_features(model, pixel_values(held_out.views[i : i + BATCH]).to(model.device))
        for i in range(0, len(held_out.views), BATCH)
    ]
    images = torch.cat([image for image, _ in features])
    patches = torch.cat([ways[0] for _, ways in features])
    own = _embed(model, tokenizer, [caption.text for caption in held_out.captions])
    scores = {
        change: _preferred(images, own, _embed_some(model, tokenizer, captions), held_out, change)
        for change, captions in held_out.wrong.items()
    }
    scores["caption"] = _retrieved(images @ own.T, held_out)
    scores["region"] = _regions_named(model, tokenizer, patches, held_out.views)
    return {name: round(score, 4) for name, score in scores.items()}


def _embed(model: CLIPModel, tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> torch.Tensor:
    return text_features(model, tokenize(tokenizer, texts).to(model.device))


def _embed_some(
    model: CLIPModel, tokenizer: PreTrainedTokenizerBase, captions: list[Caption | None]
) -> torch.Tensor:
    """As `_embed`; NaN where there is no caption."""
    embedded = _embed(model, tokenizer, [caption.text if caption else "" for caption in captions])
    embedded[[caption is None for caption in captions]] = torch.nan
    return embedded


def _preferred(
    images: torch.Tensor, own: torch.Tensor, wrong: torch.Tensor, held_out: HeldOut, change: str
) -> float:
    """The figures `color`, `kind` and `count`."""
    difference = (images * (own - wrong)).sum(1).cpu().numpy()
    groups = defaultdict(list)
    for value, caption in zip(difference, held_out.captions, strict=True):
        if not np.isnan(value):
            first = next((claim.count for claim in caption.claims if claim.count), 0)
            groups[first if change == "count" else 0].append(value > 0)
    return float(np.mean([np.mean(group) for group in groups.values()]))


def _retrieved(cosines: torch.Tensor, held_out: HeldOut) -> float:
    """The figure `caption`, from the cosines [views, captions]."""
    may_hold = torch.from_numpy(possible(held_out.captions, counts_of(held_out.views)).T).to(cosines.device)
    views = torch.arange(len(cosines), device=cosines.device)
    others = (views[:, None] + torch.arange(1, CANDIDATES, device=cosines.device)) % len(cosines)
    rivals = cosines.masked_fill(may_hold, -torch.inf).gather(1, others)
    return float((cosines.diag() > rivals.max(1).values).float().mean())


def _regions_named(
    model: CLIPModel, tokenizer: PreTrainedTokenizerBase, patches: torch.Tensor, views: list[View]
) -> float:
    """The figure `region`, from patch features [views, patches, D]."""
    words = [names[0] for names in NAMES.values()]
    right = np.stack([named(word, None)[0] for word in words])
    embedded = _embed(model, tokenizer, [phrase(Claim(word)) for word in words])
    cosines = (patches @ embedded.T).cpu().numpy()
    guesses = [(view.weights @ cosine).argmax(1) for view, cosine in zip(views, cosines, strict=True)]
    categories = np.concatenate([view.categories for view in views])
    return float(right[np.concatenate(guesses), categories].mean())
