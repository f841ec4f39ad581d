"""Training rows that are rendered when they are read: those of a source, some of them, several sources together.

What a plan needs of all rows, their images with sizes and their numbers of tokens, is known without rendering one.
"""

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Hashable, Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np
from torch.utils.data import Dataset

from geoclick.train.data.shared_work import BLOCK
from geoclick.train.data.training_row import TrainingRow
from geoclick.vlms import encoding
from geoclick.vlms.processor import Processor

if TYPE_CHECKING:
    from geoclick.train.augmentation.augment import Augmentation


class LazyRows(Dataset[TrainingRow], ABC):
    """N rows by index."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of rows."""

    @abstractmethod
    def __getitems__(self, indices: Sequence[int]) -> list[TrainingRow]:
        """Some rows, rendered together; PyTorch's DataLoader calls it for the rows of a batch."""

    @abstractmethod
    def images(self, index: int) -> tuple[list[str], list[int]]:
        """The paths of a row's images; height and width of the first image in pixels, then those of the next one."""

    @abstractmethod
    def text_lengths(self, augmentation: "Augmentation | None" = None) -> np.ndarray:
        """Tokens of the prompt, with one for each image, and of the answer of each row, int32 [N, 2].

        With an augmentation, those of the row with the most tokens that it may make.
        """

    def __getitem__(self, index: int) -> TrainingRow:
        """One row."""
        return self.__getitems__([index])[0]

    def __iter__(self) -> Iterator[TrainingRow]:
        """All rows in order."""
        for start in range(0, len(self), BLOCK):
            yield from self.__getitems__(range(start, min(start + BLOCK, len(self))))

    def select(self, indices: Sequence[int]) -> "SelectedRows":
        """Some of the rows; an index may occur several times."""
        return SelectedRows(self, indices)

    def sizes(self, index: int) -> list[tuple[int, int]]:
        """The (height, width) of each image of a row in pixels."""
        sides = self.images(index)[1]
        return list(zip(sides[::2], sides[1::2], strict=True))

    def image_sizes(self) -> dict[str, tuple[int, int]]:
        """The (height, width) of all images by their paths."""
        found: dict[str, tuple[int, int]] = {}
        for index in range(len(self)):
            found.update(zip(self.images(index)[0], self.sizes(index), strict=True))
        return found

    @property
    def has_texts(self) -> bool:
        """Whether some rows have no image."""
        return not all(self.images(index)[0] for index in range(len(self)))

    @property
    def draws_masks(self) -> bool:
        """Whether masks are drawn on the images of some rows, which then differ from their files."""
        return False

    def groups(self) -> list[Hashable]:
        """A value for each row that only rows on the same images share: the paths, or the index of a row of text."""
        return [tuple(self.images(index)[0]) or index for index in range(len(self))]

    def visual_lengths(self, processor: Processor) -> np.ndarray:
        """Tokens that the images of each row add to those of its text, int64 [N]."""
        tokens: dict[tuple[int, int], int] = {}
        for size in set(self.image_sizes().values()):
            tokens[size] = encoding.visual_tokens(processor, size) - 1
        return np.array([sum(tokens[s] for s in self.sizes(index)) for index in range(len(self))], np.int64)

    def token_lengths(self, processor: Processor, augmentation: "Augmentation | None" = None) -> list[int]:
        """Tokens of each row, visual ones included; see `text_lengths`."""
        lengths = self.text_lengths(augmentation).sum(axis=1) + self.visual_lengths(processor)
        return [int(length) for length in lengths.tolist()]


class SelectedRows(LazyRows):
    """Some rows of others.

    Args:
        rows: the others.
        indices: of the rows in them.
    """

    def __init__(self, rows: LazyRows, indices: Sequence[int]) -> None:
        self.rows, self.indices = rows, indices

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.indices)

    def __getitems__(self, indices: Sequence[int]) -> list[TrainingRow]:
        """Some rows."""
        return self.rows.__getitems__([self.indices[index] for index in indices])

    def images(self, index: int) -> tuple[list[str], list[int]]:
        """The images of a row."""
        return self.rows.images(self.indices[index])

    def text_lengths(self, augmentation: "Augmentation | None" = None) -> np.ndarray:
        """Tokens of prompt and answer of each row."""
        return self.rows.text_lengths(augmentation)[np.asarray(self.indices, np.int64)]


class JoinedRows(LazyRows):
    """The rows of several sources, one source after another; `source` of a row is the number of its source.

    Args:
        parts: the rows of each source.
    """

    def __init__(self, parts: Sequence[LazyRows]) -> None:
        self.parts = parts
        self._starts = [0, *accumulate(map(len, parts))]

    def __len__(self) -> int:
        """Number of rows."""
        return self._starts[-1]

    def _place(self, index: int) -> tuple[int, int]:
        """The source of a row, and the row's index there."""
        source = bisect_right(self._starts, index) - 1
        return source, index - self._starts[source]

    def __getitems__(self, indices: Sequence[int]) -> list[TrainingRow]:
        """Some rows."""
        places = [self._place(index) for index in indices]
        made: dict[int, TrainingRow] = {}
        for source in {source for source, _ in places}:
            where = [n for n, (one, _) in enumerate(places) if one == source]
            rows = self.parts[source].__getitems__([places[n][1] for n in where])
            for n, row in zip(where, rows, strict=True):
                row["source"] = source
                made[n] = row
        return [made[n] for n in range(len(places))]

    def images(self, index: int) -> tuple[list[str], list[int]]:
        """The images of a row."""
        source, place = self._place(index)
        return self.parts[source].images(place)

    def image_sizes(self) -> dict[str, tuple[int, int]]:
        """The (height, width) of all images by their paths."""
        return {path: size for part in self.parts for path, size in part.image_sizes().items()}

    @property
    def has_texts(self) -> bool:
        """Whether some rows have no image."""
        return any(part.has_texts for part in self.parts)

    @property
    def draws_masks(self) -> bool:
        """Whether masks are drawn on the images of some rows."""
        return any(part.draws_masks for part in self.parts)

    def groups(self) -> list[Hashable]:
        """A value for each row that only rows on the same images share."""
        return [
            group if isinstance(group, tuple) else start + index
            for start, part in zip(self._starts, self.parts, strict=False)
            for index, group in enumerate(part.groups())
        ]

    def text_lengths(self, augmentation: "Augmentation | None" = None) -> np.ndarray:
        """Tokens of prompt and answer of each row."""
        return np.concatenate([part.text_lengths(augmentation) for part in self.parts])

    def visual_lengths(self, processor: Processor) -> np.ndarray:
        """Tokens that the images of each row add to those of its text."""
        return np.concatenate([part.visual_lengths(processor) for part in self.parts])
