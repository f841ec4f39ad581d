"""The SAM classes of transformers as Segmenters: SAM, SAM-HQ, SAM 2 and 2.1, the tracker of SAM 3, EdgeTAM.

Images are prepared by the image processor of the checkpoint. Masks come from the model's own prompt encoder and mask
decoder: a batch has one row for each prompt, with the features of its own image. The prompt encoders append one padding
point to the points of a prompt, so that prompts are batched by their number of clicks, as in sam.py. A single mask is
the one that the model chooses: SAM 2 and its relatives replace an unstable one by the best of three.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from geoclick.segmenters import resizing, upscaling
from geoclick.segmenters.base import Decoded, Embedding, Prompt
from geoclick.segmenters.prompt_batches import batches, prompts_at_once

if TYPE_CHECKING:
    from transformers import BaseImageProcessor, PreTrainedModel

Features = Literal["one", "early", "pyramid"]
"""Of an image: those of SAM; also those of an early block (SAM-HQ); also those of higher resolution (SAM 2)."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """A class of transformers and how its inputs and outputs are laid out.

    Attributes:
        title: what messages and tables call it.
        model: name of the class in transformers.
        processor: name of the class of its image processor.
        features: what the encoder returns.
        padded: whether images keep their aspect ratio in a padded square; otherwise they are stretched to a square.
    """

    title: str
    model: str
    processor: str
    features: Features
    padded: bool


def encode(model: "PreTrainedModel", pixels: Tensor, features: Features) -> tuple[Tensor, ...]:
    """The features of prepared images [N, 3, side, side], each float32 [N, ...]: first those of the image grid."""
    if features == "pyramid":
        levels = model.get_image_embeddings(pixels)
        return tuple(level.float() for level in (levels[-1], *levels[:-1]))
    encoded = model.vision_encoder(pixels)
    early = encoded.intermediate_embeddings[:1] if features == "early" else []
    return tuple(level.float() for level in (encoded.last_hidden_state, *early))


def decode_masks(
    model: "PreTrainedModel",
    levels: Sequence[Tensor],
    prompt: tuple[Tensor, Tensor],
    positions: Tensor,
    features: Features,
    multimask: bool,
) -> tuple[Tensor, Tensor]:
    """The masks of prompts, each on its own image.

    Args:
        model: of transformers.
        levels: of the images, see `encode`.
        prompt: the embeddings of points and boxes [N, 1, T, C] and of masks [N, C, h, w].
        positions: positional encoding of the feature grid [1, C, h, w].
        features: of the family.
        multimask: whether three masks are returned for each prompt, else one.

    Returns:
        Logits [N, K, 4h, 4w] and predicted IoU [N, K].
    """
    sparse, dense = prompt
    own: dict[str, list[Tensor] | bool] = {}
    if features == "pyramid":
        own = {"high_resolution_features": list(levels[1:])}
    elif features == "early":
        own = {"intermediate_embeddings": list(levels[1:]), "hq_token_only": False}
    masks, scores = model.mask_decoder(
        image_embeddings=levels[0],
        image_positional_embeddings=positions.expand(len(levels[0]), -1, -1, -1),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=multimask,
        **own,
    )[:2]
    return masks[:, 0].float(), scores[:, 0].float()


class TransformersSam:
    """A SAM of transformers as a Segmenter.

    Args:
        model: the model; it is moved to `device` and frozen.
        processor: the image processor of its checkpoint.
        family: its class.
        name: in `geoclick.segmenters.load`; of a model on the hub with its commit.
        sha256: hash of its weight files.
        device: where it runs.
        dtype: autocast type for speed (bfloat16 or float16), or None for float32.
        image_batch: images per batch of the encoder; None selects 8, or 1 on a CPU.
        prompt_batch: prompts per batch of the decoder; None selects 64, or fewer on a CPU, where a batch that is
            larger than the caches is slower than single prompts.
    """

    def __init__(
        self,
        model: "PreTrainedModel",
        processor: "BaseImageProcessor",
        family: Family,
        *,
        name: str,
        sha256: str = "",
        device: str | torch.device = "cpu",
        dtype: torch.dtype | None = None,
        image_batch: int | None = None,
        prompt_batch: int | None = None,
    ) -> None:
        self.device = torch.device(device)
        self.model = model.to(self.device).eval().requires_grad_(False)
        self.processor, self.family = processor, family
        self.name, self.sha256, self.dtype = name, sha256, dtype
        self.image_batch = image_batch or (1 if self.device.type == "cpu" else 8)
        self._prompt_batch = prompt_batch
        self.side: int = model.prompt_encoder.input_image_size
        with torch.inference_mode():
            self._positions = self.model.get_image_wide_positional_embeddings()
        self._decode_masks = decode_masks

    def compile(self) -> "TransformersSam":
        """Compile encoder and decoder with torch.compile; their next calls take minutes."""
        self.model.vision_encoder.compile()
        # The numbers of clicks and prompts vary, so that one kernel must serve all of them.
        self._decode_masks = torch.compile(decode_masks, dynamic=True)
        return self

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype is not None)

    @torch.inference_mode()
    def embed(self, images: Sequence[np.ndarray]) -> list[Embedding]:
        """Encode images, each uint8 [H, W, 3] RGB of any size, in batches of `image_batch`."""
        embeddings = []
        for start in range(0, len(images), self.image_batch):
            chunk = images[start : start + self.image_batch]
            # Otherwise an image of three rows is taken for three channels; PyTorch warns of arrays that are read-only.
            inputs = self.processor(
                images=[image.copy() for image in chunk],
                return_tensors="pt",
                input_data_format="channels_last",
            )
            with self._autocast():
                levels = encode(self.model, inputs["pixel_values"].to(self.device), self.family.features)
            for image, *own in zip(chunk, *levels, strict=True):
                size = image.shape[0], image.shape[1]
                # Copies, since a view would hold the features of the complete batch.
                first, *further = (level.clone() if len(chunk) > 1 else level for level in own)
                embeddings.append(Embedding(first, size, self._input_size(size), tuple(further)))
        return embeddings

    def _input_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """The (height, width) that an image of a size (height, width) has in the square input of the model."""
        return resizing.resized_size(size, self.side) if self.family.padded else (self.side, self.side)

    def prompts_at_once(self, embedding: Embedding) -> int:
        """The number of prompts in a batch."""
        if self._prompt_batch:
            return self._prompt_batch
        elements = sum(level.numel() for level in (embedding.features, *embedding.levels))
        return prompts_at_once(elements, self.device)

    @torch.inference_mode()
    def decode(
        self, embeddings: Sequence[Embedding], prompts: Sequence[Prompt], *, multimask: bool
    ) -> list[Decoded]:
        """Decode `prompts[i]` on `embeddings[i]`; prompts of equal form (clicks, mask, box) are batched.

        Returns:
            One Decoded per prompt, with three masks if `multimask`, else one.
        """
        decoded: dict[int, Decoded] = {}
        for chunk in batches(prompts, lambda first: self.prompts_at_once(embeddings[first])):
            own = [embeddings[i] for i in chunk]
            masks, scores = self._decode_chunk(own, [prompts[i] for i in chunk], multimask)
            answers = zip(masks, scores, strict=True)
            decoded |= {i: Decoded(m, s) for i, (m, s) in zip(chunk, answers, strict=True)}
        return [decoded[i] for i in range(len(prompts))]

    def _decode_chunk(
        self, embeddings: list[Embedding], prompts: list[Prompt], multimask: bool
    ) -> tuple[Tensor, Tensor]:
        # Half precision cannot represent positions to the pixel, so the prompts are encoded outside autocast.
        prompt = self._encode_prompts(embeddings, prompts)
        levels = [
            torch.stack(own) for own in zip(*((e.features, *e.levels) for e in embeddings), strict=True)
        ]
        with self._autocast():
            return self._decode_masks(
                self.model, levels, prompt, self._positions, self.family.features, multimask
            )

    def _encode_prompts(self, embeddings: list[Embedding], prompts: list[Prompt]) -> tuple[Tensor, Tensor]:
        """The embeddings of points and boxes [N, 1, T, C] and of masks [N, C, h, w] of prompts of equal form."""
        points = labels = boxes = None
        if prompts[0].clicks:
            points = self._resized(embeddings, [[c[:2] for c in prompt.clicks] for prompt in prompts])[
                :, None
            ]
            signs = [[int(click.positive) for click in prompt.clicks] for prompt in prompts]
            labels = torch.tensor(signs, device=self.device)[:, None]
        corners = [[prompt.box[:2], prompt.box[2:]] for prompt in prompts if prompt.box]
        if corners:
            boxes = self._resized(embeddings, corners).flatten(1)[:, None]
        previous = [prompt.low_res for prompt in prompts if prompt.low_res is not None]
        sparse, dense = self.model.prompt_encoder(
            input_points=points,
            input_labels=labels,
            input_boxes=boxes,
            input_masks=torch.stack(previous) if previous else None,
        )
        return sparse, dense

    def _resized(self, embeddings: list[Embedding], coords: list[list[tuple[float, float]]]) -> Tensor:
        """Points (x, y) of original images in the model's input frame, float [N, P, 2]."""
        scales = [(e.input_size[1] / e.size[1], e.input_size[0] / e.size[0]) for e in embeddings]
        resized = np.array(coords, float) * np.array(scales)[:, None]
        return torch.as_tensor(resized, dtype=torch.float, device=self.device)

    def axes(self, low_res: Sequence[int], embedding: Embedding) -> tuple[upscaling.Axis, upscaling.Axis]:
        """The interpolation of rows and of columns from logits of size `low_res` (h, w) to the original image."""
        if not self.family.padded:
            rows, columns = (
                upscaling.axis(low, low, low, size, self.device)
                for low, size in zip(low_res, embedding.size, strict=True)
            )
            return rows, columns
        rows, columns = (
            upscaling.axis(low, self.side, inside, size, self.device)
            for low, inside, size in zip(low_res, embedding.input_size, embedding.size, strict=True)
        )
        return rows, columns

    @torch.inference_mode()
    def masks(self, low_res: Tensor, embedding: Embedding) -> Tensor:
        """Logits [N, h, w] as masks, bool [N, H, W], at the size of the original image."""
        return upscaling.masks(low_res, *self.axes(low_res.shape[1:], embedding))
