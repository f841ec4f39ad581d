"""The numbers of every sequence in a click store, read once as a stream; a quality report is made of them."""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from geoclick import masks
from geoclick.clicks import Click
from geoclick.codec import FORMATS
from geoclick.contradictions import fingerprint
from geoclick.distance import distance_transform
from geoclick.errors import GeoClickError
from geoclick.store import Row

GROUPS = ("dataset", "task", "category", "parts")
"""The columns of a store by whose values figures are also computed; of `parts` their number."""

COUNTED = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
"""Families whose tokens are counted; later ones write the same answers as `qwen3_vl`."""

CODECS = tuple((family, answer_format) for family in COUNTED for answer_format in FORMATS)
"""Families and answer formats, in the order of the column `tokens`."""

UNCOUNTED = -1
"""In the column `tokens`: this codec cannot write the answer."""

ROW = np.dtype(
    [(group, "i4") for group in GROUPS]
    + [(identity, "i8") for identity in ("sample", "image", "query", "question", "mask")]
    + [
        ("clicks", "i4"),
        ("given", "i4"),
        ("given_iou", "f8"),
        ("final_iou", "f8"),
        ("best_iou", "f8"),
        ("area", "i8"),
        ("box", "i4", 4),
        ("radius", "f8"),
        ("tokens", "i4", len(CODECS)),
    ]
)
CLICK = np.dtype(
    [
        ("row", "i8"),
        ("position", "i4"),
        ("iou", "f8"),
        ("positive", "?"),
        ("x", "f4"),
        ("y", "f4"),
        ("distance", "f4"),
    ]
)
_BATCH = 256
_LATER_SEQUENCE = re.compile(r"(.+)#([2-9]|[1-9][0-9]{1,5})", re.DOTALL)

CountTokens = Callable[[Sequence[Row]], np.ndarray]
"""Rows [n] to the tokens of their answers, int [n, codecs]."""


@dataclass(frozen=True)
class Measures:
    """A store in numbers, some 200 bytes per row and 30 per click.

    Attributes:
        rows: ROW [N], in the store's order. `dataset`, `task`, `category` and `parts` are indices into `names`;
            `sample`, `image`, `query`, `question` (image and query) and `mask` are hashes. `given` counts the first
            clicks that a model made itself, and `given_iou` is the IoU after them, 0 without. `final_iou` is that after
            the last click and `best_iou` the highest, both 0 without clicks; `area` counts target pixels, 0 without a
            target; `box` is the target's (top, left, bottom, right) in pixels, ends excluded; `radius` is the largest
            distance in pixels from the center of a target pixel to that of the nearest pixel that is not target or is
            beyond the image.
        clicks: CLICK [M], row by row, in their order. `row` is an index into `rows`, `position` counts from 0; `x`
            and `y` are fractions of the image's width and height; `distance` is from `border_distances`.
        names: the datasets, tasks, categories and numbers of parts by index.
    """

    rows: np.ndarray
    clicks: np.ndarray
    names: dict[str, list[str]]

    @property
    def targets(self) -> np.ndarray:
        """Which rows have a target, bool [N]."""
        return self.rows["area"] > 0


def measure(
    rows: Iterable[Row], count_tokens: CountTokens, advance: Callable[[], None], *, sequences: int = 1
) -> Measures:
    """Measure a stream of rows.

    Args:
        rows: of a store.
        count_tokens: counts the answers of a few hundred rows at once.
        advance: called once for each row.
        sequences: number of sequences of each sample that the store was made with.

    Raises:
        GeoClickError: a row contradicts itself.
    """
    codes: dict[str, dict[str, int]] = {group: {} for group in GROUPS}
    row_parts, click_parts = [np.empty(0, ROW)], [np.empty(0, CLICK)]
    count = 0
    for batch in _batches(iter(rows)):
        measured: list[tuple[Any, ...]] = []
        clicks: list[tuple[Any, ...]] = []
        for row, tokens in zip(batch, count_tokens(batch), strict=True):
            numbers, click_numbers = _measure(row, count + len(measured), sequences)
            groups = (codes[g].setdefault(group_of(row, g), len(codes[g])) for g in GROUPS)
            measured.append((*groups, *numbers, tokens))
            clicks += click_numbers
            advance()
        count += len(measured)
        row_parts.append(np.array(measured, ROW))
        click_parts.append(np.array(clicks, CLICK))
    names = {group: list(code_of) for group, code_of in codes.items()}
    return Measures(np.concatenate(row_parts), np.concatenate(click_parts), names)


def group_of(row: Row, group: str) -> str:
    """The name of a row's group, one of GROUPS; empty if it is in none."""
    if group != "parts":
        return str(getattr(row, group))
    return f"{len(row.parts)} part{'s' * (len(row.parts) > 1)}" if row.parts else ""


def _batches(rows: Iterator[Row]) -> Iterator[list[Row]]:
    while batch := list(islice(rows, _BATCH)):
        yield batch


def sample_of(row_id: str, sequences: int, *, is_step: bool = False) -> str:
    """The sample of a row: its id without the `#2` and so on of later sequences where samples have several.

    The id of a row that shows a mask also ends with the number of its step, such as `~1`.
    """
    row_id = row_id.rpartition("~")[0] if is_step else row_id
    match = _LATER_SEQUENCE.fullmatch(row_id)
    return match[1] if match and int(match[2]) <= sequences else row_id


def _measure(row: Row, index: int, sequences: int) -> tuple[tuple[Any, ...], list[tuple[Any, ...]]]:
    """The columns of a row from `sample` to `radius`, and its clicks."""
    target = _checked_target(row)
    rows, columns = masks.bounding_box(target) or (slice(0, 0), slice(0, 0))
    box = rows.start, columns.start, rows.stop, columns.stop
    crop = target[rows, columns]
    depth = distance_transform(crop)
    distances = border_distances(depth, box, [nearest_pixel(click, target.shape) for click in row.clicks])
    numbers = (
        fingerprint(
            row.dataset, row.split, sample_of(row.sample_id, sequences, is_step=row.shown is not None)
        ),
        fingerprint(row.image),
        fingerprint(row.query),
        fingerprint(row.image, row.query),
        fingerprint(row.mask["size"], row.mask["counts"]),
        len(row.clicks),
        row.given,
        row.ious[row.given - 1] if row.given else 0.0,
        row.ious[-1] if row.ious else 0.0,
        max(row.ious, default=0.0),
        int(np.count_nonzero(crop)),
        box,
        float(depth.max(initial=0)),
    )
    clicks = [
        (index, k, iou, c.positive, (c.x + 0.5) / row.width, (c.y + 0.5) / row.height, distance)
        for k, (c, iou, distance) in enumerate(zip(row.clicks, row.ious, distances, strict=True))
    ]
    return numbers, clicks


def _checked_target(row: Row) -> np.ndarray:
    """The target, bool [H, W]; raises GeoClickError when the row contradicts itself."""
    try:
        target = masks.decode_rle(row.mask)
    except GeoClickError as error:
        raise _broken(row, "has a broken mask") from error
    if target.shape != (row.height, row.width):
        raise _broken(row, f"is {row.width}x{row.height} but its mask {target.shape[1]}x{target.shape[0]}")
    if len(row.clicks) != len(row.ious):
        raise _broken(row, f"has {len(row.clicks)} clicks but {len(row.ious)} IoUs")
    # Written so that NaN is an error too.
    if not all(0 <= iou <= 1 for iou in row.ious):
        raise _broken(row, "has an IoU outside 0 to 1")
    if not all(-0.5 <= x <= row.width - 0.5 and -0.5 <= y <= row.height - 0.5 for x, y, _ in row.clicks):
        raise _broken(row, "has a click outside the image")
    if row.clicks and not target.any():
        raise _broken(row, "has clicks but an empty mask")
    return target


def _broken(row: Row, what: str) -> GeoClickError:
    return GeoClickError(f"Sample {row.sample_id!r} of the store {what}; make the store again.")


def nearest_pixel(click: Click, size: tuple[int, int]) -> tuple[int, int]:
    """The (row, column) of the pixel of an image of `size` (height, width) in which a click lies."""
    row, column = (
        min(max(math.floor(value + 0.5), 0), side - 1)
        for value, side in zip((click.y, click.x), size, strict=True)
    )
    return row, column


def border_distances(
    depth: np.ndarray, box: tuple[int, int, int, int], pixels: Sequence[tuple[int, int]]
) -> list[float]:
    """Signed distances of pixels from the border of a target: positive inside, negative outside.

    Inside it is the distance to the nearest pixel that is not target or is beyond the image, outside that to the
    nearest target pixel. Both are between the pixels' centers, so that no value is between -1 and 1.

    Args:
        depth: the distance transform of the target within its bounding box, float [h, w].
        box: that (top, left, bottom, right), ends excluded.
        pixels: (row, column) in the image.
    """
    top, left, bottom, right = box
    distances, edge = [], None
    for row, column in pixels:
        within = top <= row < bottom and left <= column < right
        if within and depth[row - top, column - left] > 0:
            distances.append(float(depth[row - top, column - left]))
            continue
        if edge is None:
            # The target pixel nearest to one outside has a neighbor that is not target, so its depth is 1.
            edge = np.argwhere(depth == 1) + np.array((top, left))
        distances.append(-math.sqrt(((edge - (row, column)) ** 2).sum(axis=1).min()))
    return distances
