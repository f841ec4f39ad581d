"""The center rule of interactive segmentation: where the next click goes."""

from collections.abc import Sequence

import numpy as np

from geoclick.clicks import Click
from geoclick.distance import distance_transform
from geoclick.masks import bounding_box


def next_click(
    target: np.ndarray,
    prediction: np.ndarray,
    clicked: Sequence[Click | tuple[float, float]],
    valid: np.ndarray | None = None,
) -> Click | None:
    """The click at the center of the larger error region: positive on missed pixels, negative on surplus ones.

    Missed and surplus pixels have a distance transform each: the distance to the nearest pixel of another kind or
    outside the image. The larger maximum is chosen, the surplus at a tie; the pixel is the first one in row-major
    order at that maximum. So the inscribed radius decides, not the area.

    Args:
        target: the ground truth, bool [H, W].
        prediction: the mask so far, bool [H, W]; empty before the first click.
        clicked: the clicks so far, as (x, y) or (x, y, positive) in pixels; these pixels are not clicked again.
        valid: bool [H, W], false where pixels do not count; None if all count.

    Returns:
        The click, in whole pixels; None if no pixel is wrong, or if every wrong pixel was clicked before.

    Source:
        RITM (Sofiiuk et al., 2021); SimpleClick and the evaluation of SAM 2 use the same rule, but return a negative
        click at (0, 0) for a perfect mask.
    """
    # All errors lie in the bounding box of both masks, and most images are far larger.
    box = bounding_box(target | prediction)
    if box is None:
        return None
    target, prediction = target[box], prediction[box]
    missed, surplus = target & ~prediction, prediction & ~target
    if valid is not None:
        missed, surplus = missed & valid[box], surplus & valid[box]
    positive, negative = distance_transform(missed), distance_transform(surplus)
    top, left = box[0].start, box[1].start
    for x, y, *_ in clicked:
        column, row = round(x) - left, round(y) - top
        if 0 <= row < target.shape[0] and 0 <= column < target.shape[1]:
            positive[row, column] = negative[row, column] = 0
    missed_depth, surplus_depth = positive.max(), negative.max()
    if missed_depth == surplus_depth == 0:
        return None
    distance = positive if missed_depth > surplus_depth else negative
    row, column = np.unravel_index(distance.argmax(), distance.shape)
    return Click(int(column) + left, int(row) + top, bool(missed_depth > surplus_depth))
