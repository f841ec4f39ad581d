"""Pictures with a caption, as values for a template: one sample of a report or of a click store each."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class Picture:
    """A picture of a figure.

    Attributes:
        source: a `data:` address.
        label: shown in its corner, and its alternative text.
    """

    source: str
    label: str = ""


@dataclass(frozen=True)
class Figure:
    """Pictures, two a row, with a caption.

    Attributes:
        pictures: of one sample.
        query: of the sample.
        score: shown in front of the query.
        trend: whether the score counts as better (`up`), as worse (`down`), or as neither.
        notes: small lines below the query.
        answers: texts of models, each as (name of the model, text).
    """

    pictures: Sequence[Picture]
    query: str
    score: str = ""
    trend: str = ""
    notes: Sequence[str] = ()
    answers: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Gallery:
    """Figures below a heading."""

    heading: str
    figures: Sequence[Figure]


def data_uri(picture: np.ndarray, *, kind: str = "JPEG", quality: int = 80) -> str:
    """A picture, uint8 [H, W, 3], as a `data:` address; `kind` is PNG or JPEG, `quality` is JPEG's."""
    buffer = io.BytesIO()
    options = {"quality": quality, "optimize": True} if kind == "JPEG" else {}
    Image.fromarray(picture).save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
