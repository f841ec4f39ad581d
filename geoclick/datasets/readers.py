"""The reader of each dataset."""

from geoclick.datasets import coco, earthreason, folder, phrase_lists, raster, rrsis_d, scenes_v1, semantic
from geoclick.datasets.reading import Reader

READERS: dict[str, Reader] = {
    folder.NAME: folder.read,
    coco.NAME: coco.read,
    raster.NAME: raster.read,
    scenes_v1.NAME: scenes_v1.read,
    rrsis_d.NAME: rrsis_d.read,
    earthreason.NAME: earthreason.read,
    **phrase_lists.READERS,
    **semantic.READERS,
}
