"""Targets that are too small for a segmenter, counted.

A segmenter resizes an image to its own side and writes a mask of fewer pixels than that: 256x256 for SAM. A target
whose largest connected part covers only a few of these pixels can hardly be segmented, wherever one clicks.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypedDict

import numpy as np

from geoclick import masks
from geoclick.masks import RleLike
from geoclick.segmenters.architectures import mask_side

SMALLEST = 16
"""Pixels of the segmenter's mask below which a target is too small.

One click at the center of 993 components of ../shared/data/dubai, with the embedded segmenter (2026-11-26): below 16
pixels, 1 of 424 targets reached an IoU of 0.5, from 16 to 32 pixels 11 %, above 21 %.
"""

TILE = 512
"""Side of windows that the message suggests, in pixels."""

EIGHT = np.ones((3, 3), bool)


class SmallTargetCounts(TypedDict):
    """What a record holds of `SmallTargets`: the counts, and the sides that decide."""

    targets: int
    too_small: int
    share: float
    fewer_pixels_than: int
    of_a_mask_side: int
    largest_image: int


def is_too_small(rle: RleLike, side: int) -> bool:
    """Whether the largest part of a target covers fewer than SMALLEST pixels of a mask of `side` x `side`.

    The long side of the image fills the mask. An empty target is not too small. Parts are connected by 8 neighbors.
    """
    needed = SMALLEST * (max(rle["size"]) / side) ** 2
    area = masks.area(rle)
    if not area:
        return False
    if area < needed:
        return True
    # A run is connected, so that large targets need not be decoded.
    if masks.longest_run(rle) >= needed:
        return False
    from scipy import ndimage

    mask = masks.decode_rle(rle)
    parts, _ = ndimage.label(mask[masks.bounding_box(mask)], EIGHT)
    return bool(np.bincount(parts.ravel())[1:].max() < needed)


@dataclass
class SmallTargets:
    """A count of targets.

    Attributes:
        segmenter: name of the segmenter.
        targets: targets with a pixel.
        too_small: those that are too small for it.
        largest: long side of the largest image, in pixels.
    """

    segmenter: str
    targets: int = 0
    too_small: int = 0
    largest: int = 0

    def count(self, rle: RleLike) -> None:
        """Count one target; an empty one does not count."""
        if masks.area(rle):
            self.targets += 1
            self.too_small += is_too_small(rle, mask_side(self.segmenter))
            self.largest = max(self.largest, *rle["size"])

    def result(self) -> SmallTargetCounts:
        """The counts for a record: `targets`, `too_small`, its `share`, and the sides that decide."""
        return {
            "targets": self.targets,
            "too_small": self.too_small,
            "share": round(self.too_small / max(self.targets, 1), 6),
            "fewer_pixels_than": SMALLEST,
            "of_a_mask_side": mask_side(self.segmenter),
            "largest_image": self.largest,
        }


def count(targets: Iterable[RleLike], segmenter: str) -> SmallTargetCounts:
    """The counts of some targets, as `SmallTargets.result`; `segmenter` is its name."""
    small = SmallTargets(segmenter)
    for target in targets:
        small.count(target)
    return small.result()


def text(result: SmallTargetCounts | None) -> str:
    """One line about the targets that are too small, from `SmallTargets.result`; empty if there is none."""
    if not result or not result["too_small"]:
        return ""
    side = result["of_a_mask_side"]
    fix = f"; --tile {TILE} cuts the images to windows" if result["largest_image"] > TILE else ""
    share = f"{result['too_small']:,} of {result['targets']:,} targets ({100 * result['share']:.1f} %)"
    return (
        f"{share} are too small for the segmenter, their largest part has fewer than {result['fewer_pixels_than']} "
        f"pixels of its {side}x{side} mask{fix}"
    )
