"""The model whose own clicks are corrected: `geoclick synth --policy on-policy`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from geoclick.codec import Answer
from geoclick.errors import GeoClickError, UsageError

if TYPE_CHECKING:
    from geoclick.vlms.loading import Vlm

ANSWERS = 16
"""Answers that are written together."""


class Student(Protocol):
    """Answers queries with clicks."""

    def describe(self) -> dict[str, str | int]:
        """Everything that decides its answers, for the record of a store."""
        ...

    def refusal(self, size: tuple[int, int]) -> str:
        """Why it cannot take an image of `size` (height, width), one sentence; empty if it can."""
        ...

    def answer(self, images: Sequence[np.ndarray], queries: Sequence[str]) -> list[Answer]:
        """Its clicks for each query, without repeated ones; `images[i]`, uint8 [H, W, 3], is that of `queries[i]`."""
        ...


@dataclass(frozen=True)
class VlmStudent:
    """A vision-language model that was trained to click; it writes its most likely tokens.

    Attributes:
        vlm: the model, with its adapter.
        answer_format: that of its training.
        adapter: folder of the adapter; None for a merged model.
    """

    vlm: "Vlm"
    answer_format: str
    adapter: str | None

    def describe(self) -> dict[str, str | int]:
        """Weights, answer format, and limits of the image's size."""
        from geoclick.files import sha256
        from geoclick.vlms import adapter as adapters
        from geoclick.vlms.loading import pixel_limits

        least, most = pixel_limits(self.vlm.processor)
        described: dict[str, str | int] = {
            "vlm": self.vlm.name,
            "vlm_fingerprint": self.vlm.fingerprint,
            "answer_format": self.answer_format,
            "min_pixels": least,
            "max_pixels": most,
        }
        if self.adapter:
            described["adapter_sha256"] = sha256(Path(self.adapter) / adapters.WEIGHTS)
        return described

    def refusal(self, size: tuple[int, int]) -> str:
        """See `Student`."""
        from geoclick.vlms.loading import resized_size

        try:
            resized_size(self.vlm.processor, size)
        except GeoClickError as error:
            return str(error)
        return ""

    def answer(self, images: Sequence[np.ndarray], queries: Sequence[str]) -> list[Answer]:
        """See `Student`; an array that occurs several times is computed once."""
        from geoclick.repeats import without_repeats
        from geoclick.vlms.generation.answers import generate

        written = generate(self.vlm, images, queries, answer_format=self.answer_format, batch_size=ANSWERS)
        sizes = [(image.shape[0], image.shape[1]) for image in images]
        return [
            without_repeats(self.vlm.frame(size, self.answer_format).decode(one.text))
            for one, size in zip(written, sizes, strict=True)
        ]


def load(
    name: str | None,
    adapter: str | None,
    device: str,
    *,
    pixels: tuple[int | None, int | None] = (None, None),
) -> VlmStudent:
    """A model that was trained to click.

    Args:
        name: see `geoclick.vlms.load`; None is the base of the adapter.
        adapter: folder of its adapter; None for a merged model.
        device: auto, cpu, cuda or cuda:N.
        pixels: smallest and largest area of the resized image; None takes those of the training.

    Raises:
        UsageError: it was not trained to click.
        GeoClickError: as in `geoclick.vlms.load`.
    """
    from geoclick import devices, vlms
    from geoclick.vlms import quantization
    from geoclick.vlms.loading import default_dtype

    placed = devices.choose(device)
    quantized = quantization.of_adapter("auto", adapter, default_dtype(placed), placed)
    vlm = vlms.load(
        name,
        adapter=adapter,
        device=placed,
        min_pixels=pixels[0],
        max_pixels=pixels[1],
        quantized=quantized,
    )
    if vlm.record is None:
        raise UsageError(
            f"{vlm.name} was not trained to click; give --adapter the output of geoclick train sft."
        )
    return VlmStudent(vlm, vlm.record.answer_format, adapter)
