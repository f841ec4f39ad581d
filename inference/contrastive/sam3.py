"""SAM 3 with text prompts: an image and a class list to a map of classes, without CLIP.

    sam3 = load("facebook/sam3", "auto")
    labels, confidence = sam3.label_map(image, classes, 0.5)

Each name of a class is a prompt. The outputs of the model are combined as in SegEarth-OV3 (arXiv:2512.08730): the score
of a prompt at a pixel is

    presence * max(semantic, max over the instances of mask * score)

where all are probabilities, and the score of an instance contains the presence too, as in SAM 3's own post-processing.
The score of a class is the maximum of its names, the class of a pixel is that of the highest score.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from geoclick import devices, files, model_folders
from geoclick.devices import BatchSize
from geoclick.errors import GeoClickError, UsageError
from geoclick.inference.contrastive import blending, windowed
from geoclick.inference.contrastive import classes as class_lists
from geoclick.inference.contrastive.classes import ClassList
from geoclick.inference.contrastive.prediction import SemanticPrediction
from geoclick.inference.contrastive.windowed import Source, WindowMap
from geoclick.inference.pipeline import ImageSource, as_array
from geoclick.yaml_file import Yaml

if TYPE_CHECKING:
    from transformers import Sam3Model, Sam3Processor
    from transformers.models.sam3.modeling_sam3 import Sam3ImageSegmentationOutput, Sam3VisionEncoderOutput

TYPES = ("sam3", "sam3_video")
"""The released model is published with its tracker, as a model for videos."""

FILES = ("*.safetensors", "*.json", "*.txt")
OTHER_NAMES = "an existing folder, or a hub id such as facebook/sam3"

INSTANCE_SCORE = 0.5
"""Instances of a lower score are left out, as in SegEarth-OV3."""

THRESHOLD = 0.5
"""Default for class lists with a background; the published evaluation takes 0.1 to 0.5, depending on the benchmark."""

TOKENS = 32
"""Length of a prompt, with the tokens of its start and end."""

CPU_BATCH, GPU_BATCH = 2, 8
"""Prompts in one batch."""

MASKS = 16
"""Instances that are brought to the size of the image at once."""

TILE, OVERLAP = 1024, 128
"""Pixels; the model sees a tile at 1,008 pixels a side."""


@dataclass(frozen=True, eq=False)
class Sam3:
    """SAM 3, ready for inference.

    Attributes:
        model: transformers' model, in evaluation mode and without gradients.
        processor: resizes images and tokenizes prompts.
        name: as the user gave it.
        sha256: hash of its weight files.
        prompts: the features of the prompts of class lists that were used.
    """

    model: "Sam3Model"
    processor: "Sam3Processor"
    name: str
    sha256: str
    prompts: dict[tuple[str, ...], tuple[Tensor, Tensor]] = field(default_factory=dict, repr=False)

    def label_map(
        self,
        image: np.ndarray,
        classes: ClassList,
        threshold: float = 0.0,
        *,
        tile: int = TILE,
        overlap: int = OVERLAP,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The class of each pixel.

        Args:
            image: uint8 [H, W, 3] RGB.
            classes: the classes; a background is prompted like the others.
            threshold: pixels without a class of at least this score become background.
            tile: side in pixels of the tiles that a larger image is cut to; their scores blend in the overlaps.
            overlap: smallest overlap of neighboring tiles in pixels.

        Returns:
            The number of the class, int32 [H, W], the lower one of two equal scores, and its score, float32 [H, W].

        Raises:
            UsageError: a threshold outside 0 to 1 or without a background, or a name that is too long for a prompt.
            GeoClickError: the memory of the GPU is too small.
        """
        if not 0 <= threshold <= 1:
            raise UsageError(f"The threshold must be from 0 to 1, not {threshold}.")
        if threshold and classes.background is None:
            raise UsageError(
                "A threshold gives pixels to the class `background`, which the class list lacks; add it to the list."
            )
        labels = np.empty(image.shape[:2], np.int32)
        confidence = np.empty(image.shape[:2], np.float32)
        for top, scores in blending.strips(
            image, lambda part: self.scores(part, classes), tile=tile, overlap=overlap
        ):
            rows = slice(top, top + scores.shape[1])
            labels[rows], confidence[rows] = chosen_classes(scores, classes, threshold)
        return labels, confidence

    @torch.inference_mode()
    def scores(self, image: np.ndarray, classes: ClassList) -> Tensor:
        """The score of each class at each pixel, float32 [C, H, W]; the image, uint8 [H, W, 3], is encoded once."""
        features, valid = self._prompts(classes.queries)
        # Otherwise an image of three rows is taken for three channels; PyTorch warns of arrays that are read-only.
        inputs = self.processor(images=image.copy(), return_tensors="pt", input_data_format="channels_last")
        pixels = inputs["pixel_values"].to(device=self.model.device, dtype=self.model.dtype)
        encoded = self.model.get_vision_features(pixels)
        scores = features.new_zeros(len(classes.names), *image.shape[:2], dtype=torch.float32)

        def run(numbers: Sequence[int]) -> "Sam3ImageSegmentationOutput":
            return self._outputs(encoded, features[list(numbers)], valid[list(numbers)])

        numbers = iter(classes.query_classes)
        for outputs in _batch(self.model.device.type).run(range(len(features)), run):
            for query in query_scores(outputs, (image.shape[0], image.shape[1])):
                number = next(numbers)
                scores[number] = torch.maximum(scores[number], query)
        return scores

    def _prompts(self, queries: tuple[str, ...]) -> tuple[Tensor, Tensor]:
        """The features of prompts [Q, TOKENS, D] and which of their tokens are no padding, bool [Q, TOKENS]."""
        if queries not in self.prompts:
            tokens = [len(ids) for ids in self.processor.tokenizer(list(queries))["input_ids"]]
            for query, length in zip(queries, tokens, strict=True):
                if length > TOKENS:
                    raise UsageError(
                        f"The class name {query!r} has {length} tokens, but a prompt of SAM 3 has {TOKENS}; shorten it."
                    )
            inputs = self.processor(text=list(queries), return_tensors="pt").to(self.model.device)
            self.prompts[queries] = (
                self.model.get_text_features(**inputs).pooler_output,
                inputs["attention_mask"],
            )
        return self.prompts[queries]

    def _outputs(
        self, encoded: "Sam3VisionEncoderOutput", features: Tensor, valid: Tensor
    ) -> "Sam3ImageSegmentationOutput":
        """The outputs of the model for a batch of prompts about one image."""
        from transformers.modeling_outputs import BaseModelOutputWithPooling
        from transformers.models.sam3.modeling_sam3 import Sam3VisionEncoderOutput

        count = len(features)
        shared = Sam3VisionEncoderOutput(
            fpn_hidden_states=tuple(level.expand(count, -1, -1, -1) for level in encoded.fpn_hidden_states),
            fpn_position_encoding=tuple(
                level.expand(count, -1, -1, -1) for level in encoded.fpn_position_encoding
            ),
        )
        text = BaseModelOutputWithPooling(pooler_output=features)
        return self.model(vision_embeds=shared, text_embeds=text, attention_mask=valid)


@dataclass(frozen=True, eq=False)
class Sam3Pipeline:
    """SAM 3 with a class list, as `geoclick predict` uses it.

    Attributes:
        classes: the class list, with a background if it names one class.
        sam3: the model.
        threshold: see `Sam3.label_map`, as the attributes below.
        tile: side of a tile in pixels.
        overlap: of neighboring tiles in pixels.
    """

    classes: ClassList
    sam3: Sam3
    threshold: float
    tile: int = TILE
    overlap: int = OVERLAP

    def predict(self, image: ImageSource) -> SemanticPrediction:
        """The classes of an image; raises GeoClickError if it cannot be read."""
        labels, confidence = self.sam3.label_map(
            as_array(image), self.classes, self.threshold, tile=self.tile, overlap=self.overlap
        )
        return SemanticPrediction(labels, confidence)

    def windows(self, source: Source) -> Iterator[WindowMap]:
        """The classes of a large image window by window, as `predict` gives them for the complete image."""

        def decide(_: np.ndarray, scores: Tensor) -> SemanticPrediction:
            return SemanticPrediction(*chosen_classes(scores, self.classes, self.threshold))

        blend = blending.Blend(
            source.size,
            lambda window: self.sam3.scores(source.read(window)[0], self.classes),
            lambda scores, _: scores,
            tile=self.tile,
            overlap=self.overlap,
        )
        return windowed.maps(source, self.tile, blend.at, decide)

    def describe(self) -> dict[str, Yaml]:
        """The model with its hash and all settings, for records."""
        return {
            "method": "sam3",
            "sam3": self.sam3.name,
            "sam3_sha256": self.sam3.sha256,
            "threshold": self.threshold,
            "instance_score": INSTANCE_SCORE,
            "synonyms": "max",
            "tile": self.tile,
            "overlap": self.overlap,
            "clip": None,
            "segmenter": None,
        }


def chosen_classes(scores: Tensor, classes: ClassList, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """The class of each pixel, int32 [H, W], and its score, float32 [H, W], from scores [C, H, W]."""
    best, chosen = scores.max(0)
    if threshold:
        chosen = chosen.masked_fill(best < threshold, classes.background or 0)
    confidence: np.ndarray = scores.gather(0, chosen[None])[0].cpu().numpy()
    return chosen.int().cpu().numpy(), confidence


def default_threshold(classes: ClassList) -> float:
    """THRESHOLD for a list with a background, else 0."""
    return 0.0 if classes.background is None else THRESHOLD


def load_pipeline(
    classes: str | ClassList,
    name_or_folder: str,
    *,
    device: str = "auto",
    threshold: float | None = None,
    tile: int = TILE,
    overlap: int = OVERLAP,
) -> Sam3Pipeline:
    """Load SAM 3 for a class list.

    Args:
        classes: such as "building, roof; road; water", the path of a class file, or a class list; `background` is
            added to a single class.
        name_or_folder: as in `load`.
        device: as in `load`.
        threshold: see `Sam3.label_map`; None takes `default_threshold`.
        tile: see Sam3Pipeline.
        overlap: see Sam3Pipeline.

    Raises:
        GeoClickError: the model or the class file is missing or unreadable.
        UsageError: a wrong class list, or an overlap that is not below the tile.
    """
    if isinstance(classes, str):
        classes = class_lists.from_option(classes)
    classes = class_lists.with_background(classes)
    if not 0 <= overlap < tile:
        raise UsageError(f"The overlap must be from 0 to below the tile of {tile}, not {overlap}.")
    if threshold is None:
        threshold = default_threshold(classes)
    return Sam3Pipeline(classes, load(name_or_folder, device), threshold, tile, overlap)


@lru_cache
def _batch(device: str) -> BatchSize:
    """One object for all images, so that a batch that was too large is not tried again."""
    return BatchSize(CPU_BATCH if device == "cpu" else GPU_BATCH, "prompts of SAM 3")


def query_scores(
    outputs: "Sam3ImageSegmentationOutput",
    size: tuple[int, int],
    *,
    instance_score: float = INSTANCE_SCORE,
) -> Iterator[Tensor]:
    """The score of each prompt of a batch at each pixel, float32 [H, W].

    Probabilities are resized bilinearly, as in the post-processing of transformers' Sam3ImageProcessor.

    Args:
        outputs: of transformers' Sam3Model.
        size: (height, width) of the image.
        instance_score: instances whose score is not above it are left out.
    """
    presence = outputs.presence_logits.float().sigmoid()
    objects = outputs.pred_logits.float().sigmoid() * presence
    for number in range(len(objects)):
        best = _resized(outputs.semantic_seg[number], size)[0]
        chosen = objects[number] > instance_score
        for masks, scores in zip(
            outputs.pred_masks[number][chosen].split(MASKS), objects[number][chosen].split(MASKS), strict=True
        ):
            if len(masks):
                best = torch.maximum(best, (_resized(masks, size) * scores[:, None, None]).amax(0))
        yield best * presence[number]


def _resized(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """The probabilities of logits [N, h, w] at a size (height, width), float32 [N, height, width]."""
    probabilities = logits.float().sigmoid()[None]
    return functional.interpolate(probabilities, size=size, mode="bilinear", align_corners=False)[0]


def load(
    name_or_folder: str, device: str | torch.device | None = None, dtype: torch.dtype | None = None
) -> Sam3:
    """Load SAM 3; weights are read as safetensors only, and no code from the model is run.

    Args:
        name_or_folder: a folder in transformers' layout or a hub id, such as facebook/sam3.
        device: None or "auto" selects the GPU if there is one.
        dtype: of the weights; None takes bfloat16 on a GPU and float32 on the CPU.

    Raises:
        UsageError: an unknown device.
        GeoClickError: the model is missing, damaged, or of another architecture.
    """
    device = devices.choose(device)
    folder = model_folders.locate(name_or_folder, FILES, OTHER_NAMES)
    kind = model_folders.model_type(folder)
    if kind not in TYPES:
        raise GeoClickError(f"{folder} holds a model of type {kind}, not a SAM 3; give {OTHER_NAMES}.")
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise GeoClickError(f"{folder} holds no .safetensors weights; download the model again.")
    if dtype is None:
        dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    processor = _load_processor(folder)
    model = _load_model(folder).to(device=device, dtype=dtype)
    return Sam3(model, processor, name_or_folder, files.sha256_of_all(weights))


def _load_model(folder: Path) -> "Sam3Model":
    from transformers import Sam3Model

    return model_folders.load_model(Sam3Model, folder, "SAM 3", use_safetensors=True)


def _load_processor(folder: Path) -> "Sam3Processor":
    from transformers import Sam3Processor

    with model_folders.loading("processor", folder):
        processor = Sam3Processor.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        # Without its files a tokenizer is empty rather than an error.
        if len(processor.tokenizer) <= len(processor.tokenizer.all_special_tokens) + 1:
            raise ValueError("incomplete tokenizer")
    return processor
