"""The state of one user of the app: an image that is encoded once, and the answers to queries about it as layers."""

import secrets
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from geoclick.codec import Part
from geoclick.errors import GeoClickError
from geoclick.inference.app.decoding import EditDecoder
from geoclick.inference.app.editing import Parts
from geoclick.inference.app.sources import Opened
from geoclick.inference.contrastive.classes import ClassList
from geoclick.inference.contrastive.map_files import ClassRow
from geoclick.inference.contrastive.prediction import SemanticPrediction
from geoclick.inference.generative.mask_decoding import Decoded
from geoclick.inference.generative.prediction import Prediction
from geoclick.segmenters.base import Decoded as Logits
from geoclick.segmenters.base import Embedding, Prompt, Segmenter
from geoclick.yaml_file import Yaml

MAX_LAYERS = 12
"""Answers that are in memory for an image; the oldest one without edits makes room for a new one."""


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
        hidden: indices of the parts that are not drawn.
    """

    number: int
    query: str
    source: str
    prediction: Prediction
    parts: Parts
    decoded: Decoded
    shown: bool = True
    hidden: frozenset[int] = frozenset()

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
        about: the models and settings, for records.
    """

    query: str
    classes: ClassList
    prediction: SemanticPrediction
    rows: list[ClassRow]
    about: Mapping[str, Yaml] = field(default_factory=dict)


@dataclass(eq=False)
class Session:
    """The state of one user.

    Attributes:
        opened: the image.
        segmenter: with the image's encoding.
        decode: `replay` or `joint`.
        layers: the answers, in order.
        chosen: number of the layer that is edited; 0 for none.
        class_map: the last map of classes, or None.
        edits: number of edits so far.
        lock: held while the state changes, so that no edit is lost.
        key: of the session; edits name it, so that none changes the answer about another image.
        upload: the folder of a copy of an uploaded image, removed with the session; None for images of the folder.
        downloads: the folder of the last downloads, likewise.
    """

    opened: Opened
    segmenter: EncodedImage
    decode: str = "replay"
    layers: list[Layer] = field(default_factory=list)
    chosen: int = 0
    class_map: ClassMap | None = None
    edits: int = 0
    lock: threading.RLock = field(default_factory=threading.RLock)
    key: str = field(default_factory=lambda: secrets.token_hex(8))
    upload: "tempfile.TemporaryDirectory[str] | None" = None
    downloads: "tempfile.TemporaryDirectory[str] | None" = None
    _last: int = 0

    def __post_init__(self) -> None:
        self._decoder = EditDecoder(self.segmenter, self.segmenter.embedding, self.decode)

    @property
    def layer(self) -> Layer:
        """The layer that is edited; raises GeoClickError if there is none."""
        found = next((one for one in self.layers if one.number == self.chosen), None)
        if found is None:
            raise GeoClickError("There is no answer yet; ask a query first.")
        return found

    def make_room(self, answers: int) -> list[str]:
        """Remove the oldest layers without edits, so that `answers` more fit; returns the labels of those removed.

        Raises:
            GeoClickError: too many layers have edits.
        """
        with self.lock:
            excess = max(0, len(self.layers) + answers - MAX_LAYERS)
            old = [one for one in self.layers if not one.is_edited][:excess]
            if len(old) < excess:
                raise GeoClickError(
                    f"The app holds at most {MAX_LAYERS} answers about an image, and these are edited; save and remove "
                    "one first."
                )
            self.layers = [one for one in self.layers if one not in old]
            if self.chosen not in [one.number for one in self.layers]:
                self.chosen = self.layers[-1].number if self.layers else 0
            return [one.label for one in old]

    def add(self, query: str, source: str, prediction: Prediction) -> Layer:
        """Add an answer and choose it for edits; `make_room` comes before it."""
        with self.lock:
            self._last += 1
            parts = parts_of(prediction)
            decoded = self._with_data(Decoded(prediction.mask, prediction.score, prediction.instances))
            self.drop_downloads()
            layer = Layer(self._last, query, source, prediction, parts, decoded)
            self.layers.append(layer)
            self.chosen = layer.number
            return layer

    def edit(self, parts: Parts) -> Layer:
        """Give the chosen layer other parts and decode them."""
        with self.lock:
            layer = self.layer
            # A part that changes is drawn again; new numbers of parts make the old choice meaningless.
            same = len(parts) == len(layer.parts)
            hidden = frozenset(n for n in layer.hidden if same and parts[n] == layer.parts[n])
            changed = replace(
                layer, parts=parts, decoded=self.decoded(parts, layer), shown=True, hidden=hidden
            )
            self.layers[self.layers.index(layer)] = changed
            self.edits += 1
            self.drop_downloads()
            return changed

    def choose(self, number: int) -> Layer:
        """Choose the layer that is edited, saved and downloaded; raises GeoClickError if there is none."""
        with self.lock:
            if number not in [one.number for one in self.layers]:
                raise GeoClickError("That answer is gone; choose one of the list.")
            self.chosen = number
            self.drop_downloads()
            return self.layer

    def add_map(self, class_map: ClassMap) -> None:
        """Show a map of classes in place of the last one."""
        with self.lock:
            self.class_map = class_map
            self.drop_downloads()

    def drop_downloads(self) -> None:
        """Remove the files of the last downloads, which no longer are what is shown."""
        if self.downloads is not None:
            self.downloads.cleanup()
            self.downloads = None

    def decoded(self, parts: Parts, earlier: Layer | None = None) -> Decoded:
        """The mask of parts by the rules of `geoclick predict`, without pixels that have no data.

        Args:
            parts: of an answer.
            earlier: a layer whose parts are not decoded again.
        """
        with self.lock:
            if not parts:
                return Decoded(np.zeros(self.opened.size, bool))
            return self._with_data(self._decoder(parts, earlier.decoded if earlier else None))

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

    def show_parts(self, numbers: Sequence[int]) -> None:
        """Draw the parts of the chosen layer with these indices, and no others."""
        with self.lock:
            layer = self.layer
            hidden = frozenset(range(len(layer.parts))) - frozenset(numbers)
            self.layers[self.layers.index(layer)] = replace(layer, hidden=hidden)

    def remove(self) -> None:
        """Remove the chosen layer; the last of the others is chosen."""
        with self.lock:
            self.layers.remove(self.layer)
            self.chosen = self.layers[-1].number if self.layers else 0
            self.drop_downloads()
