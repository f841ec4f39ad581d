"""The segmenter's image embeddings, cached from step to step within a memory limit."""

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

from geoclick.datasets import Sample
from geoclick.segmenters import Segmenter
from geoclick.segmenters.base import Embedding


class EmbeddingCache:
    """Embeds the images of samples and drops the least recently used embeddings.

    Args:
        segmenter: embeds the images; the embeddings stay on its device.
        limit: bytes to cache between calls; a single call may need more.
    """

    def __init__(self, segmenter: Segmenter, limit: float) -> None:
        self._segmenter, self._limit = segmenter, limit
        self._cached: OrderedDict[Path, Embedding] = OrderedDict()
        self.computed = 0

    def of(self, samples: Sequence[Sample]) -> list[Embedding]:
        """One embedding per sample; raises GeoClickError when an image cannot be read."""
        needed = {sample.root / sample.image: sample for sample in samples}
        missing = [path for path in needed if path not in self._cached]
        new = self._segmenter.embed([needed[path].read_image() for path in missing]) if missing else []
        self.computed += len(missing)
        self._cached.update(zip(missing, new, strict=True))
        for path in needed:
            self._cached.move_to_end(path)
        embeddings = [self._cached[sample.root / sample.image] for sample in samples]
        used = sum(embedding.nbytes for embedding in self._cached.values())
        while used > self._limit:
            used -= self._cached.popitem(last=False)[1].nbytes
        return embeddings
