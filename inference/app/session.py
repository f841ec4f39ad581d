"""The state of one user of the app: an image that is encoded once, and the answers to queries about it as layers."""

import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from geoclick.codec import Part
from geoclick.errors import GeoClickError
from geoclick.inference import generative
from geoclick.inference.app.editing import Parts
from geoclick.inference.app.sources import Opened
from geoclick.inference.contrastive.classes import ClassList
from geoclick.inference.contrastive.map_files import ClassRow
from geoclick.inference.contrastive.prediction import SemanticPrediction
from geoclick.inference.generative import Decoded
from geoclick.inference.prediction import Prediction
from geoclick.segmenters.base import Decoded as Logits
from geoclick.segmenters.base import Embedding, Prompt, Segmenter

MAX_LAYERS = 12
"""Answers that are in memory for an image; the oldest ones without edits go first."""


class EncodedImage:
    """A segmenter whose encoding of one image is in memory; it has the interface of `Segmenter`.

    Args:
        segmenter: the frozen model.
        image: uint8 [H, W, 3] RGB, encoded here.
    """

    def __init__(self, segmenter: Segmenter, image: np.ndarray) -> None:
        self.name, self.sha256, self.device = segmenter.name, segmenter.sha256, segmenter.device
        self._segmenter, self._image = segmenter, image
        (self.embedding,) = segmenter.embed([image])

    def embed(self, images: Sequence[np.ndarray]) -> list[Embedding]:
        """See Segmenter; the image itself is not encoded again."""
        return [
            self.embedding if image is self._image else self._segmenter.embed([image])[0] for image in images
        ]

    def decode(
        self, embeddings: Sequence[Embedding], prompts: Sequence[Prompt], *, multimask: bool
    ) -> list[Logits]:
        """See Segmenter."""
        return self._segmenter.decode(embeddings, prompts, multimask=multimask)

    def masks(self, low_res: torch.Tensor, embedding: Embedding) -> torch.Tensor:
        """See Segmenter."""
        return self._segmenter.masks(low_res, embedding)


@dataclass(frozen=True, eq=False)
class Layer:
    """One answer to a query.

    Attributes:
        number: of the layer, from 1, unique in its session.
        query: the user's text.
        source: `adapter` or `base` where both were asked; else empty.
        prediction: the model's answer, before any edit.
        parts: the clicks as they are now.
        decoded: their mask.
        shown: whether it is drawn.
    """

    number: int
    query: str
    source: str
    prediction: Prediction
    parts: Parts
    decoded: Decoded
    shown: bool = True

    @property
    def is_edited(self) -> bool:
        """Whether the clicks differ from the model's answer."""
        return self.parts != parts_of(self.prediction)

    @property
    def label(self) -> str:
        """Its name in lists."""
        return f"{self.number}. {self.query}" + (f" ({self.source})" if self.source else "")


def parts_of(prediction: Prediction) -> Parts:
    """The prompts of an answer."""
    if prediction.instances:
        return tuple(Part(one.clicks, one.prompt_box) for one in prediction.instances)
    box = prediction.boxes[0] if prediction.boxes else None
    return (Part(prediction.clicks, box),) if prediction.clicks or box else ()


@dataclass(frozen=True, eq=False)
class ClassMap:
    """A map of classes of the image.

    Attributes:
        query: the class list as the user wrote it.
        classes: the list.
        prediction: labels and confidence; NO_DATA where the image has none.
        rows: share and confidence of each class.
    """

    query: str
    classes: ClassList
    prediction: SemanticPrediction
    rows: list[ClassRow]


@dataclass(eq=False)
class Session:
    """The state of one user.

    Attributes:
        opened: the image.
        segmenter: with the image's encoding.
        decode: a key of `generative.DECODE`.
        layers: the answers, in order.
        chosen: number of the layer that is edited; 0 for none.
        class_map: the last map of classes, or None.
        edits: number of edits so far.
        lock: held while the state changes, so that no edit is lost.
    """

    opened: Opened
    segmenter: EncodedImage
    decode: str = "replay"
    layers: list[Layer] = field(default_factory=list)
    chosen: int = 0
    class_map: ClassMap | None = None
    edits: int = 0
    lock: threading.RLock = field(default_factory=threading.RLock)
    downloads: "tempfile.TemporaryDirectory[str] | None" = None
    _last: int = 0

    @property
    def layer(self) -> Layer:
        """The layer that is edited; raises GeoClickError if there is none."""
        found = next((one for one in self.layers if one.number == self.chosen), None)
        if found is None:
            raise GeoClickError("There is no answer yet; ask a query first.")
        return found

    def add(self, query: str, source: str, prediction: Prediction) -> Layer:
        """Add an answer and choose it for edits."""
        with self.lock:
            self._last += 1
            parts = parts_of(prediction)
            decoded = self._with_data(Decoded(prediction.mask, prediction.score, prediction.instances))
            layer = Layer(self._last, query, source, prediction, parts, decoded)
            self.layers.append(layer)
            self.chosen = layer.number
            if len(self.layers) > MAX_LAYERS:
                old = next((one for one in self.layers if not one.is_edited), self.layers[0])
                self.layers.remove(old)
            return layer

    def edit(self, parts: Parts) -> Layer:
        """Give the chosen layer other parts and decode them."""
        with self.lock:
            layer = self.layer
            changed = replace(layer, parts=parts, decoded=self.decoded(parts), shown=True)
            self.layers[self.layers.index(layer)] = changed
            self.edits += 1
            return changed

    def decoded(self, parts: Parts) -> Decoded:
        """The mask of parts by the rules of `geoclick predict`, without pixels that have no data."""
        return self.decoded_all([parts])[0]

    def decoded_all(self, answers: Sequence[Parts]) -> list[Decoded]:
        """The masks of several answers, decoded in one batch."""
        given = [parts for parts in answers if parts]
        embeddings = [self.segmenter.embedding] * len(given)
        found = iter(
            generative.decode_embedded_objects(self.segmenter, embeddings, given, decode=self.decode)
            if given
            else []
        )
        empty = Decoded(np.zeros(self.opened.size, bool))
        every = [next(found) if parts else empty for parts in answers]
        return list(map(self._with_data, every))

    def _with_data(self, decoded: Decoded) -> Decoded:
        """A mask and its parts without the pixels that have no data."""
        valid = self.opened.valid
        if valid is None:
            return decoded
        instances = tuple(one.within(valid) for one in decoded.instances)
        return decoded._replace(mask=decoded.mask & valid, instances=instances)

    def show(self, numbers: Sequence[int]) -> None:
        """Draw the layers with these numbers, and no others."""
        with self.lock:
            self.layers = [replace(one, shown=one.number in numbers) for one in self.layers]

    def remove(self) -> None:
        """Remove the chosen layer; the last of the others is chosen."""
        with self.lock:
            self.layers.remove(self.layer)
            self.chosen = self.layers[-1].number if self.layers else 0
