"""The samples of a GRPO run in each of its epochs: their order and, with augmentation, their views and queries.

A sample in an epoch has a number, its key: epoch * samples + index. Order and views follow from seed and epoch alone,
so that a run that is resumed in a later epoch continues in its data.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch
from torch.utils.data import Dataset

from geoclick import masks
from geoclick.datasets import Sample
from geoclick.pages.click_drawing import panel
from geoclick.train.augmentation import sheet
from geoclick.train.augmentation.image_views import FULL_IMAGE, ImageView
from geoclick.train.augmentation.question_views import Question, draw_view
from geoclick.train.augmentation.sheet import CELL, EPOCHS, Cell

CACHED = 4096
"""Augmented samples that are cached; their images are not."""


@dataclass(frozen=True, kw_only=True)
class ViewedSample(Sample):
    """A sample whose image is a view of another sample's image.

    Attributes:
        original: the sample as it is in the dataset.
        view: of its image.
    """

    original: Sample
    view: ImageView

    def read_image(self) -> np.ndarray:
        """The view, uint8 [H, W, 3] RGB; errors as in `Sample`."""
        return self.view.pixels(self.original.read_image())


def picture_of(sample: Sample) -> str:
    """The name of what a sample shows: the path of its image and, if it is not complete, the view."""
    path = str(sample.root / sample.image)
    return f"{path} {sample.view}" if isinstance(sample, ViewedSample) else path


class EpochSamples(Sequence[Sample]):
    """The samples of a run by key.

    Args:
        samples: as they are in the dataset.
        kinds: of the augmentation, of VIEW_KINDS.
        seed: of the run.
    """

    def __init__(self, samples: Sequence[Sample], kinds: Sequence[str] = (), seed: int = 0) -> None:
        self.samples, self.kinds, self.seed = samples, kinds, seed
        self._augmented = lru_cache(CACHED)(self._draw)

    def __len__(self) -> int:
        """The number of samples of an epoch."""
        return len(self.samples)

    def __iter__(self) -> Iterator[Sample]:
        """The samples as they are in the dataset."""
        return iter(self.samples)

    def __getitem__(self, key: int) -> Sample:  # type: ignore[override]
        """A sample in an epoch."""
        return self._augmented(key) if self.kinds else self.samples[key % len(self.samples)]

    def _draw(self, key: int) -> Sample:
        epoch, index = divmod(key, len(self.samples))
        sample = self.samples[index]
        question = Question(sample.sample_id, sample.image, sample.query, sample.task, sample.rle)
        view, query = draw_view(question, self.kinds, self.seed, epoch)
        return sample if view == FULL_IMAGE else viewed(sample, view, query)

    def write_sheet(self, path: Path) -> None:
        """Write the picture of some samples as they are in the dataset and in the first epochs."""
        sheet.draw(path, [self._cells(index) for index in sheet.chosen(len(self))])

    def _cells(self, index: int) -> list[Cell]:
        shown = [self.samples[index], *(self[epoch * len(self) + index] for epoch in range(EPOCHS))]
        captions = ["dataset", *(f"epoch {epoch + 1}" for epoch in range(EPOCHS))]
        return [
            Cell(panel(sample.read_image(), sample.mask, longest=CELL), sample.query, caption)
            for sample, caption in zip(shown, captions, strict=True)
        ]


def viewed(sample: Sample, view: ImageView, query: str) -> ViewedSample:
    """A sample with a view of its image."""
    values = {field.name: getattr(sample, field.name) for field in dataclasses.fields(Sample)}
    valid = sample.valid
    values |= {
        "query": query,
        "size": view.size(sample.size),
        "rle": masks.encode_rle(view.mask(sample.mask)),
        "valid_rle": None if valid is None else masks.encode_rle(view.mask(valid)),
        "instances": (),
    }
    return ViewedSample(**values, original=sample, view=view)


class GrpoRow(TypedDict):
    """A row as TRL takes it.

    Attributes:
        prompt: empty; the trainer fills it in.
        sample: the key of a sample.
    """

    prompt: str
    sample: int


class GroupedKeys(Dataset[GrpoRow]):
    """The keys of an epoch in groups of equal ones, in the order of TRL's RepeatSampler.

    That sampler continues one random generator from epoch to epoch, so that a run that is resumed in its second epoch
    would repeat the order of the first.

    Args:
        count: samples of an epoch.
        completions: of a sample.
        batch: samples whose completions are generated together; an incomplete batch at the end is left out.
        repeats: how often each batch comes.
        shuffle: whether the order is random.
        seed: of the run.

    Attributes:
        given: indices of samples, in the order of every epoch; None for all samples.
    """

    given: Sequence[int] | None = None

    def __init__(
        self, count: int, *, completions: int, batch: int, repeats: int, shuffle: bool, seed: int
    ) -> None:
        self.count, self.completions, self.batch, self.repeats = count, completions, batch, repeats
        self.shuffle, self.seed = shuffle, seed
        self.epoch = 0

    def __len__(self) -> int:
        """Rows of an epoch."""
        count = self.count if self.given is None else len(self.given)
        return count // self.batch * self.batch * self.completions * self.repeats

    def __getitem__(self, key: int) -> GrpoRow:
        """The row of a key."""
        return {"prompt": "", "sample": key}

    def set_epoch(self, epoch: int) -> None:
        """Called by accelerate before each epoch, also in a resumed run."""
        self.epoch = epoch

    def order(self) -> list[int]:
        """The indices of the epoch's samples."""
        if self.given is not None:
            return list(self.given)
        indices = list(range(self.count))
        if self.shuffle:
            generator = torch.Generator().manual_seed(self.seed)
            for _ in range(self.epoch + 1):
                indices = torch.randperm(self.count, generator=generator).tolist()
        return indices

    def keys(self) -> list[int]:
        """The keys of the epoch's rows."""
        order = self.order()
        complete = len(order) // self.batch * self.batch
        keys = [self.epoch * self.count + index for index in order[:complete]]
        return [
            key
            for start in range(0, len(keys), self.batch)
            for _ in range(self.repeats)
            for key in keys[start : start + self.batch]
            for _ in range(self.completions)
        ]
