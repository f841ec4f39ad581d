"""Tokens of training rows: known of all rows of a source from one pass over it, so that plans need not render them."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from geoclick import prompts
from geoclick.train.augmentation.image_views import shown_images
from geoclick.train.data import cache_folder
from geoclick.train.data.cache_folder import Content
from geoclick.train.data.shared_work import blocks_of
from geoclick.train.data.training_row import RawRow, TrainingRow
from geoclick.vlms import encoding, loading
from geoclick.vlms.processor import Processor

if TYPE_CHECKING:
    from geoclick.train.augmentation.augment import Augmentation
    from geoclick.train.data.lazy_rows import LazyRows

PROBED = 16
"""Rows whose tokens are part of the name of a file: whatever changes in code or templates changes the name, too."""


def token_lengths(rows: Iterable[TrainingRow], processor: Processor) -> list[int]:
    """Tokens of each row, visual ones included, without opening an image.

    Args:
        rows: rendered.
        processor: the VLM's.
    """
    visual: dict[tuple[int, int], int] = {}
    lengths = []
    for row in rows:
        sizes = [image.size for image in shown_images(row)]
        for size in sizes:
            if size not in visual:
                visual[size] = encoding.visual_tokens(processor, size)
        text = len(row["prompt_ids"]) + len(row["completion_ids"])
        # Each image has one placeholder in the prompt.
        lengths.append(text + sum(visual[size] for size in sizes) - len(sizes))
    return lengths


def cached(
    rows: "LazyRows", processor: Processor, source: Content, augmentation: "Augmentation | None"
) -> np.ndarray:
    """Tokens of prompt and answer of each row, int32 [N, 2], each image counted as one; from one pass, then a file.

    Args:
        rows: all usable rows of a source.
        processor: the VLM's.
        source: what decides the rows.
        augmentation: None, or give the row with the most tokens that it may make of each one.
    """

    def rendered(indices: Sequence[int]) -> list[TrainingRow]:
        made = rows.__getitems__(indices)
        return [augmentation.longest(cast(RawRow, row)) for row in made] if augmentation else made

    count = len(rows)
    probed = sorted({round(place) for place in np.linspace(0, count - 1, min(PROBED, count))})
    tokens = [(row["prompt_ids"], row["completion_ids"]) for row in rendered(probed)]
    content = [source, augmentation.longest_key if augmentation else [], digest(processor), repr(tokens)]
    path = cache_folder.path("token-lengths", content, ".npy")

    def lengths_of(numbers: range) -> np.ndarray:
        pairs = [(len(row["prompt_ids"]), len(row["completion_ids"])) for row in rendered(numbers)]
        return np.array(pairs, np.int32).reshape(-1, 2)

    with cache_folder.missing(path) as partial:
        if partial is not None:
            _save(partial, np.concatenate(list(blocks_of(lengths_of, count, "Token lengths"))))
    known: np.ndarray = np.load(path, allow_pickle=False)
    return known


def digest(processor: Processor) -> str:
    """SHA-256 of what turns a chat into tokens, and an image into a number of them."""
    images = processor.image_processor
    parts = [
        processor.tokenizer.backend_tokenizer.to_str(),
        processor.chat_template,
        repr((loading.pixel_limits(processor), images.patch_size, images.merge_size)),
        prompts.PROMPT_VERSION,
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _save(path: Path, values: np.ndarray) -> None:
    # By a file, since `np.save` adds a suffix to a path.
    with path.open("wb") as file:
        np.save(file, values)
