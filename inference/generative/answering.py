"""The generative pipeline: a VLM turns the query into text, the codec reads clicks, a frozen SAM decodes the mask."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from geoclick.codec import Answer
from geoclick.inference.backends.base import Backend, Reply
from geoclick.inference.generative import confidence, mask_decoding
from geoclick.inference.generative import votes as voting
from geoclick.inference.generative.prediction import Prediction, failed
from geoclick.inference.generative.settings import ONE_ANSWER, Votes
from geoclick.repeats import without_repeats
from geoclick.scoring.records import CUT
from geoclick.segmenters.base import Segmenter
from geoclick.vlms import Vlm


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
        decode: a key of `mask_decoding.DECODE`.
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
    parts = mask_decoding.first_click(answer.prompts)
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
    decoded = mask_decoding.decode_objects(
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
