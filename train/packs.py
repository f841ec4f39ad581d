"""Packs as a data set: token lengths measured once, and a sampler that begins every epoch with its own packs."""

from collections.abc import Iterator, Sequence
from typing import Any

from datasets import Dataset as Rows
from torch.utils.data import Dataset, Sampler

from geoclick.vlms import resized_size
from train.packing import Packing


def pictures(row: dict[str, Any]) -> list[tuple[str, tuple[int, int]]]:
    """Path and (height, width) of each image of a row; `size` is one pair, or a list of pairs for several images."""
    sizes = row["size"] if len(row["images"]) > 1 else [row["size"]]
    return [(path, tuple(size)) for path, size in zip(row["images"], sizes, strict=True)]


def lengths(rows: Sequence[dict[str, Any]], processor: Any) -> list[int]:
    """Tokens of each row, visual ones included, without opening an image.

    Args:
        rows: as `train.rows.build` makes them.
        processor: the VLM's.
    """
    images = processor.image_processor
    side = images.patch_size * images.merge_size
    known: dict[tuple[int, int], int] = {}

    def visual(size: tuple[int, int]) -> int:
        if size not in known:
            height, width = resized_size(processor, size)
            known[size] = (height // side) * (width // side)
        return known[size]

    found = []
    for row in rows:
        text = processor.tokenizer([row["prompt"], row["completion"]], add_special_tokens=False)["input_ids"]
        sizes = [size for _, size in pictures(row)]
        # Each image has one placeholder in the text.
        found.append(sum(map(len, text)) + sum(map(visual, sizes)) - len(sizes))
    return found


def build(
    rows: Rows, processor: Any, *, budget: int, seed: int, per_step: int, share_images: bool
) -> "Packs":
    """The rows in packs.

    Args:
        rows: of `train.rows.build`.
        processor: the VLM's.
        budget: tokens of a pack at most.
        seed: of the run.
        per_step: packs of a step, over all processes and accumulated ones.
        share_images: keep the queries of an image together, so that one pass of the vision tower serves them.
            Where features are in memory there is nothing to share, and chance mixes better without.

    Raises:
        GeoClickError: no row fits the budget.
    """
    groups = [tuple(paths) for paths in rows["images"]] if share_images else range(len(rows))
    return Packs(rows, Packing(lengths(rows, processor), groups, budget, seed, per_step))


class Packs(Dataset):
    """The rows of a data set, taken pack by pack.

    Args:
        rows: as `train.rows.build` makes them.
        packing: over those rows.
    """

    def __init__(self, rows: Rows, packing: Packing) -> None:
        self.rows = rows
        self.packing = packing
        self.epoch = 0

    def __len__(self) -> int:
        """Packs of an epoch."""
        return self.packing.count

    def __getitem__(self, pack: Sequence[int]) -> list[dict[str, Any]]:
        """The rows of a pack, which the sampler names by their indices."""
        return [self.rows[index] for index in pack]

    def set_epoch(self, epoch: int) -> None:
        """Called by accelerate before each epoch, a resumed one too."""
        self.epoch = epoch


class PackSampler(Sampler):
    """The packs of the data set's epoch, in order.

    It has no `set_epoch` of its own: accelerate would call that one instead of the data set's, and behind a
    resumed, sharded loader neither.
    """

    def __init__(self, packs: Packs) -> None:
        self.packs = packs

    def __len__(self) -> int:
        """Packs of an epoch."""
        return len(self.packs)

    def __iter__(self) -> Iterator[list[int]]:
        """Sample indices of one pack after another."""
        return iter(self.packs.packing.packs(self.packs.epoch))
