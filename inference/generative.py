"""The generative pipeline: a VLM turns the query into text, the codec reads clicks, a frozen SAM decodes the mask."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from geoclick.clicks import ClickSequence
from geoclick.codec import Answer
from geoclick.inference.backends.base import Backend
from geoclick.inference.prediction import Prediction, failed
from geoclick.segmenters import clicking
from geoclick.segmenters.base import Embedding, Segmenter
from geoclick.segmenters.clicking import ScoredMask
from geoclick.vlms import Vlm

DECODE = {"replay": clicking.replay_final, "joint": clicking.joint}
"""`replay` decodes click by click and feeds the last mask back, as in the synthesis; `joint` takes one prompt."""

REPEATED = "repeated"
"""The reason for dropping a click that repeats an earlier one."""
MAX_ASPECT = 400
"""Largest ratio of an image's sides that every segmenter takes: of narrower ones, no pixel may be left of a side."""


@dataclass(frozen=True, kw_only=True)
class Generation:
    """How the model's answers are generated.

    Attributes:
        answer_format: `json` or `compact`; None takes the model's, see `default_format`.
        max_new_tokens: length limit of an answer; None takes the default of the format.
        temperature: 0 takes the most likely token; above 0 samples from torch's global generator.
        batch_size: queries in one call of the model.
    """

    answer_format: str | None = None
    max_new_tokens: int | None = None
    temperature: float = 0.0
    batch_size: int = 16


def default_format(vlm: Vlm) -> str:
    """The answer format that the adapter or the merged model was trained in, else `json`."""
    return vlm.record.answer_format if vlm.record else "json"


def read_answers(
    vlm: Vlm, texts: Sequence[str], sizes: Sequence[tuple[int, int]], *, answer_format: str
) -> list[Answer]:
    """The clicks in the model's texts, in pixels of images of `sizes` (height, width), without repeated ones."""
    return [
        without_repeats(vlm.frame(size, answer_format).decode(text))
        for text, size in zip(texts, sizes, strict=True)
    ]


def without_repeats(answer: Answer) -> Answer:
    """An answer whose repeated clicks are dropped; no stored sequence repeats a click, but a model may loop."""
    clicks = tuple(dict.fromkeys(answer.clicks))
    if len(clicks) == len(answer.clicks):
        return answer
    repeats = (REPEATED,) * (len(answer.clicks) - len(clicks))
    return replace(answer, clicks=clicks, status="repaired", dropped=answer.dropped + repeats)


def refusal(size: tuple[int, int]) -> str:
    """Why the segmenter cannot take an image of `size` (height, width), with the fix; empty if it can."""
    if max(size) > MAX_ASPECT * min(size):
        return f"An image of {size[1]}x{size[0]} pixels is too narrow for the segmenter; cut it into pieces."
    return ""


def embed(segmenter: Segmenter, images: Sequence[np.ndarray]) -> list[Embedding]:
    """One embedding for each image; an array that occurs several times is embedded once."""
    distinct = {id(image): image for image in images}
    embedded = dict(zip(distinct, segmenter.embed(list(distinct.values())), strict=True))
    return [embedded[id(image)] for image in images]


def decode_clicks(
    segmenter: Segmenter,
    images: Sequence[np.ndarray],
    sequences: Sequence[ClickSequence],
    *,
    decode: str = "replay",
) -> list[ScoredMask]:
    """The final mask of each click sequence and its predicted IoU, all in one batch.

    Args:
        segmenter: the frozen model.
        images: uint8 [H, W, 3] RGB, one for each sequence.
        sequences: clicks in pixels of the image; an empty sequence gives an empty mask.
        decode: a key of DECODE.
    """
    answers = [ScoredMask(np.zeros(image.shape[:2], bool)) for image in images]
    clicked = [i for i, clicks in enumerate(sequences) if clicks]
    if not clicked:
        return answers
    embeddings = embed(segmenter, [images[i] for i in clicked])
    decoded = decode_embedded(segmenter, embeddings, [sequences[i] for i in clicked], decode=decode)
    for i, answer in zip(clicked, decoded, strict=True):
        answers[i] = answer
    return answers


def decode_embedded(
    segmenter: Segmenter,
    embeddings: Sequence[Embedding],
    sequences: Sequence[ClickSequence],
    *,
    decode: str = "replay",
) -> list[ScoredMask]:
    """As `decode_clicks`, on images that are embedded already."""
    return DECODE[decode](segmenter, embeddings, sequences)


def predict(
    backend: Backend,
    segmenter: Segmenter,
    images: Sequence[np.ndarray],
    queries: Sequence[str],
    *,
    decode: str = "replay",
) -> list[Prediction]:
    """A mask for each query, with its clicks and the model's text, in the order of the queries.

    Images that the models cannot take and queries that a server does not answer get a prediction of status `failed`.

    Args:
        backend: writes the answers.
        segmenter: the frozen model.
        images: uint8 [H, W, 3] RGB, one for each query.
        queries: the text of each.
        decode: a key of DECODE.
    """
    sizes = [(image.shape[0], image.shape[1]) for image in images]
    errors = [backend.refusal(size) for size in sizes]
    asked = [i for i, error in enumerate(errors) if not error]
    replies = dict(
        zip(asked, backend.answer([images[i] for i in asked], [queries[i] for i in asked]), strict=True)
    )
    errors = [replies[i].error if i in replies else error for i, error in enumerate(errors)]
    answers = {
        i: without_repeats(backend.read(reply.text, sizes[i]))
        for i, reply in replies.items()
        if not reply.error
    }
    decoded = decode_clicks(
        segmenter,
        [images[i] for i in answers],
        [answer.clicks for answer in answers.values()],
        decode=decode,
    )
    predictions = {
        i: Prediction(
            mask=mask,
            clicks=answer.clicks,
            text=replies[i].text,
            status=answer.status,
            dropped=answer.dropped,
            score=score,
            probability=replies[i].probability,
        )
        for (i, answer), (mask, score) in zip(answers.items(), decoded, strict=True)
    }
    return [predictions.get(i) or failed(sizes[i], errors[i]) for i in range(len(images))]
