"""Dense CLIP: an image and text embeddings to a cosine for each query and pixel, and these to labels.

The image is resized by its long side and cut to overlapping windows; their logits are averaged and brought to the
image's size, as in SegEarth-OV.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from geoclick.clips.loading import NORMALIZATION, RGB
from geoclick.devices import BatchSize
from geoclick.errors import GeoClickError
from geoclick.geo import tiles
from geoclick.inference.contrastive.classes import ClassList
from geoclick.inference.contrastive.resizing import resize, resize_long_side
from geoclick.inference.contrastive.vision_transformer import dense_features, patch_size, variant_of

if TYPE_CHECKING:
    from transformers import CLIPModel, SiglipModel

    from geoclick.inference.contrastive.upsampler import JointBilateralUpsampler

__all__ = [
    "class_probabilities",
    "dense_features",
    "enlarge",
    "labels",
    "small_logits",
    "whole_features",
    "window_features",
    "window_logits",
]

CPU_BATCH, GPU_BATCH = 3, 32
"""Windows in one batch."""

CHUNK = 2**22
"""Logits that become labels at once."""

Classes = ClassList | Sequence[int] | np.ndarray | Tensor | int
"""The class of each query: a list of classes, or whole numbers [Q]; or the number of classes that have a query each."""


@dataclass(frozen=True, kw_only=True)
class WindowOptions:
    """How an image becomes windows, and how these are run.

    Attributes:
        long_side: of the resized image in pixels.
        window: side of a window in pixels; 0 for one window, the complete image.
        stride: between windows in pixels.
        class_bias: factor of the class token's cosines, which are added to those of the window (SegEarth-OV: -0.3).
        mean: of RGB from 0 to 1; None for that of the model's type.
        std: standard deviation, as `mean`.
        batch: windows in one batch; None selects it by the device.
    """

    long_side: int = 448
    window: int = 224
    stride: int = 112
    class_bias: float = 0.0
    mean: RGB | None = None
    std: RGB | None = None
    batch: BatchSize | None = None


def window_logits(
    model: "CLIPModel | SiglipModel",
    image: np.ndarray,
    text_features: Tensor | np.ndarray,
    method: str,
    *,
    long_side: int = 448,
    window: int = 224,
    stride: int = 112,
    class_bias: float = 0.0,
) -> Tensor:
    """The cosine of each query at each pixel of an image, averaged over overlapping windows.

    Args:
        model: transformers' CLIPModel or SiglipModel.
        image: uint8 [H, W, 3] RGB.
        text_features: normalized text embeddings [Q, D].
        method: a key of `vision_transformer.VARIANTS`.
        long_side: see WindowOptions, as the arguments below.
        window: side of a window.
        stride: between windows.
        class_bias: factor of the class token's cosines.

    Returns:
        float32 [Q, H, W] on the model's device. They are held at once: use blending.py for large images.

    Raises:
        UsageError: unknown method.
        GeoClickError: the image is too small or too narrow, or the model has no class token for `class_bias`.
    """
    options = WindowOptions(long_side=long_side, window=window, stride=stride, class_bias=class_bias)
    return enlarge(small_logits(model, image, text_features, method, options), image.shape[:2])


@dataclass(frozen=True, eq=False)
class WindowFeatures:
    """The features of an image's windows before they are compared with text, in the model's dtype.

    Attributes:
        features: of the patches of each window, [N, h, w, D], projected and not normalized.
        tokens: class token of each window, [N, D]; None for a SigLIP.
    """

    features: Tensor
    tokens: Tensor | None


class _Windows(NamedTuple):
    """The windows of an image.

    Attributes:
        pixels: of the resized image, normalized, [3, h, w].
        corners: the top left pixel (row, column) of each window.
        size: their (height, width).
        padding: zeros (left, right, top, bottom) around a window.
    """

    pixels: Tensor
    corners: list[tuple[int, int]]
    size: tuple[int, int]
    padding: tuple[int, int, int, int]

    def of(self, numbers: Sequence[int]) -> Tensor:
        """Some of the windows by their numbers, [B, 3, height, width] with the padding."""
        places = [self.place(number) for number in numbers]
        return functional.pad(torch.stack([self.pixels[:, *place] for place in places]), self.padding)

    def place(self, number: int) -> tuple[slice, slice]:
        """Rows and columns of a window in the resized image."""
        top, left = self.corners[number]
        return slice(top, top + self.size[0]), slice(left, left + self.size[1])


@torch.inference_mode()
def window_features(
    model: "CLIPModel | SiglipModel", image: np.ndarray, method: str, options: WindowOptions
) -> WindowFeatures:
    """The features of the windows of an image, uint8 [H, W, 3]; raises as `window_logits`."""
    variant_of(method)
    cut = _cut(model, image, options)
    batch = options.batch or _default_batch(model.device.type)
    numbers = range(len(cut.corners))
    parts = list(batch.run(numbers, lambda own: dense_features(model, cut.of(own), method)))
    tokens = [token for _, token in parts if token is not None]
    return WindowFeatures(
        torch.cat([features for features, _ in parts]), torch.cat(tokens) if tokens else None
    )


@torch.inference_mode()
def whole_features(
    model: "CLIPModel | SiglipModel", image: np.ndarray, method: str, options: WindowOptions
) -> Tensor:
    """The features [h, w, D] of a complete image in one window, whose sides are multiples of the patch size."""
    side = patch_size(model)
    scale = options.long_side / max(image.shape[:2])
    height, width = (max(side, round(length * scale / side) * side) for length in image.shape[:2])
    pixels = normalized(resize(image, (height, width)), model, options)
    return dense_features(model, pixels[None].to(model.device), method)[0][0]


@torch.inference_mode()
def small_logits(
    model: "CLIPModel | SiglipModel",
    image: np.ndarray,
    text_features: Tensor | np.ndarray,
    method: str,
    options: WindowOptions,
    upsampler: "JointBilateralUpsampler | None" = None,
    features: WindowFeatures | None = None,
) -> Tensor:
    """As `window_logits`, float32 [Q, h, w] at the size of the resized image.

    Args:
        model: as there.
        image: as there.
        text_features: as there.
        method: as there.
        options: how the image becomes windows.
        upsampler: brings the features of a window to its pixels before they are compared with the text.
        features: of the image by the same model, method and options; None runs the model.
    """
    features = features or window_features(model, image, method, options)
    cut = _cut(model, image, options)
    device, (height, width) = model.device, cut.pixels.shape[-2:]
    text = torch.as_tensor(text_features, dtype=torch.float32, device=device)

    def logits_of(numbers: Sequence[int]) -> Tensor:
        own = slice(numbers[0], numbers[-1] + 1)
        tokens = None if features.tokens is None else features.tokens[own].to(device)
        part = WindowFeatures(features.features[own].to(device), tokens)
        return _logits(part, cut.of(numbers), text, options.class_bias, upsampler)

    batch = options.batch or _default_batch(device.type)
    total = cut.pixels.new_zeros(len(text), height, width)
    count = cut.pixels.new_zeros(height, width)
    left, _, top, _ = cut.padding
    numbers = range(len(cut.corners))
    remaining = iter(numbers)
    for result in batch.run(numbers, logits_of):
        for logits, number in zip(result, remaining, strict=False):
            place = cut.place(number)
            total[:, *place] += logits[:, top : top + cut.size[0], left : left + cut.size[1]]
            count[place] += 1
    return total / count


def _cut(model: "CLIPModel | SiglipModel", image: np.ndarray, options: WindowOptions) -> _Windows:
    side = patch_size(model)
    if min(image.shape[:2]) < side:
        raise GeoClickError(
            f"An image of {image.shape[1]}x{image.shape[0]} pixels is smaller than a patch of {side}x{side}; give a "
            "larger image."
        )
    pixels = normalized(resize_long_side(image, options.long_side), model, options).to(model.device)
    corners, size = windows((pixels.shape[1], pixels.shape[2]), options.window, options.stride)
    return _Windows(pixels, corners, size, _padding(size, side))


def normalized(image: np.ndarray, model: "CLIPModel | SiglipModel", options: WindowOptions) -> Tensor:
    """The input of a model, float32 [3, H, W], of an image, uint8 [H, W, 3]."""
    mean, std = NORMALIZATION[model.config.model_type]
    values = torch.from_numpy(image).permute(2, 0, 1).float() / 255
    shift, scale = (torch.tensor(v).view(3, 1, 1) for v in (options.mean or mean, options.std or std))
    return (values - shift) / scale


def windows(size: tuple[int, int], window: int, stride: int) -> tuple[list[tuple[int, int]], tuple[int, int]]:
    """The top left pixels (row, column) of the windows of an image, row by row, and their common (height, width).

    The last window of a row or column is shifted back to end with the image.
    """
    if window == 0:
        return [(0, 0)], size
    grid = tiles.cut(size, window, window - stride)
    return list(product(grid.rows.tolist(), grid.columns.tolist())), (grid.height, grid.width)


def _padding(size: tuple[int, int], side: int) -> tuple[int, int, int, int]:
    """The zeros (left, right, top, bottom) that center a window in a multiple of the patch size."""
    missing = [-length % side for length in size]
    (top, left), (bottom, right) = ([m // 2 for m in missing], [m - m // 2 for m in missing])
    return left, right, top, bottom


def _logits(
    windows: WindowFeatures,
    pixels: Tensor,
    text: Tensor,
    class_bias: float,
    upsampler: "JointBilateralUpsampler | None",
) -> Tensor:
    """The cosines [B, Q, H, W] of windows, whose pixels are [B, 3, H, W]."""
    features = windows.features.float()
    if upsampler is None:
        cosines = (functional.normalize(features, dim=-1) @ text.T).permute(0, 3, 1, 2)
    else:
        # One by one: the features of a window of 224 x 224 pixels take 100 MB.
        cosines = torch.stack(
            [
                torch.einsum("dhw,qd->qhw", functional.normalize(upsampler(f[None], p[None])[0], dim=0), text)
                for f, p in zip(features.permute(0, 3, 1, 2), pixels, strict=True)
            ]
        )
    if class_bias:
        if windows.tokens is None:
            raise GeoClickError(
                "SigLIP has no class token, so that --class-bias has no meaning for it; set it to 0."
            )
        bias = functional.normalize(windows.tokens.float(), dim=-1) @ text.T
        cosines = cosines + class_bias * bias[:, :, None, None]
    return functional.interpolate(cosines, size=pixels.shape[-2:], mode="bilinear", align_corners=False)


@lru_cache
def _default_batch(device: str) -> BatchSize:
    """One object for all images, so that a batch that was too large is not tried again."""
    return BatchSize(CPU_BATCH if device == "cpu" else GPU_BATCH, "windows of the CLIP model")


def enlarge(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Logits [Q, h, w] at another size (height, width), bilinear."""
    return functional.interpolate(logits[None], size=size, mode="bilinear", align_corners=False)[0]


def class_probabilities(
    logits: Tensor, classes: Classes, *, scale: float = 50.0, synonyms: str = "max"
) -> Tensor:
    """The probability of each class at each pixel.

    Args:
        logits: cosines [Q, H, W].
        classes: the class of each query.
        scale: factor of the cosines in the softmax over all queries.
        synonyms: `max` takes the largest probability of a class's queries, as SegEarth-OV does, so that the sum over
            the classes may be below 1; `sum` adds them.

    Returns:
        float32 [C, H, W]; 0 for a class without a query.
    """
    index = _class_index(classes, logits)
    probabilities = torch.softmax(logits.float() * scale, dim=0)
    result = probabilities.new_zeros(int(index.max()) + 1, *logits.shape[1:])
    reduction = {"max": "amax", "sum": "sum"}[synonyms]
    spread = index.view(-1, 1, 1).expand_as(probabilities)
    return result.scatter_reduce_(0, spread, probabilities, reduction)


def labels(
    logits: Tensor | np.ndarray,
    classes: Classes,
    *,
    scale: float = 50.0,
    threshold: float = 0.0,
    background: int = 0,
    synonyms: str = "max",
) -> np.ndarray:
    """The most probable class of each pixel.

    Args:
        logits: cosines [Q, H, W].
        classes: the class of each query.
        scale: see `class_probabilities`.
        threshold: pixels whose largest probability is below it become `background`.
        background: a class.
        synonyms: see `class_probabilities`.

    Returns:
        int32 [H, W]; the lower class of two equal ones.

    Raises:
        GeoClickError: the number of classes given is not the number of queries.
    """
    logits = torch.as_tensor(logits)
    rows = max(1, CHUNK // (len(logits) * logits.shape[2]))
    pieces = []
    for piece in torch.split(logits, rows, dim=1):
        probability, label = class_probabilities(piece, classes, scale=scale, synonyms=synonyms).max(dim=0)
        label[probability < threshold] = background
        pieces.append(label.int().cpu())
    return torch.cat(pieces).numpy()


def _class_index(classes: Classes, logits: Tensor) -> Tensor:
    if isinstance(classes, int):
        classes = range(classes)
    numbers = classes.query_classes if isinstance(classes, ClassList) else classes
    index = torch.as_tensor(numbers, dtype=torch.int64, device=logits.device)
    if len(index) != len(logits):
        raise GeoClickError(f"{len(logits)} queries have {len(index)} classes; give the class of each query.")
    return index
