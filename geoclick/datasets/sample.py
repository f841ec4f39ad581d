"""Sample: an image, a query and the mask that answers it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from geoclick.geo.reading import PixelOptions
    from geoclick.masks import Rle


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One query about one image, with its target.

    Attributes:
        sample_id: unique within dataset and split.
        task: one of `geoclick.tasks.TASKS`.
        image: path relative to `root`, with forward slashes.
        size: (height, width) of the original image.
        rle: COCO RLE of the target at `size`; all zeros if there is no target.
        valid_rle: COCO RLE of the pixels that are scored; None if all are.
        category: class of the target; empty where the dataset names none.
        pixels: the bands of the image file that are shown, and how they are scaled; None for the defaults.
        instances: COCO RLE of each object of the target, where the dataset lists them; else empty.
    """

    sample_id: str
    dataset: str
    split: str
    task: str
    query: str
    root: Path
    image: str
    size: tuple[int, int]
    rle: "Rle"
    valid_rle: "Rle | None" = None
    category: str = ""
    pixels: "PixelOptions | None" = None
    instances: "tuple[Rle, ...]" = ()

    def read_image(self) -> "np.ndarray":
        """The image, uint8 [H, W, 3] RGB; raises GeoClickError if it cannot be read or has another size."""
        from geoclick.geo import reading

        pixels = self.pixels or reading.DEFAULT
        return reading.read_image(self.root / self.image, size=self.size, pixels=pixels)

    @property
    def mask(self) -> "np.ndarray":
        """The target, bool [H, W]."""
        from geoclick import masks

        return masks.decode_rle(self.rle)

    @property
    def valid(self) -> "np.ndarray | None":
        """The pixels that are scored, bool [H, W]; None if all are."""
        from geoclick import masks

        return None if self.valid_rle is None else masks.decode_rle(self.valid_rle)
