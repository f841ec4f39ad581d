"""Further rounds: the model sees the mask that its clicks have made, and takes one more click or ends.

The mask is drawn on the image, see geoclick/mask_overlay.py, and the clicks so far are the beginning of the answer, so
that the next one belongs to the last part, or begins a further part. `geoclick synth --policy on-policy --show-masks`
makes training rows for it. Asking again with the mask in the picture is SegAgent's way (Zhu et al., 2025, arXiv
2503.08625).
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from geoclick import mask_overlay
from geoclick.clicks import ClickSequence
from geoclick.codec import Answer, Part
from geoclick.inference.backends.local import Local
from geoclick.inference.generative import confidence
from geoclick.inference.generative.mask_decoding import decode_objects
from geoclick.inference.generative.prediction import Prediction
from geoclick.repeats import without_repeats
from geoclick.segmenters.base import Segmenter

Parts = tuple[ClickSequence, ...]


def refine(
    local: Local,
    segmenter: Segmenter,
    images: Sequence[np.ndarray],
    queries: Sequence[str],
    predictions: Sequence[Prediction],
    *,
    rounds: int,
    decode: str,
) -> list[Prediction]:
    """The predictions after further rounds; those without clicks, or with boxes, stay as they are.

    Args:
        local: the model.
        segmenter: decodes the clicks.
        images: uint8 [H, W, 3] RGB, one for each query.
        queries: the user's texts.
        predictions: of the first round.
        rounds: number of rounds, the first one included.
        decode: see `mask_decoding.DECODE`.
    """
    current = list(predictions)
    asked = [i for i, one in enumerate(current) if one.clicks and not one.boxes and not one.error]
    for _ in range(rounds - 1):
        if not asked:
            break
        shown = [mask_overlay.draw(images[i], current[i].mask) for i in asked]
        parts = [parts_of(current[i]) for i in asked]
        replies = local.resume(shown, [queries[i] for i in asked], parts)
        more = {}
        for i, own, reply in zip(asked, parts, replies, strict=True):
            size = (images[i].shape[0], images[i].shape[1])
            more[i] = (next_parts(own, without_repeats(local.read(reply.text, size))), reply.tokens)
        asked = [i for i in asked if more[i][0]]
        objects = [tuple(map(Part, more[i][0])) for i in asked]
        decoded = decode_objects(segmenter, [images[i] for i in asked], objects, decode=decode)
        for i, one in zip(asked, decoded, strict=True):
            longer, tokens = more[i]
            size = (images[i].shape[0], images[i].shape[1])
            changed = replace(
                current[i],
                mask=one.mask,
                clicks=tuple(click for part in longer for click in part),
                text=local.vlm.frame(size, local.answer_format).encode(longer),
                score=one.score,
                tokens=(current[i].tokens or 0) + (tokens or 0),
                instances=one.instances,
            )
            current[i] = replace(changed, confidence=confidence.of(changed))
    return current


def parts_of(prediction: Prediction) -> Parts:
    """The clicks of each part of an answer."""
    return tuple(one.clicks for one in prediction.instances) or (prediction.clicks,)


def next_parts(own: Parts, answer: Answer) -> Parts:
    """An answer with one more click than `own`, in parts; empty if the answer ends with its own clicks.

    Args:
        own: the clicks so far.
        answer: begins with them.
    """
    left = sum(map(len, own)) + 1
    if len(answer.clicks) < left:
        return ()
    parts = []
    for part in answer.parts:
        parts.append(part[:left])
        left -= len(part)
        if left <= 0:
            break
    return tuple(parts)
