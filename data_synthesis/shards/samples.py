"""The samples that a click store is made of."""

from collections.abc import Iterable
from pathlib import Path

from geoclick import contradictions, datasets
from geoclick.data_synthesis.shards.job import row_id
from geoclick.data_synthesis.shards.options import SynthOptions
from geoclick.datasets import LeftOut, Sample, scene_benchmarks, selection
from geoclick.errors import UsageError
from geoclick.jobs import processes


def read_samples(options: SynthOptions) -> tuple[list[Sample], list[LeftOut]]:
    """The samples in the reader's order, and what the reader has left out.

    Args:
        options: the options; `root` must be a folder.

    Raises:
        UsageError: two rows of the store would have the same id.
        GeoClickError: the dataset cannot be read.
    """
    root = str(options.root)
    is_generated = options.dataset in scene_benchmarks.BENCHMARKS and options.split == scene_benchmarks.SPLIT
    if is_generated and not processes.is_first():
        # Process 0 generates the scenes when it first reads them.
        generated = Path(root) / scene_benchmarks.SPLIT / "samples.jsonl"
        processes.wait_for_first(generated.exists, f"generated {generated}")
    left_out: list[LeftOut] = []
    stream = datasets.read(
        options.dataset, root, options.split, options=options.reading(), on_left_out=left_out.append
    )
    samples = selection.select(stream, limit=options.limit, first=options.first, seed=options.seed)
    _check_ids(samples, options.sequences)
    return samples, left_out


def _check_ids(samples: list[Sample], sequences: int) -> None:
    ids = {sample.sample_id for sample in samples}
    for number in range(2, sequences + 1):
        if clash := next((i for i in ids if row_id(i, number) in ids), None):
            raise UsageError(
                f"{clash} and {row_id(clash, number)} are both samples, so the ids of --sequences are not unique; "
                "rename one of them."
            )


def fix_contradictions(options: SynthOptions) -> str:
    """What an error about contradictions suggests for the layout of the data."""
    if options.dataset in ("coco", "raster") and not options.by_class:
        return "Add --by-class, which makes each class of an image one sample"
    if options.components:
        return "Leave out --components, so that each class of an image is one sample"
    return "Ask a different question for each target"


def check_contradictions(samples: Iterable[Sample], options: SynthOptions) -> None:
    """Print how many samples have the same image and query as others, and another target.

    Raises:
        GeoClickError: there are too many, without --allow-contradictions.
    """
    rows = contradictions.QuestionTargets()
    for sample in samples:
        rows.add(sample.image, sample.query, sample.rle)
    result = rows.count()
    contradictions.check(result, allowed=options.allow_contradictions, fix=fix_contradictions(options))
    if result.contradicting and processes.is_first():
        print(f"warning: {result}")
