"""Packs as a data set: token lengths measured once, and packs of its own for every epoch."""

from collections.abc import Iterable, Sequence
from typing import Any

from datasets import Dataset as Rows
from torch.utils.data import Dataset

from geoclick.train.augmentation.augment import Augmentation
from geoclick.train.augmentation.augmented_dataset import Augmented, Key
from geoclick.train.augmentation.image_views import pictures
from geoclick.train.packing.plan import Packing
from geoclick.vlms import resized_size


def lengths(rows: Iterable[dict[str, Any]], processor: Any) -> list[int]:
    """Tokens of each row, visual ones included, without opening an image.

    Args:
        rows: as `geoclick.train.data.rows.build` makes them.
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
        sizes = [picture.size for picture in pictures(row)]
        # Each image has one placeholder in the text.
        found.append(sum(map(len, text)) + sum(map(visual, sizes)) - len(sizes))
    return found


def build(
    rows: Rows,
    processor: Any,
    *,
    budget: int,
    seed: int,
    per_step: int,
    share_images: bool,
    augmentation: Augmentation | None = None,
) -> "Packs":
    """The rows in packs.

    Args:
        rows: of `geoclick.train.data.rows.build`.
        processor: the VLM's.
        budget: tokens of a pack at most.
        seed: of the run.
        per_step: packs of a step, over all processes and accumulated ones.
        share_images: keep the queries of an image together, so that one pass of the vision tower serves them.
            Where features are in memory there is nothing to share, and chance mixes better without.
        augmentation: of the rows, which are packed by the most tokens that it may give them.

    Raises:
        GeoClickError: no row fits the budget.
    """
    groups = [tuple(paths) for paths in rows["images"]] if share_images else range(len(rows))
    longest = map(augmentation.longest, rows) if augmentation else rows
    packing = Packing(lengths(longest, processor), groups, budget, seed, per_step)
    return Packs(Augmented(rows, augmentation) if augmentation else rows, packing)


class Packs(Dataset):
    """The rows of a data set, taken pack by pack.

    Args:
        rows: as `geoclick.train.data.rows.build` makes them, augmented or not.
        packing: over those rows.
    """

    def __init__(self, rows: Rows | Augmented, packing: Packing) -> None:
        self.rows = rows
        self.packing = packing
        self.epoch = 0

    def __len__(self) -> int:
        """Packs of an epoch."""
        return self.packing.count

    def __getitem__(self, pack: Sequence[int | Key]) -> list[dict[str, Any]]:
        """The rows of a pack, which the sampler names by their keys."""
        return [self.rows[key] for key in pack]

    def keys(self) -> list[list[int]] | list[list[Key]]:
        """The packs of the epoch, in order; augmented rows are named with the epoch."""
        packs = self.packing.packs(self.epoch)
        if isinstance(self.rows, Augmented):
            return [[(self.epoch, index) for index in pack] for pack in packs]
        return packs

    def set_epoch(self, epoch: int) -> None:
        """Called by accelerate before each epoch, a resumed one too."""
        self.epoch = epoch
