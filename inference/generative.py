"""The generative pipeline: a VLM turns the query into text, the codec reads clicks, a frozen SAM decodes the mask."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import NamedTuple

import numpy as np

from geoclick.codec import Answer, Part
from geoclick.inference import confidence
from geoclick.inference import votes as voting
from geoclick.inference.backends.base import Backend, Reply
from geoclick.inference.prediction import Prediction, failed
from geoclick.inference.votes import ONE_ANSWER, Votes
from geoclick.instances import Instance, of_mask
from geoclick.repeats import without_repeats
from geoclick.scoring.records import CUT
from geoclick.segmenters import clicking
from geoclick.segmenters.base import Embedding, Prompt, Segmenter
from geoclick.segmenters.clicking import ScoredMask
from geoclick.vlms import Vlm
from geoclick.yaml_file import Yaml

DECODE = {"replay": clicking.replay_final, "joint": clicking.joint, "first": clicking.replay_final}
"""`replay` decodes click by click and feeds the last mask back, as in the synthesis; `joint` takes one prompt; `first`
decodes the first click of an answer only, which shows what the others add."""

MAX_ASPECT = 400
"""Largest ratio of an image's sides that every segmenter takes: of narrower ones, no pixel may be left of a side."""


@dataclass(frozen=True, kw_only=True)
class Generation:
    """How the model's answers are generated.

    Attributes:
        answer_format: `json` or `compact`; None takes the model's, see `default_format`.
        max_new_tokens: length limit of an answer; None takes the default of the format.
        temperature: 0 takes the most likely token; above 0 samples.
        seed: of the sampling, so that an answer depends on it, on image, query and its number only; None samples from
            torch's global generator.
        constrained: whether the format of the answers is enforced.
        votes: how many answers to a query are sampled.
        rounds: how often a query is asked, each time with the mask so far, see geoclick/inference/rounds.py.
        batch_size: queries in one call of the model.
        compile: whether the step of one token is compiled, which is faster on a GPU for many batches.
    """

    answer_format: str | None = None
    max_new_tokens: int | None = None
    temperature: float = 0.0
    seed: int | None = None
    constrained: bool = False
    votes: Votes = ONE_ANSWER
    rounds: int = 1
    batch_size: int = 16
    compile: bool = False

    @property
    def seeded(self) -> bool:
        """Whether answers are sampled with seeds of their own."""
        return self.temperature > 0 and self.seed is not None

    def describe(self) -> dict[str, Yaml]:
        """The part of a protocol or record about what is not the default."""
        sampled: dict[str, Yaml] = {"samples": self.votes.samples, "vote_threshold": self.votes.threshold}
        rounds: dict[str, Yaml] = {"rounds": self.rounds} if self.rounds > 1 else {}
        return (
            rounds
            | ({"constrained": True} if self.constrained else {})
            | (sampled if self.votes.samples > 1 else {})
        )


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


def whole_or_cut(answer: Answer, cut: bool) -> Answer:
    """An answer; if it was cut, with one more reason, and no longer of status `ok`."""
    if not cut:
        return answer
    status = "repaired" if answer.status == "ok" else answer.status
    return replace(answer, status=status, dropped=(*answer.dropped, CUT))


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


def predict(
    backend: Backend,
    segmenter: Segmenter,
    images: Sequence[np.ndarray],
    queries: Sequence[str],
    *,
    decode: str = "replay",
    votes: Votes = ONE_ANSWER,
) -> list[Prediction]:
    """A mask for each query, with its clicks and the model's text, in the order of the queries.

    Images that the models cannot take, and queries that a server does not answer, get a prediction of status `failed`.

    Args:
        backend: writes the answers.
        segmenter: the frozen model.
        images: uint8 [H, W, 3] RGB, one for each query.
        queries: the text of each.
        decode: a key of DECODE.
        votes: how many answers to a query are sampled, and how their masks are put together.
    """
    sizes = [(image.shape[0], image.shape[1]) for image in images]
    errors = [backend.refusal(size) for size in sizes]
    asked = [i for i, error in enumerate(errors) if not error]
    given = [images[i] for i in asked], [queries[i] for i in asked]
    if votes.samples == 1:
        replies = [[reply] for reply in backend.answer(*given)]
    else:
        replies = backend.sample(*given, votes.samples)
    owned = [(i, reply) for i, own in zip(asked, replies, strict=True) for reply in own]
    decoded = _decode_replies(backend, segmenter, images, owned, decode)
    found: dict[int, list[Prediction]] = {}
    for (i, _), prediction in zip(owned, decoded, strict=True):
        found.setdefault(i, []).append(prediction)
    return [
        _together(found[i], votes) if i in found else failed(size, error)
        for i, (size, error) in enumerate(zip(sizes, errors, strict=True))
    ]


def _together(answers: Sequence[Prediction], votes: Votes) -> Prediction:
    """The prediction of the answers to one query, with its confidence."""
    prediction = answers[0] if votes.samples == 1 else voting.together(answers, votes.threshold)
    return replace(prediction, confidence=confidence.of(prediction))


def _first_click_of(answer: Answer) -> Answer:
    """An answer of the first click only."""
    parts = first_click(answer.prompts)
    clicks = tuple(click for part in parts for click in part.clicks)
    return replace(answer, clicks=clicks, objects=parts if any(part.box for part in parts) else ())


def _decode_replies(
    backend: Backend,
    segmenter: Segmenter,
    images: Sequence[np.ndarray],
    replies: Sequence[tuple[int, Reply]],
    decode: str,
) -> list[Prediction]:
    """The prediction of each reply, each with the index of its image; equal answers about one are decoded once."""
    sizes = [(image.shape[0], image.shape[1]) for image in images]
    answers = {
        n: whole_or_cut(without_repeats(backend.read(reply.text, sizes[i])), reply.cut)
        for n, (i, reply) in enumerate(replies)
        if not reply.error
    }
    if decode == "first":
        answers = {n: _first_click_of(answer) for n, answer in answers.items()}
    distinct = dict.fromkeys((replies[n][0], answer.prompts) for n, answer in answers.items())
    decoded = decode_objects(
        segmenter, [images[i] for i, _ in distinct], [parts for _, parts in distinct], decode=decode
    )
    masks = dict(zip(distinct, decoded, strict=True))
    predictions = []
    for n, (i, reply) in enumerate(replies):
        if reply.error:
            predictions.append(replace(failed(sizes[i], reply.error), text=reply.text))
            continue
        answer = answers[n]
        mask, score, instances = masks[i, answer.prompts]
        predictions.append(
            Prediction(
                mask=mask,
                clicks=answer.clicks,
                text=reply.text,
                status=answer.status,
                dropped=answer.dropped,
                score=score,
                probability=reply.probability,
                tokens=reply.tokens,
                boxes=tuple(part.box for part in answer.objects if part.box),
                instances=instances,
            )
        )
    return predictions
