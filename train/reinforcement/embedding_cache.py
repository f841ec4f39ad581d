"""The segmenter's encoded images, kept from step to step as far as memory goes."""

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

from geoclick.datasets import Sample
from geoclick.segmenters import Segmenter
from geoclick.segmenters.base import Embedding


class Embeddings:
    """Embeds the images of samples, and forgets those that were not asked for longest.

    Args:
        segmenter: encodes them; the embeddings stay on its device.
        limit: bytes to keep between calls; one call holds what it needs.
    """

    def __init__(self, segmenter: Segmenter, limit: float) -> None:
        self._segmenter, self._limit = segmenter, limit
        self._kept: OrderedDict[Path, Embedding] = OrderedDict()
        self.computed = 0

    def of(self, samples: Sequence[Sample]) -> list[Embedding]:
        """One embedding a sample; raises GeoClickError when an image cannot be read."""
        asked = {sample.root / sample.image: sample for sample in samples}
        missing = [path for path in asked if path not in self._kept]
        new = self._segmenter.embed([asked[path].read_image() for path in missing]) if missing else []
        self.computed += len(missing)
        self._kept.update(zip(missing, new, strict=True))
        for path in asked:
            self._kept.move_to_end(path)
        found = [self._kept[sample.root / sample.image] for sample in samples]
        used = sum(embedding.features.nbytes for embedding in self._kept.values())
        while used > self._limit:
            used -= self._kept.popitem(last=False)[1].features.nbytes
        return found
