"""The galleries of a quality report: which samples are shown, and their pictures."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geoclick import masks
from geoclick.data_synthesis.quality.flags import DUPLICATE, SLIVER, Duplicates
from geoclick.data_synthesis.quality.measures import GROUPS, Measures
from geoclick.geo.reading import DEFAULT, PixelOptions, read_recorded
from geoclick.pages.click_drawing import window_around, window_panel
from geoclick.pages.figures import Figure, Picture, data_uri
from geoclick.store import Row

GalleryKey = tuple[str, str]
"""The kind of a gallery, `all`, a group or a reason, and the group's name."""

ALL: GalleryKey = ("all", "")
MAX_GROUPS = 24
"""Datasets, tasks or categories with a section on the page, the largest; quality.json has all."""
PICTURE_SIZE = 232
"""Side of a picture in pixels."""


@dataclass(frozen=True)
class GallerySizes:
    """How many samples are shown.

    Attributes:
        worst: of the complete store, and examples of each flag.
        worst_per_group: of each dataset, task and category.
        seed: of the random choice of examples.
    """

    worst: int
    worst_per_group: int
    seed: int


def largest_groups(measures: Measures, group: str) -> list[str]:
    """The names of a group that have a section, the most frequent first; empty if there is only one."""
    codes, counts = np.unique(measures.rows[group], return_counts=True)
    named = [(-n, measures.names[group][code]) for code, n in zip(codes, counts.tolist(), strict=True)]
    names = [name for _, name in sorted(named) if name]
    return names[:MAX_GROUPS] if len(names) > 1 else []


def select(
    measures: Measures, flags: Mapping[str, np.ndarray], sizes: GallerySizes
) -> dict[GalleryKey, list[int]]:
    """The rows of each gallery: those with the lowest final IoU, and examples of flags.

    Args:
        measures: the store in numbers.
        flags: bool [N] by reason.
        sizes: of the galleries.

    Returns:
        Indices of rows; of equal IoUs the first in the store comes first.
    """
    with_target = np.flatnonzero(measures.targets)
    worst = with_target[np.argsort(measures.rows["final_iou"][with_target], kind="stable")]
    galleries = {ALL: worst[: sizes.worst].tolist()}
    for group in GROUPS:
        codes = measures.rows[group][worst]
        for name in largest_groups(measures, group):
            own = worst[codes == measures.names[group].index(name)]
            galleries[group, name] = own[: sizes.worst_per_group].tolist()
    for reason in (DUPLICATE, SLIVER):
        flagged = np.flatnonzero(flags[reason]).tolist()
        count = min(sizes.worst, len(flagged))
        galleries[reason, ""] = sorted(random.Random(sizes.seed).sample(flagged, count))
    return galleries


def required_rows(galleries: Mapping[GalleryKey, Sequence[int]], duplicates: Duplicates) -> set[int]:
    """The indices of all rows that the galleries show, with the rows that duplicates repeat."""
    shown = {index for indices in galleries.values() for index in indices}
    return shown | {int(duplicates.of[index]) for index in galleries[DUPLICATE, ""]}


def draw_galleries(
    galleries: Mapping[GalleryKey, Sequence[int]],
    rows: Mapping[int, Row],
    root: Path,
    duplicates: Duplicates,
    advance: Callable[[], None],
    pixels: PixelOptions = DEFAULT,
) -> dict[GalleryKey, list[Figure]]:
    """The figures of each gallery.

    Args:
        galleries: the indices of their rows.
        rows: those of `required_rows`, by index.
        root: the dataset's folder.
        duplicates: of the store.
        advance: called once for each sample of each gallery.
        pixels: how the images are shown.

    Raises:
        GeoClickError: an image is missing, broken or of another size.
    """
    figures: dict[tuple[int, bool], Figure] = {}
    drawn: dict[GalleryKey, list[Figure]] = {}
    for gallery, indices in galleries.items():
        repeats = gallery == (DUPLICATE, "")
        for index in indices:
            # The worst of the store are also the worst of their groups.
            if (index, repeats) not in figures:
                row = rows[index]
                if repeats:
                    earlier = rows[int(duplicates.of[index])]
                    figure = duplicate_figure(row, earlier, root, float(duplicates.iou[index]), pixels)
                else:
                    figure = sample_figure(row, root, pixels)
                figures[index, repeats] = figure
            advance()
        drawn[gallery] = [figures[index, repeats] for index in indices]
    return drawn


def sample_figure(row: Row, root: Path, pixels: PixelOptions = DEFAULT) -> Figure:
    """A sample: its target, and the target with the clicks."""
    given, taught = (
        " → ".join(f"{iou:.2f}" for iou in ious) for ious in (row.ious[: row.given], row.ious[row.given :])
    )
    note = f"IoU {taught or 'no clicks'}"
    if row.given:
        note = f"IoU {given} by the model's own clicks, then {taught or 'the end'}"
    return _figure(row, root, pixels, note, None)


def duplicate_figure(
    row: Row, earlier: Row, root: Path, iou: float, pixels: PixelOptions = DEFAULT
) -> Figure:
    """A sample that repeats an earlier one: its target, and the target with the earlier mask."""
    query = "the same query" if earlier.query == row.query else "another query"
    note = f"IoU {iou:.3f} with {earlier.sample_id}, {query}"
    return _figure(row, root, pixels, note, masks.decode_rle(earlier.mask))


def _figure(row: Row, root: Path, pixels: PixelOptions, note: str, earlier: np.ndarray | None) -> Figure:
    """A sample with a note; shows the earlier mask, bool [H, W], or the clicks where there is none."""
    image = read_recorded(root, row.image, (row.height, row.width), pixels)
    target = masks.decode_rle(row.mask)
    window = window_around(target, row.clicks)
    clicks = row.clicks if earlier is None else ()
    panels = [
        window_panel(image, target, None, (), window, side=PICTURE_SIZE),
        window_panel(image, target, earlier, clicks, window, side=PICTURE_SIZE),
    ]
    ids = " · ".join(part for part in (row.sample_id, row.dataset, row.task, row.category) if part)
    return Figure([Picture(data_uri(panel)) for panel in panels], row.query, notes=[note, ids])
