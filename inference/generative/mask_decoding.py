"""Clicks to masks: the parts of answers, decoded by a frozen segmenter."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from typing import NamedTuple

import numpy as np

from geoclick.codec import Part
from geoclick.instances import Instance, of_mask
from geoclick.segmenters import clicking
from geoclick.segmenters.base import Embedding, Prompt, Segmenter
from geoclick.segmenters.clicking import ScoredMask

DECODE = {"replay": clicking.replay_final, "joint": clicking.joint, "first": clicking.replay_final}
"""`replay` decodes click by click and feeds the last mask back, as in the synthesis; `joint` takes one prompt; `first`
decodes the first click of an answer only, which shows what the others add."""

MAX_ASPECT = 400
"""Largest ratio of an image's sides that every segmenter takes: of narrower ones, no pixel may be left of a side."""


class Decoded(NamedTuple):
    """The mask of an answer.

    Attributes:
        mask: bool [H, W], the union of the masks of its parts.
        score: predicted IoU, the mean over the parts weighted by pixels; None for the mask of no clicks.
        instances: one for each of several parts; empty for an answer of one part or none.
    """

    mask: np.ndarray
    score: float | None = None
    instances: tuple[Instance, ...] = ()


def refusal(size: tuple[int, int]) -> str:
    """Why the segmenter cannot take an image of `size` (height, width), with the fix; empty if it can."""
    if max(size) > MAX_ASPECT * min(size):
        return f"An image of {size[1]}x{size[0]} pixels is too narrow for the segmenter; cut it into pieces."
    return ""


def first_click(parts: Sequence[Part]) -> tuple[Part, ...]:
    """The first part with its first click only, or with its box and no click; none of no parts."""
    return tuple(replace(part, clicks=part.clicks[: 0 if part.box else 1]) for part in parts[:1])


def embed(segmenter: Segmenter, images: Sequence[np.ndarray]) -> list[Embedding]:
    """One embedding for each image; an array that occurs several times is embedded once."""
    distinct = {id(image): image for image in images}
    embedded = dict(zip(distinct, segmenter.embed(list(distinct.values())), strict=True))
    return [embedded[id(image)] for image in images]


def decode_objects(
    segmenter: Segmenter,
    images: Sequence[np.ndarray],
    objects: Sequence[Sequence[Part]],
    *,
    decode: str = "replay",
) -> list[Decoded]:
    """The union of the masks of the objects of each answer, see `united`, all in one batch.

    Args:
        segmenter: the frozen model.
        images: uint8 [H, W, 3] RGB, one for each answer.
        objects: of each answer; none gives an empty mask.
        decode: a key of DECODE, for objects without a box; with a box, all clicks are in one prompt with it.
    """
    answers = [Decoded(np.zeros(image.shape[:2], bool)) for image in images]
    given = [i for i, parts in enumerate(objects) if parts]
    if not given:
        return answers
    embeddings = embed(segmenter, [images[i] for i in given])
    decoded = decode_embedded_objects(segmenter, embeddings, [objects[i] for i in given], decode=decode)
    for i, answer in zip(given, decoded, strict=True):
        answers[i] = answer
    return answers


def decode_embedded_objects(
    segmenter: Segmenter,
    embeddings: Sequence[Embedding],
    objects: Sequence[Sequence[Part]],
    *,
    decode: str = "replay",
) -> list[Decoded]:
    """As `decode_objects`, on images that are embedded already; each answer has an object."""
    owned = [(i, part) for i, parts in enumerate(objects) for part in parts]
    clicked = [n for n, (_, part) in enumerate(owned) if part.box is None]
    boxed = [n for n, (_, part) in enumerate(owned) if part.box is not None]
    sequences = [owned[n][1].clicks for n in clicked]
    decoded = DECODE[decode](segmenter, [embeddings[owned[n][0]] for n in clicked], sequences)
    found = dict(zip(clicked, decoded, strict=True))
    if boxed:
        prompts = [Prompt(owned[n][1].clicks, box=owned[n][1].box) for n in boxed]
        decoded = clicking.prompted(segmenter, [embeddings[owned[n][0]] for n in boxed], prompts)
        found |= zip(boxed, decoded, strict=True)
    groups = groupby(range(len(owned)), key=lambda n: owned[n][0])
    return [united([(owned[n][1], found[n]) for n in group]) for _, group in groups]


def united(parts: Sequence[tuple[Part, ScoredMask]]) -> Decoded:
    """The union of the masks of the parts of an answer; its score is the mean of theirs, weighted by pixels."""
    decoded = [mask for _, mask in parts]
    if len(decoded) == 1:
        return Decoded(*decoded[0])
    areas = [int(np.count_nonzero(mask)) for mask, _ in decoded]
    scores = [0.0 if score is None else score for _, score in decoded]
    mask = np.logical_or.reduce([mask for mask, _ in decoded])
    score = float(np.average(scores, weights=areas if any(areas) else None))
    instances = (of_mask(part.clicks, m, score=s, prompt_box=part.box) for part, (m, s) in parts)
    return Decoded(mask, score, tuple(instances))
