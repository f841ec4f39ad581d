"""The view of an image that a query is asked about in an epoch: flipped, rotated or cropped, with the query for it.

What is drawn depends on seed, sample and epoch alone. The flip and rotation depend on seed, image and epoch, so that
the queries of an image still share a pass of the vision tower.

An image is flipped or rotated only if the direction words of the query can be exchanged, and cropped only if the query
means the same in a part of the image (see directions.py). Images of reasoning questions are never cropped: their cue
may be anywhere. A crop holds the complete object and every click.
"""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from geoclick import masks
from geoclick.clicks import Click
from geoclick.masks import Rle
from geoclick.train.augmentation import directions
from geoclick.train.augmentation.image_views import FULL_IMAGE, ImageView

VIEW_KINDS = ("flip", "rotate", "crop")

CROP_SHARE = 0.5
"""Fraction of cropped rows among those that may be cropped: at inference images are not cropped."""
CROP_LEAST = 0.5
"""Smallest crop, as a fraction of each side; it is then enlarged twice."""
CROP_MARGIN = 0.1
"""Margin around the object and its clicks, as a fraction of their extent."""


class Question(NamedTuple):
    """What the view of an image depends on.

    Attributes:
        sample_id: of the sample.
        image: name of the image.
        query: the user's text.
        task: of the sample.
        rle: COCO RLE of the target.
        clicks: that must remain visible, in pixels.
    """

    sample_id: str
    image: str
    query: str
    task: str
    rle: Rle
    clicks: Sequence[Click] = ()


def draw_view(question: Question, kinds: Sequence[str], seed: int, epoch: int) -> tuple[ImageView, str]:
    """The view of a question's image in an epoch, and the query for it.

    Args:
        question: about the complete image.
        kinds: of the augmentation; those outside of VIEW_KINDS do not matter.
        seed: of the run.
        epoch: from 0.
    """
    mirrored, turns = generator_of(seed, epoch, "position", question.image).choice(positions(kinds))
    view = ImageView(None, mirrored, turns)
    query = directions.redirected(question.query, view.direction)
    if query is None:
        view, query = FULL_IMAGE, question.query
    if "crop" in kinds and question.task != "reasoning" and directions.holds_in_a_part(question.query):
        generator = generator_of(seed, epoch, "crop", question.sample_id)
        if generator.random() < CROP_SHARE:
            mask = masks.decode_rle(question.rle)
            view = replace(view, crop=crop_around(mask, question.clicks, generator))
    return view, query


def positions(kinds: Sequence[str]) -> list[tuple[bool, int]]:
    """Mirrored or not, and quarter turns, of every position that an image may take; upside down is both."""
    flips = [(False, 0), (True, 0), (True, 2), (False, 2)] if "flip" in kinds else [(False, 0)]
    quarters = range(4) if "rotate" in kinds else range(1)
    return sorted({(mirrored, (turns + more) % 4) for mirrored, turns in flips for more in quarters})


def generator_of(seed: int, epoch: int, what: str, sample: str) -> random.Random:
    """The random generator of one kind of augmentation: adding a kind does not change the others."""
    return random.Random(f"{seed} {epoch} {what} {sample}")


def crop_around(
    mask: np.ndarray, clicks: Sequence[Click], generator: random.Random
) -> tuple[int, int, int, int] | None:
    """A random part of an image, of about its aspect ratio, that holds a mask and clicks with a margin.

    Args:
        mask: of the target, bool [H, W]; an empty one may be anywhere.
        clicks: in pixels.
        generator: draws size and position.

    Returns:
        (left, top, width, height) in pixels, or None if only the full image holds them.
    """
    size = mask.shape[::-1]
    box = masks.bounding_box(mask)
    spans = []
    for axis in (0, 1):
        values = [round(click[axis]) for click in clicks]
        values += [box[1 - axis].start, box[1 - axis].stop - 1] if box else []
        if values:
            margin = round(CROP_MARGIN * (max(values) - min(values) + 1))
            spans.append((max(min(values) - margin, 0), min(max(values) + margin, size[axis] - 1)))
        else:
            spans.append((size[axis], -1))
    least = max(
        CROP_LEAST, *((last - first + 1) / side for (first, last), side in zip(spans, size, strict=True))
    )
    share = generator.uniform(least, 1)
    starts, sides = [], []
    for (first, last), side in zip(spans, size, strict=True):
        # Rounding must not cut the margin off.
        length = min(max(round(share * side), last - first + 1), side)
        sides.append(length)
        starts.append(generator.randint(max(last + 1 - length, 0), min(first, side - length)))
    return (*starts, *sides) if sides != list(size) else None
