"""The samples that a GRPO run is evaluated on: those of images that it does not train on."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from geoclick.datasets import Sample
from geoclick.errors import GeoClickError
from geoclick.train.data.held_out import of_some_images
from geoclick.train.publishing.provenance import supervised_options

if TYPE_CHECKING:
    from geoclick.train.options.grpo import GrpoOptions
    from geoclick.vlms.adapter import AdapterRecord


def divide(samples: Sequence[Sample], count: int) -> tuple[list[Sample], list[Sample]]:
    """At least `count` samples, if there are as many, and the others.

    All samples of an image are on one side. As for supervised runs, the choice depends on the names of the images
    alone: it is the same in every process, after a restart, and for the same images in both trainers.

    Args:
        samples: of a dataset.
        count: number of samples.

    Raises:
        GeoClickError: a chosen image is missing.
    """
    chosen = of_some_images(samples, count)
    for path in dict.fromkeys(sample.root / sample.image for sample in chosen):
        if not path.is_file():
            raise GeoClickError(f"{path} does not exist; give the dataset with its images.")
    images = {sample.image for sample in chosen}
    return chosen, [sample for sample in samples if sample.image not in images]


def report(held_out: Sequence[Sample], options: "GrpoOptions", record: "AdapterRecord") -> None:
    """Print what the run is evaluated on, and whether the adapter's own training may have seen it."""
    images = len({sample.image for sample in held_out})
    where = options.evaluate_split or options.split
    print(f"Evaluated on {len(held_out):,} samples of {images:,} images of the split {where}.", flush=True)
    if was_trained_on(options, record):
        print(
            "note: the adapter's supervised training held out other images of this dataset or none, so that it may "
            "have seen these; --evaluate-split evaluates on another split.",
            flush=True,
        )


def was_trained_on(options: "GrpoOptions", record: "AdapterRecord") -> bool:
    """Whether the supervised run that the adapter comes from read the same folder and held out other images."""
    before = supervised_options(record.config)
    roots = before.get("root")
    folders = {Path(root).resolve() for root in (roots if isinstance(roots, list) else [roots]) if root}
    same = bool(before.get("evaluate_every")) and before.get("evaluate_samples") == options.evaluate_samples
    is_same_folder = options.root is not None and Path(options.root).resolve() in folders
    return is_same_folder and not options.evaluate_split and (not same or bool(before.get("evaluate_clicks")))
