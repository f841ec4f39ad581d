"""The segmenter's image embeddings, cached from step to step within a memory limit."""

from collections import OrderedDict
from collections.abc import Sequence

from geoclick.datasets import Sample
from geoclick.segmenters import Segmenter
from geoclick.segmenters.base import Embedding
from geoclick.train.reinforcement.epoch_samples import picture_of


class EmbeddingCache:
    """Embeds the images of samples and drops the least recently used embeddings.

    Args:
        segmenter: embeds the images; the embeddings stay on its device.
        limit: bytes to cache between calls; a single call may need more.
    """

    def __init__(self, segmenter: Segmenter, limit: float) -> None:
        self._segmenter, self._limit = segmenter, limit
        self._cached: OrderedDict[str, Embedding] = OrderedDict()
        self.computed = 0

    def of(self, samples: Sequence[Sample]) -> list[Embedding]:
        """One embedding per sample; raises GeoClickError when an image cannot be read."""
        needed = {picture_of(sample): sample for sample in samples}
        missing = [picture for picture in needed if picture not in self._cached]
        new = self._segmenter.embed([needed[picture].read_image() for picture in missing]) if missing else []
        self.computed += len(missing)
        self._cached.update(zip(missing, new, strict=True))
        for picture in needed:
            self._cached.move_to_end(picture)
        embeddings = [self._cached[picture_of(sample)] for sample in samples]
        used = sum(embedding.nbytes for embedding in self._cached.values())
        while used > self._limit:
            used -= self._cached.popitem(last=False)[1].nbytes
        return embeddings
