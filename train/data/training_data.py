"""The data of a supervised run: its rows, and how they are augmented, packed and shown to the model."""

import os
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from geoclick.train.augmentation.augment import Augmentation
from geoclick.train.augmentation.augmented_dataset import AugmentedDataset
from geoclick.train.data import cached_features, vision_pass
from geoclick.train.data import sources as sources_module
from geoclick.train.data.cached_features import CachedFeatures
from geoclick.train.data.lazy_rows import LazyRows
from geoclick.train.data.length_groups import LengthGroups
from geoclick.train.data.mixture import MixedDataset, Mixture
from geoclick.train.data.sources import SourceRows
from geoclick.train.loop import checks
from geoclick.train.options.mixture import sources_of
from geoclick.train.options.sft import SftOptions
from geoclick.train.options.trl_arguments import autocast, partitioned
from geoclick.train.packing import packed_dataset, packed_forward
from geoclick.train.packing.packed_dataset import PackedDataset
from geoclick.vlms.loading import Vlm

if TYPE_CHECKING:
    from trl import SFTConfig


@dataclass(frozen=True)
class TrainingData:
    """What a run trains on.

    Attributes:
        rows: of `geoclick.train.data.rows.build`.
        left_out: number of rows left out, by reason.
        augmentation: of the rows, or None.
        features: cached vision features by image path, or None.
        packed: the rows in packs, or None.
        grouped: the rows in an order by length, or None.
        sources: what is counted of each source; the click stores come first.
        mixture: the rows of an epoch, or None if it has all.
    """

    rows: LazyRows
    left_out: dict[str, int]
    augmentation: Augmentation | None
    features: CachedFeatures | None
    packed: PackedDataset | None
    grouped: LengthGroups | None = None
    sources: Sequence[SourceRows] = ()
    mixture: Mixture | None = None

    @property
    def train_on(self) -> PackedDataset | AugmentedDataset | LengthGroups | MixedDataset | None:
        """The dataset that defines the order of the rows, or None."""
        if self.packed is None and self.augmentation is not None:
            return AugmentedDataset(self.rows, self.augmentation, self.mixture)
        if self.mixture is not None:
            return self.packed or self.grouped or MixedDataset(self.rows, self.mixture)
        return self.packed or self.grouped

    @property
    def click_rows(self) -> LazyRows:
        """The rows of the click stores."""
        return self.rows.select(range(sum(len(s.rows) for s in self.sources if not s.source.is_chats)))


def prepare(options: SftOptions, vlm: Vlm, arguments: "SFTConfig", held_out: Container[str]) -> TrainingData:
    """Read the click stores and chats, and prepare their rows, and the model for them.

    Args:
        options: of the run.
        vlm: the base model.
        arguments: TRL's config of the run.
        held_out: absolute paths of images that the run does not train on.

    Raises:
        GeoClickError: no row is left or fits a pack, or an image is missing; for a dry run, also a broken image.
    """
    rows, parts = sources_module.build(options, sources_of(options, options.answer_format), vlm, held_out)
    sizes = rows.image_sizes()
    if options.dry_run:
        checks.check_images(sizes)
    seed = arguments.seed if arguments.data_seed is None else arguments.data_seed
    mixture = sources_module.mixture_of(options, parts, seed)
    augmentation = make_augmentation(options, vlm, seed) if options.augments else None
    features = make_features(options, vlm, sizes, arguments, differ=rows.draws_masks)
    packed = grouped = None
    step = arguments.world_size * arguments.gradient_accumulation_steps
    if arguments.train_sampling_strategy == "group_by_length":
        lengths = rows.token_lengths(vlm.processor)
        per_step = step * arguments.per_device_train_batch_size
        grouped = LengthGroups(rows, lengths, seed=seed, per_step=per_step, mixture=mixture)
    if options.packing_tokens:
        packed_forward.prepare(vlm.model)
        packed = packed_dataset.build(
            rows,
            vlm.processor,
            budget=options.packing_tokens,
            seed=seed,
            per_step=step,
            augmentation=augmentation,
            mixture=mixture,
        )
        parts = sources_module.without_long(parts, packed.plan.lengths, options.packing_tokens)
        mixture = packed.mixture
    if arguments.dataloader_num_workers:
        # A worker is a fork, in which the threads of a tokenizer that has been used would not go on; it would warn.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if rows.has_texts and features is None:
        vision_pass.prepare(vlm.model, vlm.processor)
    left_out = sources_module.left_out(parts)
    return TrainingData(rows, left_out, augmentation, features, packed, grouped, parts, mixture)


def make_augmentation(options: SftOptions, vlm: Vlm, seed: int) -> Augmentation:
    """How rows are augmented in every epoch."""
    return Augmentation(
        processor=vlm.processor,
        family=vlm.family,
        answer_format=options.answer_format,
        kinds=options.augment,
        other_format_share=options.other_format_share,
        seed=seed,
    )


def make_features(
    options: SftOptions, vlm: Vlm, sizes: dict[str, tuple[int, int]], arguments: "SFTConfig", *, differ: bool
) -> CachedFeatures | None:
    """Features of the frozen vision tower by image, if they are constant and within the limit; else None.

    The model is moved to the run's device, unless it is partitioned over devices.

    Args:
        options: of the run.
        vlm: the base model.
        sizes: the (height, width) of each image.
        arguments: TRL's config of the run.
        differ: whether masks are drawn on images, which then have other features in every row.
    """
    if partitioned(arguments):
        return None
    vlm.model.to(arguments.device)
    cached = options.constant_features and not options.estimates
    if cached and differ and arguments.process_index == 0:
        print("masks are drawn on images, so that features of the vision tower are not cached")
    return cached_features.compute(
        vlm,
        sizes,
        device=arguments.device,
        autocast=autocast(arguments),
        limit=options.feature_memory_gb * 2**30 if cached and not differ else 0,
    )
