"""Whether a merged model answers as its adapter does: the same questions to both, greedily, text against text."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from geoclick import images, scenes, store
from geoclick.errors import GeoClickError, UsageError
from geoclick.inference.backends.local import generate
from geoclick.scenes.drawing import TASKS, sample_scene
from geoclick.vlms.encoding import model_inputs
from geoclick.vlms.loading import Vlm

SEED = 7_000_000
"""Of the drawn scenes; none of them is in scenes-v1 or in what `geoclick demo` draws."""
BATCH = 8


@dataclass(frozen=True)
class Questions:
    """What both models are asked.

    Attributes:
        images: uint8 [H, W, 3] RGB each.
        queries: the text of each.
        source: where they come from, in words.
    """

    images: Sequence[np.ndarray]
    queries: Sequence[str]
    source: str


@dataclass(frozen=True)
class Answers:
    """What one model said.

    Attributes:
        texts: the greedy answer to each question.
        logits: float32 [N, vocabulary], of each answer's first token.
    """

    texts: Sequence[str]
    logits: torch.Tensor


def from_store(clicks: str, root: str | None, count: int) -> Questions:
    """The first `count` rows of a click store.

    Raises:
        UsageError: no root.
        GeoClickError: a broken or empty store, or an image that is missing or outside the root.
    """
    if root is None:
        raise UsageError("--clicks needs the dataset's folder too; give it by --root.")
    rows = list(islice(store.read(clicks), count))
    if not rows:
        raise GeoClickError(f"{clicks} holds no rows; give another click store.")
    pictures = [images.read_image(store.existing_image(Path(root), row.image)) for row in rows]
    return Questions(
        pictures, [row.query for row in rows], f"the first rows of the click store {Path(clicks).name}"
    )


def drawn(count: int) -> Questions:
    """`count` questions about procedural scenes, the same every time: any VLM can be asked them."""
    pictures, queries = [], []
    for index in range(-(-count // len(TASKS))):
        picture, _, asked = sample_scene(SEED, "merge", index, TASKS)
        pictures += [picture] * len(asked)
        queries += [query.text for query in asked]
    return Questions(
        pictures[:count], queries[:count], f"procedural scenes of {scenes.SIZE} pixels, seed {SEED}"
    )


def ask(vlm: Vlm, questions: Questions, *, answer_format: str) -> Answers:
    """The model's greedy answers, and the logits of their first tokens."""
    texts = generate(vlm, questions.images, questions.queries, answer_format=answer_format, batch_size=BATCH)
    logits = []
    for start in range(0, len(texts), BATCH):
        chosen = slice(start, start + BATCH)
        inputs = model_inputs(
            vlm, questions.images[chosen], questions.queries[chosen], answer_format=answer_format
        )
        with torch.inference_mode():
            output = vlm.model.generate(
                **inputs,
                max_new_tokens=1,
                do_sample=False,
                output_logits=True,
                return_dict_in_generate=True,
                pad_token_id=vlm.processor.tokenizer.pad_token_id,
            )
        logits.append(output.logits[0].float().cpu())
    return Answers(texts, torch.cat(logits))


def compare(adapter: Answers, merged: Answers, questions: Questions, *, min_same: float, dtype: str) -> dict:
    """How the answers compare, for the record.

    Args:
        adapter: of the base with its adapter.
        merged: of the merged model, as read back from disk.
        questions: that both were asked.
        min_same: least share of answers that must be the same text.
        dtype: of the merged weights.

    Raises:
        GeoClickError: fewer are the same.
    """
    pairs = list(zip(questions.queries, adapter.texts, merged.texts, strict=True))
    other = [pair for pair in pairs if pair[1] != pair[2]]
    share = 1 - len(other) / len(pairs)
    if share < min_same:
        query, before, after = other[0]
        exact = "" if dtype == "float32" else "merge with --dtype float32, which rounds far less, or "
        raise GeoClickError(
            f"{len(other)} of {len(pairs)} answers differ from the adapter's, such as {after!r} for {before!r} to "
            f"{query!r}, so that nothing was kept; {exact}accept it with --min-same {np.floor(share * 100) / 100:g}."
        )
    return {
        "questions": len(pairs),
        "same_answers": len(pairs) - len(other),
        "different_texts": len(set(adapter.texts)),
        "largest_logit_difference": float((adapter.logits - merged.logits).abs().max()),
        "source": questions.source,
    }


def line(check: dict[str, Any]) -> str:
    """The result in one line for the terminal."""
    return (
        f"{check['same_answers']} of {check['questions']} answers in float32 are the adapter's "
        f"({check['different_texts']} different texts); first tokens' logits differ by "
        f"{check['largest_logit_difference']:.2g} at most ({check['source']})"
    )
