"""Whether a merged model gives the answers of its adapter: both answer the same questions greedily."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypedDict, cast

import numpy as np
import torch

from geoclick import scenes, store
from geoclick.errors import GeoClickError, UsageError
from geoclick.geo import reading
from geoclick.scenes.drawing import TASKS, sample_scene
from geoclick.vlms.encoding import model_inputs
from geoclick.vlms.generation.answers import generate
from geoclick.vlms.loading import Vlm

SEED = 7_000_000
"""Seed of the scenes; none of them is in scenes-v1 or in the data of `geoclick demo`."""
BATCH = 8


@dataclass(frozen=True)
class Questions:
    """The questions for both models.

    Attributes:
        images: uint8 [H, W, 3] RGB each.
        queries: the text of each.
        source: where they come from, for the record.
    """

    images: Sequence[np.ndarray]
    queries: Sequence[str]
    source: str


@dataclass(frozen=True)
class Answers:
    """The answers of one model.

    Attributes:
        texts: the greedy answer to each question.
        logits: of the first token of each answer, float32 [N, vocabulary].
    """

    texts: Sequence[str]
    logits: torch.Tensor


class Check(TypedDict):
    """The result of a comparison, as it is recorded in geoclick.json."""

    questions: int
    same_answers: int
    different_texts: int
    largest_logit_difference: float
    source: str


class Output(Protocol):
    """What `generate` of a transformers model returns with `return_dict_in_generate` and `output_logits`."""

    logits: Sequence[torch.Tensor]


class Generator(Protocol):
    """The method of a transformers model that generates tokens."""

    def generate(self, **inputs: Any) -> Output:
        """Tokens and logits."""


def from_store(clicks: str, root: str | None, count: int) -> Questions:
    """The first `count` rows of a click store.

    Raises:
        UsageError: `root` is None.
        GeoClickError: the store is broken or empty, or an image is missing or outside the root.
    """
    if root is None:
        raise UsageError("--clicks needs the folder of the dataset; give it by --root.")
    rows = list(islice(store.read(clicks), count))
    if not rows:
        raise GeoClickError(f"{clicks} holds no rows; give another click store.")
    pixels = [reading.read_image(store.existing_image(Path(root), row.image)) for row in rows]
    source = f"the first rows of the click store {Path(clicks).name}"
    return Questions(pixels, [row.query for row in rows], source)


def from_scenes(count: int) -> Questions:
    """`count` questions about procedural scenes; they are always the same and suit any VLM."""
    pixels, queries = [], []
    for index in range(-(-count // len(TASKS))):
        image, _, scene_queries = sample_scene(SEED, "merge", index, TASKS)
        pixels += [image] * len(scene_queries)
        queries += [query.text for query in scene_queries]
    source = f"procedural scenes of {scenes.SIZE} pixels, seed {SEED}"
    return Questions(pixels[:count], queries[:count], source)


def ask(vlm: Vlm, questions: Questions, *, answer_format: str) -> Answers:
    """The model's greedy answers, and the logits of their first tokens."""
    answers = generate(
        vlm, questions.images, questions.queries, answer_format=answer_format, batch_size=BATCH
    )
    generator = cast(Generator, vlm.model)
    logits = []
    for start in range(0, len(answers), BATCH):
        batch = slice(start, start + BATCH)
        inputs = model_inputs(
            vlm, questions.images[batch], questions.queries[batch], answer_format=answer_format
        )
        with torch.inference_mode():
            output = generator.generate(
                **inputs,
                max_new_tokens=1,
                do_sample=False,
                output_logits=True,
                return_dict_in_generate=True,
                pad_token_id=vlm.processor.tokenizer.pad_token_id,
            )
        logits.append(output.logits[0].float().cpu())
    return Answers([answer.text for answer in answers], torch.cat(logits))


def compare(adapter: Answers, merged: Answers, questions: Questions, *, min_same: float, dtype: str) -> Check:
    """Compare the answers of adapter and merged model.

    Args:
        adapter: answers of the base with its adapter.
        merged: answers of the merged model, loaded from disk.
        questions: the questions of both.
        min_same: smallest share of equal texts.
        dtype: of the merged weights or, if it is not float32, of the computation.

    Raises:
        GeoClickError: the share of equal texts is below `min_same`.
    """
    pairs = list(zip(questions.queries, adapter.texts, merged.texts, strict=True))
    different = [pair for pair in pairs if pair[1] != pair[2]]
    share = 1 - len(different) / len(pairs)
    if share < min_same:
        query, before, after = different[0]
        exact = (
            ""
            if dtype == "float32"
            else "merge with --dtype float32 and --compute-dtype float32, which round less, or "
        )
        raise GeoClickError(
            f"{len(different)} of {len(pairs)} answers differ from the adapter's, for example {after!r} instead of "
            f"{before!r} for {query!r}, so nothing was written; {exact}accept this with "
            f"--min-same {np.floor(share * 100) / 100:g}."
        )
    return {
        "questions": len(pairs),
        "same_answers": len(pairs) - len(different),
        "different_texts": len(set(adapter.texts)),
        "largest_logit_difference": float((adapter.logits - merged.logits).abs().max()),
        "source": questions.source,
    }


def summary(check: Check, dtype: str) -> str:
    """The result in one line for the terminal; `dtype` is that of the computation."""
    return (
        f"{check['same_answers']} of {check['questions']} answers in {dtype} equal the adapter's "
        f"({check['different_texts']} different texts); the logits of first tokens differ by at most "
        f"{check['largest_logit_difference']:.2g} ({check['source']})"
    )
