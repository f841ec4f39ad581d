"""The options by which a command names a dataset and says how it is read."""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from geoclick.config import option
from geoclick.errors import UsageError

if TYPE_CHECKING:
    from geoclick.datasets import ReadOptions


@dataclass(frozen=True, kw_only=True)
class DatasetOptions:
    """What the commands that read a dataset share."""

    dataset: str = option(
        "folder",
        help="layout of the dataset: folder, coco, raster; scenes-v1, which is inside; or a public benchmark: rrsis-d, "
        "earthreason, refsegrs, risbench, openearthmap, loveda, isaid, potsdam, vaihingen, uavid, udd5, vdd, "
        "whu-aerial, whu-sat2, inria, xbd, chn6-cug, deepglobe, massachusetts, spacenet, wbs-si",
    )
    root: str | None = option(None, help="the dataset's folder; scenes-v1 draws itself in runs when none")
    query: str = option("the object", help="what to ask of masks that have no classes")
    min_area: int = option(
        256,
        help="pixels that a component of a colour mask, or a piece cut by a tile's border, has at least",
        minimum=0,
    )
    max_area_fraction: float = option(
        0.5, help="share of the image that a component of a colour mask covers at most"
    )
    tile: int = option(1024, help="side in pixels of the tiles that a GeoTIFF is cut to", minimum=1)
    overlap: int = option(128, help="pixels that neighbouring tiles share at least", minimum=0)
    bands: tuple[int, ...] = option(
        (), help="bands of a GeoTIFF shown as red, green and blue, from 1", minimum=1
    )
    stretch: tuple[float, ...] = option(
        (2.0, 98.0), help="percentiles of a GeoTIFF's values that become black and white", minimum=0
    )
    question: str | None = option(
        None,
        choices=("all", "first", "random"),
        help="which of several questions about one target are asked; all when none, or what --mode prescribes",
    )
    question_seed: int = option(0, help="of --question random", minimum=0)

    def reading(self) -> "ReadOptions":
        """The reader's part of the options; raises UsageError for values that no reader can use."""
        from geoclick.datasets import ReadOptions

        if not 0 < self.max_area_fraction <= 1:
            raise UsageError(
                f"--max-area-fraction must be above 0 and at most 1, not {self.max_area_fraction}."
            )
        if len(self.bands) not in (0, 1, 3):
            raise UsageError(f"--bands takes one band or three, not {len(self.bands)}.")
        if len(self.stretch) != 2 or not self.stretch[0] < self.stretch[1] <= 100:
            raise UsageError("--stretch takes two percentiles, the lower first, such as 2 98.")
        values = {field.name: getattr(self, field.name) for field in fields(ReadOptions)}
        return ReadOptions(**{name: value for name, value in values.items() if value is not None})
