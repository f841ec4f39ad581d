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
    """The click at the center of the larger mistake: positive on what is missing, negative on a surplus.

    Missed and surplus pixels are measured apart, each by the distance to the nearest pixel that is not of
    its kind or lies beyond the border. The larger maximum wins, a tie gives a negative click, and the pixel
    is the first one in row-major order at that maximum. The choice is by inscribed radius, not by area or
    component.

    Args:
        target: the ground truth, bool [H, W].
        prediction: the mask so far, bool [H, W]; empty before the first click.
        clicked: the clicks made so far, as (x, y) or (x, y, positive) in pixels; only these very pixels are
            never clicked again.
        valid: bool [H, W], false where pixels do not count; None when all count.

    Returns:
        The click, in whole pixels; None where nothing is wrong, and where every wrong pixel was clicked
        before, since saying the same once more helps nobody.

    Source:
        RITM (Sofiiuk et al., 2021), whose rule SimpleClick and the evaluation of SAM 2 share; theirs
        answers a perfect mask with a negative click at (0, 0).
    """
    # Beyond the box of both masks nothing is wrong, and most images are far larger than it.
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
    reach, excess = positive.max(), negative.max()
    if reach == excess == 0:
        return None
    distance = positive if reach > excess else negative
    row, column = np.unravel_index(distance.argmax(), distance.shape)
    return Click(int(column) + left, int(row) + top, bool(reach > excess))
