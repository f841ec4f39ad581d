"""The generative pipeline: question to text by a VLM, text to clicks, clicks to mask by a frozen SAM."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from geoclick import codec
from geoclick.clicks import ClickSequence
from geoclick.inference.prediction import Prediction
from geoclick.segmenters import clicking

if TYPE_CHECKING:
    from geoclick.segmenters.base import Embedding, Segmenter
    from geoclick.vlms.loading import Vlm

DECODE = ("replay", "joint")
"""`replay` decodes click by click with the mask fed back, as clicks are made; `joint` all in one prompt."""


def read_answers(
    vlm: "Vlm", texts: Sequence[str], sizes: Sequence[tuple[int, int]], *, answer_format: str
) -> list[codec.Answer]:
    """The clicks in the model's texts, in pixels of images of `sizes` (height, width)."""
    from geoclick.vlms import loading

    return [
        codec.decode(
            text,
            family=vlm.family,
            answer_format=answer_format,
            image_size=size,
            resized_size=loading.resized_size(vlm.processor, size),
        )
        for text, size in zip(texts, sizes, strict=True)
    ]


def embed(segmenter: "Segmenter", images: Sequence[np.ndarray]) -> list["Embedding"]:
    """One embedding an image; an array that occurs several times is embedded once."""
    distinct = {id(image): image for image in images}
    embedded = dict(zip(distinct, segmenter.embed(list(distinct.values())), strict=True))
    return [embedded[id(image)] for image in images]


def decode_clicks(
    segmenter: "Segmenter",
    images: Sequence[np.ndarray],
    sequences: Sequence[ClickSequence],
    *,
    decode: str = "replay",
) -> list[np.ndarray]:
    """The final mask of each click sequence, bool [H, W]; all in one batch.

    Args:
        segmenter: the frozen model.
        images: uint8 [H, W, 3] RGB, one a sequence.
        sequences: clicks in pixels of the image; an empty sequence gives an empty mask.
        decode: `replay` or `joint`, see DECODE.
    """
    masks = [np.zeros(image.shape[:2], bool) for image in images]
    asked = [i for i, clicks in enumerate(sequences) if clicks]
    if not asked:
        return masks
    embeddings = embed(segmenter, [images[i] for i in asked])
    decoded = decode_embedded(segmenter, embeddings, [sequences[i] for i in asked], decode=decode)
    for i, mask in zip(asked, decoded, strict=True):
        masks[i] = mask
    return masks


def decode_embedded(
    segmenter: "Segmenter",
    embeddings: Sequence["Embedding"],
    sequences: Sequence[ClickSequence],
    *,
    decode: str = "replay",
) -> list[np.ndarray]:
    """The final mask, bool [H, W], of each sequence of at least one click; all in one batch.

    Args:
        segmenter: the frozen model.
        embeddings: of the images, one a sequence.
        sequences: clicks in pixels of the image.
        decode: `replay` or `joint`, see DECODE.
    """
    if decode == "joint":
        return clicking.joint(segmenter, embeddings, sequences)
    return [np.asarray(steps[-1], bool) for steps in clicking.replay(segmenter, embeddings, sequences)]


def predict(
    vlm: "Vlm",
    segmenter: "Segmenter",
    images: Sequence[np.ndarray],
    queries: Sequence[str],
    *,
    answer_format: str,
    decode: str = "replay",
    batch_size: int = 16,
    max_new_tokens: int | None = None,
    temperature: float = 0.0,
    in_step: bool = False,
) -> list[Prediction]:
    """A mask for each question, with its clicks and the model's text, in the order of the questions.

    The arguments are those of `geoclick.inference.backends.local.generate` and `decode_clicks`.
    """
    from geoclick.inference.backends.local import generate

    texts = generate(
        vlm,
        images,
        queries,
        answer_format=answer_format,
        batch_size=batch_size,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        in_step=in_step,
    )
    answers = read_answers(vlm, texts, [image.shape[:2] for image in images], answer_format=answer_format)
    masks = decode_clicks(segmenter, images, [tuple(a.clicks) for a in answers], decode=decode)
    return [
        Prediction(mask, tuple(answer.clicks), text, answer.status, tuple(map(str, answer.dropped)))
        for mask, answer, text in zip(masks, answers, texts, strict=True)
    ]
