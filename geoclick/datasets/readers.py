"""The reader of each dataset."""

from geoclick.datasets import (
    coco,
    earthreason,
    folder,
    phrase_lists,
    raster,
    rrsis_d,
    scene_benchmarks,
    semantic,
)
from geoclick.datasets.reading import Reader

READERS: dict[str, Reader] = {
    folder.NAME: folder.read,
    coco.NAME: coco.read,
    raster.NAME: raster.read,
    **scene_benchmarks.READERS,
    rrsis_d.NAME: rrsis_d.read,
    earthreason.NAME: earthreason.read,
    **phrase_lists.READERS,
    **semantic.READERS,
}
