"""xBD: the images from before a disaster, not cut; labels are 1 for buildings and 0 elsewhere.

Labels are read from `targets` (values of 1 or more are buildings) or, if an image has none there, from the polygons of
`labels`. Corners are rounded to pixels; outlines belong to the building, holes do not.
"""

import json
import re
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from geoclick.errors import GeoClickError
from geoclick.geo.tiles import Window
from geoclick.prepare import labels
from geoclick.prepare.jobs import Job, Split

FAR = 1 << 16
"""Coordinates of this size or larger are refused."""

_POLYGON = re.compile(r"\(\s*(\([^()]*\)(?:\s*,\s*\([^()]*\))*)\s*\)")
_RING = re.compile(r"\(([^()]*)\)")

Ring = list[tuple[int, int]]


def rings_of(wkt: str) -> list[list[Ring]]:
    """The polygons of a WKT text of type POLYGON or MULTIPOLYGON, each as its outline followed by its holes.

    Corners are (x, y), rounded to integers; a third coordinate is ignored. Raises ValueError for other texts.
    """
    kind, _, rest = wkt.strip().partition("(")
    if kind.strip().upper().removesuffix(" Z") not in ("POLYGON", "MULTIPOLYGON"):
        if kind.strip().upper().endswith("EMPTY"):
            return []
        raise ValueError(f"{kind.strip()[:40]!r} is no POLYGON")
    polygons = [[_ring(ring) for ring in _RING.findall(polygon)] for polygon in _POLYGON.findall(f"({rest}")]
    if not polygons:
        raise ValueError(f"{wkt[:40]!r} has no corners")
    return polygons


def _ring(text: str) -> Ring:
    corners = [tuple(float(number) for number in corner.split()[:2]) for corner in text.split(",")]
    if len(corners) < 3 or not all(len(c) == 2 and max(map(abs, c)) < FAR for c in corners):
        raise ValueError(f"{text[:40]!r} is no outline")
    return [(round(x), round(y)) for x, y in corners]


def draw(polygons: list[list[Ring]], size: tuple[int, int]) -> np.ndarray:
    """The union of polygons, each with an outline and holes, uint8 [H, W] of 0 and 1."""
    mask = np.zeros(size, bool)
    union = Image.new("1", (size[1], size[0]))
    for outline, *holes in polygons:
        # A hole belongs to its own building only: another building inside it remains.
        canvas = Image.new("1", union.size) if holes else union
        ImageDraw.Draw(canvas).polygon(outline, fill=1)
        for hole in holes:
            ImageDraw.Draw(canvas).polygon(hole, fill=0)
        if holes:
            mask |= np.asarray(canvas)
    return (mask | np.asarray(union)).astype(np.uint8)


def _read_label(path: Path, size: tuple[int, int]) -> tuple[np.ndarray, int]:
    if path.suffix.lower() != ".json":
        return (labels.read_values(path) >= 1).astype(np.uint8), 0
    try:
        buildings = json.loads(path.read_text(encoding="utf-8"))["features"]["xy"]
        polygons = [polygon for building in buildings for polygon in rings_of(building["wkt"])]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise GeoClickError(f"{path} is no label of xBD ({error}); put the published file there.") from error
    return draw(polygons, size), 0


def _output(split: str, name: str, _window: Window) -> tuple[str, str]:
    return (
        f"{split}/images_pre/{name}_pre_disaster.png",
        f"{split}/targets_cvt_pre/{name}_pre_disaster.png",
    )


XBD = Job(
    title="xBD",
    splits={
        "test": Split(933, 933),
        "train": Split(2799, 2799),
        "hold": Split(933, 933),
        "tier3": Split(6369, 6369),
    },
    image="{split}/images/{image}_pre_disaster.png",
    labels=(
        "{split}/targets/{image}_pre_disaster_target.png",
        "{split}/labels/{image}_pre_disaster.json",
    ),
    parts={"image": r"[\w-]+"},
    read_label=_read_label,
    output=_output,
)
