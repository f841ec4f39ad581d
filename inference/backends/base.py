"""What writes the answers to queries about images: a model in this process, or one on a server."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from geoclick.codec import Answer


class Reply(NamedTuple):
    """What a model wrote to one query.

    Attributes:
        text: of the model, as it wrote it.
        error: why there is no text, one sentence; else empty.
        probability: geometric mean of the probabilities of the answer's tokens, the one that ends it included; None if
            the backend does not know them.
        tokens: their number; None if the backend does not count them.
        cut: whether the answer reached the length limit; False if it is not known.
    """

    text: str
    error: str = ""
    probability: float | None = None
    tokens: int | None = None
    cut: bool = False


class Backend(Protocol):
    """Writes answers to queries about images. The prompt around a query is the backend's, since it suits the model."""

    def refusal(self, size: tuple[int, int]) -> str:
        """Why the models cannot take an image of `size` (height, width), one sentence; empty if they can."""
        ...

    def answer(self, images: Sequence[np.ndarray], queries: Sequence[str]) -> list[Reply]:
        """One reply for each query, in order.

        Args:
            images: uint8 [H, W, 3] RGB, one for each query.
            queries: the user's texts.
        """
        ...

    def sample(self, images: Sequence[np.ndarray], queries: Sequence[str], count: int) -> list[list[Reply]]:
        """`count` replies to each query, sampled independently; arguments as in `answer`."""
        ...

    def read(self, text: str, size: tuple[int, int]) -> Answer:
        """The clicks in a text about an image of `size` (height, width), in pixels of that image."""
        ...
