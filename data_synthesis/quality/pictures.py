"""The pictures of a quality report: which samples are shown, and how."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np

from geoclick import images, masks
from geoclick.data_synthesis.quality.flags import DUPLICATE, SLIVER, Duplicates
from geoclick.data_synthesis.quality.measures import GROUPS, Measures
from geoclick.data_synthesis.sheet import draw_cell, window_of
from geoclick.datasets.reading import inside
from geoclick.pages.charts import data_uri
from geoclick.store import Row

ALL = ("all", "")
SHOWN_GROUPS = 24
"""Datasets, tasks or categories that the page shows in full, the largest; quality.json has all."""

Gallery = tuple[str, str]
"""What a gallery is of, `all`, a group or a reason, and the name of the group."""


@dataclass(frozen=True)
class Choice:
    """Which samples are drawn.

    Attributes:
        worst: of the whole store.
        worst_per_group: of each dataset, task and category.
        seed: picks the examples of duplicates and slivers.
    """

    worst: int
    worst_per_group: int
    seed: int


def largest_groups(measures: Measures, group: str) -> list[str]:
    """The names of a group that the page shows, the most frequent first; none where there is but one."""
    codes, counts = np.unique(measures.rows[group], return_counts=True)
    named = [(-n, measures.names[group][code]) for code, n in zip(codes, counts.tolist(), strict=True)]
    names = [name for _, name in sorted(named) if name]
    return names[:SHOWN_GROUPS] if len(names) > 1 else []


def choose(measures: Measures, flags: Mapping[str, np.ndarray], choice: Choice) -> dict[Gallery, list[int]]:
    """The rows of each gallery: the worst by best IoU, earlier ones first where equal, and examples of flags."""
    places = np.flatnonzero(measures.targets)
    worst = places[np.argsort(measures.rows["best_iou"][places], kind="stable")]
    galleries = {ALL: worst[: choice.worst].tolist()}
    for group in GROUPS:
        of_worst = measures.rows[group][worst]
        for name in largest_groups(measures, group):
            mine = worst[of_worst == measures.names[group].index(name)]
            galleries[group, name] = mine[: choice.worst_per_group].tolist()
    for reason in (DUPLICATE, SLIVER):
        flagged = np.flatnonzero(flags[reason]).tolist()
        count = min(choice.worst, len(flagged))
        galleries[reason, ""] = sorted(random.Random(choice.seed).sample(flagged, count))
    return galleries


def draw_figure(row: Row, root: Path, duplicates: Duplicates, place: int, earlier: Row | None = None) -> str:
    """A sample as an HTML figure: its target alone, and with the clicks in their order on it.

    Args:
        row: the sample.
        root: the dataset's folder.
        duplicates: says with what IoU it repeats another.
        place: of the row in the store.
        earlier: the sample that it repeats, whose mask is then tinted in place of the clicks.

    Raises:
        GeoClickError: the image is missing, broken or of another size.
    """
    picture = images.read_image(inside(root, row.image), size=(row.height, row.width))
    target = masks.decode_rle(row.mask)
    window = window_of(target, row.clicks)
    other = None if earlier is None else masks.decode_rle(earlier.mask)
    cells = [
        draw_cell(picture, target, None, (), window),
        draw_cell(picture, target, other, row.clicks if earlier is None else (), window),
    ]
    pictures = "".join(f'<img src="{data_uri(cell, "JPEG")}" alt="" loading="lazy">' for cell in cells)
    ious = " &rarr; ".join(f"{iou:.2f}" for iou in row.ious) or "no clicks"
    told = f"IoU {ious}"
    if earlier is not None:
        same = "the same query" if earlier.query == row.query else "another query"
        told = f"IoU {duplicates.iou[place]:.3f} with {escape(earlier.sample_id)}, {same}"
    ids = " &middot; ".join(
        escape(word) for word in (row.sample_id, row.dataset, row.task, row.category) if word
    )
    return (
        f'<figure><div class="pair">{pictures}</div><figcaption>{escape(row.query)}'
        f"<small>{told}</small><small>{ids}</small></figcaption></figure>"
    )


def wanted_rows(galleries: Mapping[Gallery, Sequence[int]], duplicates: Duplicates) -> set[int]:
    """The places of all rows that the galleries need, with those that duplicates repeat."""
    wanted = {place for places in galleries.values() for place in places}
    return wanted | {int(duplicates.of[place]) for place in galleries[DUPLICATE, ""]}


def draw_galleries(
    galleries: Mapping[Gallery, Sequence[int]],
    rows: Mapping[int, Row],
    root: Path,
    duplicates: Duplicates,
    advance: Callable[[], None],
) -> dict[Gallery, str]:
    """The figures of each gallery; arguments as in `draw_figure`.

    Args:
        galleries: the places of their samples.
        rows: those of `wanted_rows`, by their places.
        root: the dataset's folder.
        duplicates: of the store.
        advance: called once for each sample of each gallery.
    """
    drawn: dict[tuple[int, bool], str] = {}
    found = {}
    for gallery, places in galleries.items():
        repeats = gallery == (DUPLICATE, "")
        for place in places:
            # The worst of a store are also the worst of their groups.
            if (place, repeats) not in drawn:
                earlier = rows[int(duplicates.of[place])] if repeats else None
                drawn[place, repeats] = draw_figure(rows[place], root, duplicates, place, earlier)
            advance()
        found[gallery] = "".join(drawn[place, repeats] for place in places)
    return found
