"""Crops of an image around proposals, compared with the text by CLIP's image encoder."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, get_args

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor
from torch.nn import functional

from geoclick import masks
from geoclick.clips.loading import Clip
from geoclick.devices import BatchSize
from geoclick.errors import UsageError
from geoclick.inference.contrastive.regions import Region

Background = Literal["kept", "blurred", "mean"]
BACKGROUNDS: tuple[Background, ...] = get_args(Background)

SELECTIONS: dict[str, Background] = {"crop": "kept", "crop-blurred": "blurred", "crop-mean": "mean"}
"""The background of each rule by which a proposal takes the class of its crop."""

BLUR = 10
"""Standard deviation of the blur in pixels of the resized crop, for an image size of 224."""

CPU_BATCH, GPU_BATCH = 4, 64
"""Crops in one batch."""


def crop_cosines(
    clip: Clip,
    image: np.ndarray,
    proposals: Sequence[Region],
    text_features: Tensor,
    *,
    background: Background = "kept",
    margin: float = 1.0,
) -> np.ndarray:
    """The cosine of a crop around each proposal and each query.

    Args:
        clip: a CLIP or SigLIP.
        image: uint8 [H, W, 3] RGB.
        proposals: masks of the image.
        text_features: normalized text embeddings [Q, D].
        background: pixels of the crop outside the mask are kept, blurred, or replaced by the model's mean color.
        margin: sides of the crop in sides of the mask's box, 1 or more.

    Returns:
        float32 [N, Q]; 0 for an empty mask.

    Raises:
        UsageError: an unknown background, or a margin below 1.
    """
    embeddings = crop_embeddings(clip, image, proposals, background=background, margin=margin)
    return cosines(embeddings, text_features)


@torch.inference_mode()
def crop_embeddings(
    clip: Clip,
    image: np.ndarray,
    proposals: Sequence[Region],
    *,
    background: Background = "kept",
    margin: float = 1.0,
) -> Tensor:
    """The normalized embedding of a crop around each proposal, float32 [N, D]; 0 for an empty mask.

    Arguments and errors are those of `crop_cosines`. D is 0 if all masks are empty.
    """
    if background not in BACKGROUNDS:
        raise UsageError(f"Unknown background {background!r} of crops; use one of {', '.join(BACKGROUNDS)}.")
    if margin < 1:
        raise UsageError(f"The margin of crops must be 1 or more, not {margin}.")
    device = clip.model.device
    filled = [number for number, proposal in enumerate(proposals) if masks.area(proposal.rle)]

    def encode(numbers: Sequence[int]) -> Tensor:
        crops = [crop(clip, image, proposals[n], background=background, margin=margin) for n in numbers]
        pixels = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).to(device)
        mean, std = (torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (clip.mean, clip.std))
        normal = ((pixels.float() / 255 - mean) / std).to(clip.model.dtype)
        features = clip.model.get_image_features(pixel_values=normal)
        pooled = features if isinstance(features, Tensor) else features.pooler_output
        return functional.normalize(pooled.float(), dim=-1)

    encoded = torch.cat([torch.zeros(0, device=device), *_batch(device.type).run(filled, encode)])
    embeddings = encoded.new_zeros(len(proposals), encoded.shape[-1])
    embeddings[filled] = encoded
    return embeddings


def cosines(embeddings: Tensor, text_features: Tensor) -> np.ndarray:
    """The cosines of the embeddings of crops [N, D] and of queries [Q, D], float32 [N, Q]."""
    if not embeddings.shape[1]:
        return np.zeros((len(embeddings), len(text_features)), np.float32)
    return (embeddings @ text_features.to(embeddings).T).cpu().numpy()


@lru_cache
def _batch(device: str) -> BatchSize:
    """One object for all images, so that a batch that was too large is not tried again."""
    return BatchSize(CPU_BATCH if device == "cpu" else GPU_BATCH, "crops of the CLIP model")


def crop(
    clip: Clip, image: np.ndarray, proposal: Region, *, background: Background, margin: float
) -> np.ndarray:
    """The crop around a proposal that is not empty at the size of the model's images, uint8 [side, side, 3]."""
    mask = masks.decode_rle(proposal.rle)
    box = masks.bounding_box(mask)
    assert box is not None
    rows, columns = (_wider(side, margin, length) for side, length in zip(box, mask.shape, strict=True))
    side = clip.image_size
    resized = Image.fromarray(image[rows, columns]).resize((side, side), Image.Resampling.BICUBIC)
    if background == "kept":
        return np.array(resized)
    inside = Image.fromarray(mask[rows, columns]).resize((side, side), Image.Resampling.NEAREST)
    if background == "blurred":
        other = resized.filter(ImageFilter.GaussianBlur(BLUR * side / 224))
    else:
        red, green, blue = (round(255 * value) for value in clip.mean)
        other = Image.new("RGB", (side, side), (red, green, blue))
    return np.array(Image.composite(resized, other, inside))


def _wider(side: slice, margin: float, length: int) -> slice:
    """A side of a box, enlarged in both directions, inside the image."""
    more = round((side.stop - side.start) * (margin - 1) / 2)
    return slice(max(0, side.start - more), min(length, side.stop + more))
