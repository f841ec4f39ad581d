"""Proposals: the masks of a segmenter for a grid of clicks, as segment-anything's SamAutomaticMaskGenerator makes them.

    proposals = propose(segmenters.load(), image, points_per_side=29)

Clicks are decoded in batches. Stability and boxes are those at full size, but they are computed from the low-resolution
logits; only masks that remain are made at full size.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from geoclick import masks
from geoclick.errors import GeoClickError, UsageError
from geoclick.inference.contrastive import image_crops
from geoclick.inference.contrastive.image_crops import Crop
from geoclick.inference.contrastive.small_regions import without_small_regions
from geoclick.masks import Rle
from geoclick.segmenters import points
from geoclick.segmenters.base import Segmenter
from geoclick.segmenters.planes import Planes, planes

OFFSET = 1.0
"""Change of the threshold of the logits for the stability."""

CROP_NMS = 0.7
"""Box IoU above which the mask of the larger crop is dropped."""


@dataclass(frozen=True, kw_only=True)
class ProposalSettings:
    """What decides the proposals of an image, besides the segmenter; the paper's grid, SAM's other defaults.

    Attributes:
        points_per_side: clicks along each side of the image (and of each crop).
        predicted_iou: masks need a higher predicted IoU; 0 keeps all.
        stability: masks need this IoU between thresholds of the logits of 1 and -1; 0 keeps all.
        box_nms: box IoU above which the mask of lower predicted IoU is dropped.
        crop_layers: layers of 2 x 2, 4 x 4, ... crops, which are searched in addition.
        minimum_area: smaller holes, then smaller islands of a mask are removed, in pixels.
        window: larger images are cut to windows of at most this side, without overlap; 0 never cuts.
    """

    points_per_side: int = 29
    predicted_iou: float = 0.88
    stability: float = 0.95
    box_nms: float = 0.7
    crop_layers: int = 0
    minimum_area: int = 0
    window: int = 0

    def check(self) -> None:
        """Raise UsageError if a number is out of its range."""
        if self.points_per_side < 1:
            raise UsageError(
                f"A grid of {self.points_per_side} points per side makes no proposals; use 1 or more (paper: 29)."
            )
        for name in ("predicted_iou", "stability", "box_nms"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name} must be from 0 to 1, not {getattr(self, name)}.")
        for name in ("crop_layers", "minimum_area", "window"):
            if getattr(self, name) < 0:
                raise UsageError(f"{name} must be 0 or more, not {getattr(self, name)}.")


@dataclass(frozen=True)
class Proposal:
    """A mask that a segmenter made from one click.

    Attributes:
        rle: the mask at the size of the image.
        predicted_iou: the segmenter's own estimate.
        stability: IoU of the masks at a higher and at a lower threshold.
        point: the click (x, y) in pixels of the image.
        box: (left, top, right, bottom), the outermost pixels inside the mask; zeros if it is empty.
    """

    rle: Rle
    predicted_iou: float
    stability: float
    point: tuple[float, float]
    box: tuple[int, int, int, int]

    @property
    def mask(self) -> np.ndarray:
        """The mask, bool [H, W], decoded on each call."""
        return masks.decode_rle(self.rle)


def propose(
    segmenter: Segmenter,
    image: np.ndarray,
    *,
    points_per_side: int = 29,
    predicted_iou: float = 0.88,
    stability: float = 0.95,
    box_nms: float = 0.7,
    crop_layers: int = 0,
    minimum_area: int = 0,
) -> list[Proposal]:
    """The proposals of an image, by decreasing predicted IoU within a crop; see ProposalSettings for the arguments.

    Args:
        segmenter: any segmenter.
        image: uint8 [H, W, 3] RGB.
        points_per_side: see ProposalSettings, as the arguments below.
        predicted_iou: limit.
        stability: limit.
        box_nms: limit.
        crop_layers: number.
        minimum_area: pixels.

    Raises:
        UsageError: a setting is out of its range.
        GeoClickError: the image is not uint8 [H, W, 3], or the GPU's memory is too small for one click.
    """
    settings = ProposalSettings(
        points_per_side=points_per_side,
        predicted_iou=predicted_iou,
        stability=stability,
        box_nms=box_nms,
        crop_layers=crop_layers,
        minimum_area=minimum_area,
    )
    return propose_with(segmenter, image, settings)


def propose_with(segmenter: Segmenter, image: np.ndarray, settings: ProposalSettings) -> list[Proposal]:
    """As `propose`, with all settings; the windows of a large image follow row by row."""
    settings.check()
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise GeoClickError(
            f"Proposals need an RGB image, uint8 [H, W, 3], not {image.dtype} {list(image.shape)}; convert it."
        )
    size = image.shape[0], image.shape[1]
    if not settings.window or max(size) <= settings.window:
        return _propose(segmenter, image, settings)
    return [
        _moved(proposal, window, size)
        for window in image_crops.windows(size, settings.window)
        for proposal in _propose(segmenter, window.of(image), settings)
    ]


def _moved(proposal: Proposal, window: Crop, size: tuple[int, int]) -> Proposal:
    """A proposal of a window in the frame of the image of `size` (height, width)."""
    runs = image_crops.uncropped(masks.decode_runs(proposal.rle)[1], window, size)
    left, top, right, bottom = proposal.box
    x, y = window.left, window.top
    box = (left + x, top + y, right + x, bottom + y) if masks.area(proposal.rle) else (0, 0, 0, 0)
    point = proposal.point[0] + x, proposal.point[1] + y
    return replace(proposal, rle=masks.encode_runs(size, runs), point=point, box=box)


class _Masks(NamedTuple):
    """Masks before they are brought to full size.

    Attributes:
        low_res: logits [N, h, w].
        scores: predicted IoU [N].
        stability: [N].
        boxes: in pixels of the image, int64 [N, 4].
        clicks: numbers of the clicks in the grid, int64 [N].
    """

    low_res: Tensor
    scores: Tensor
    stability: Tensor
    boxes: Tensor
    clicks: Tensor

    def of(self, chosen: Tensor) -> "_Masks":
        return _Masks(*(values[chosen] for values in self))


class _CropMasks(NamedTuple):
    """The masks of one crop, with what brings them to full size."""

    crop: Crop
    grid: np.ndarray
    planes: Planes
    masks: _Masks


def click_grid(points_per_side: int) -> np.ndarray:
    """A grid of points (x, y) from 0 to 1, row by row, each in the middle of its cell, float64 [P, 2]."""
    along = (np.arange(points_per_side) + 0.5) / points_per_side
    x, y = np.meshgrid(along, along)
    return np.stack([x, y], axis=-1).reshape(-1, 2)


def _propose(segmenter: Segmenter, image: np.ndarray, settings: ProposalSettings) -> list[Proposal]:
    size = image.shape[0], image.shape[1]
    crops = [
        _crop_masks(segmenter, image, crop, settings)
        for crop in image_crops.layers(size, settings.crop_layers)
    ]
    proposals = _full_size(crops, _without_duplicates(crops), size)
    if settings.minimum_area:
        return _cleaned(proposals, settings.minimum_area, max(settings.box_nms, CROP_NMS))
    return proposals


@torch.inference_mode()
def _crop_masks(
    segmenter: Segmenter, image: np.ndarray, crop: Crop, settings: ProposalSettings
) -> _CropMasks:
    """The masks of a crop that pass the limits and are no duplicates of each other."""
    size = image.shape[0], image.shape[1]
    embedding = segmenter.embed([np.ascontiguousarray(crop.of(image))])[0]
    decode, batch_size = points.decoder(segmenter, embedding)
    grid = click_grid(settings.points_per_side) * np.array(crop.size[::-1])
    full: Planes | None = None

    def decode_batch(numbers: Sequence[int]) -> _Masks:
        nonlocal full
        candidates = decode(grid[numbers[0] : numbers[-1] + 1], settings.predicted_iou)
        height, width = candidates.low_res.shape[1:]
        full = full or planes(segmenter, embedding, (height, width))
        measures = full.measure(candidates.low_res, OFFSET)
        boxes = measures.boxes + measures.boxes.new_tensor([crop.left, crop.top] * 2)
        passed = ~image_crops.cut_off(boxes, crop, size)
        if settings.stability > 0:
            passed &= measures.stability >= settings.stability
        clicks = candidates.clicks + numbers[0]
        return _Masks(candidates.low_res, candidates.scores, measures.stability, boxes, clicks).of(passed)

    parts = list(batch_size.run(range(len(grid)), decode_batch))
    found = _Masks(*(torch.cat(values) for values in zip(*parts, strict=True)))
    assert full is not None  # the grid has at least one click
    remaining = found.of(_suppress(found.boxes, found.scores, settings.box_nms))
    return _CropMasks(crop, grid + np.array([crop.left, crop.top]), full, remaining)


def _suppress(boxes: Tensor, scores: Tensor, limit: float) -> Tensor:
    """The numbers of the boxes whose IoU with all boxes of higher score among them is at most `limit`, by score."""
    from torchvision.ops import nms

    return nms(boxes.float(), scores, limit)


def _without_duplicates(crops: Sequence[_CropMasks]) -> Tensor:
    """The numbers of the masks, counted over all crops, that remain when those of smaller crops are preferred."""
    counts = [len(own.masks.scores) for own in crops]
    boxes = torch.cat([own.masks.boxes for own in crops])
    if len(crops) == 1:
        return torch.arange(counts[0], device=boxes.device)
    areas = torch.tensor([own.crop.size[0] * own.crop.size[1] for own in crops])
    scores = torch.repeat_interleave(1 / areas, torch.tensor(counts))
    return _suppress(boxes, scores.to(boxes.device), CROP_NMS)


def _full_size(crops: Sequence[_CropMasks], chosen: Tensor, size: tuple[int, int]) -> list[Proposal]:
    """The chosen masks, by their numbers over all crops, as proposals of the image."""
    proposals: dict[int, Proposal] = {}
    start = 0
    for own in crops:
        stop = start + len(own.masks.scores)
        numbers = chosen[(chosen >= start) & (chosen < stop)]
        proposals |= dict(zip(numbers.tolist(), _of_crop(own, numbers - start, size), strict=True))
        start = stop
    return [proposals[number] for number in chosen.tolist()]


def _of_crop(own: _CropMasks, chosen: Tensor, size: tuple[int, int]) -> Iterator[Proposal]:
    kept = own.masks.of(chosen)
    columns = (values.tolist() for values in (kept.scores, kept.stability, kept.boxes, kept.clicks))
    runs = own.planes.runs(kept.low_res) if len(chosen) else []
    for lengths, score, stability, box, click in zip(runs, *columns, strict=True):
        rle = masks.encode_runs(size, image_crops.uncropped(lengths, own.crop, size))
        x, y = own.grid[click].tolist()
        left, top, right, bottom = box
        yield Proposal(rle, score, stability, (x, y), (left, top, right, bottom))


def _cleaned(proposals: Sequence[Proposal], minimum: int, limit: float) -> list[Proposal]:
    """Proposals without small regions; unchanged ones are preferred where boxes have become equal."""
    cleaned, unchanged = [], []
    for proposal in proposals:
        mask = proposal.mask
        result = without_small_regions(mask, minimum)
        unchanged.append(float(result is mask))
        if result is not mask:
            box = masks.bounding_box(result)
            edges = (box[1].start, box[0].start, box[1].stop - 1, box[0].stop - 1) if box else (0, 0, 0, 0)
            proposal = replace(proposal, rle=masks.encode_rle(result), box=edges)
        cleaned.append(proposal)
    boxes = torch.tensor([proposal.box for proposal in cleaned]).reshape(-1, 4)
    return [cleaned[number] for number in _suppress(boxes, torch.tensor(unchanged), limit).tolist()]
