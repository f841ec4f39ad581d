"""Datasets: one reader for each layout on disk; `read` yields the samples of any of them.

The readers are imported when they are used, so that the names of the datasets can be shown in `--help` quickly.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from geoclick import plain_text
from geoclick.datasets.benchmarks import BENCHMARKS
from geoclick.datasets.reading import LeftOut, OnLeftOut, ReadOptions, raise_failures
from geoclick.datasets.sample import Sample
from geoclick.errors import UsageError
from geoclick.tasks import TASKS

__all__ = [
    "BUILT_IN",
    "NAMES",
    "OWN_DATA",
    "TASKS",
    "LeftOut",
    "ReadOptions",
    "Sample",
    "raise_failures",
    "read",
    "root_of",
]

OWN_DATA = ("folder", "coco", "raster")
"""Layouts for one's own data."""

BUILT_IN = ("scenes-v1", "scenes-v2")
"""The benchmarks that come with the package; they are generated when they are first read."""

NAMES = (*OWN_DATA, *BUILT_IN, *BENCHMARKS)
"""The values of `--dataset`."""


def root_of(dataset: str, root: str | None) -> str:
    """The dataset's folder; only those that are generated have a default."""
    if root is None and dataset not in BUILT_IN:
        raise UsageError("Missing --root; give it the dataset's folder.")
    return root or f"runs/{dataset}"


def read(
    dataset: str,
    root: str | Path,
    split: str,
    *,
    options: ReadOptions | None = None,
    on_left_out: OnLeftOut = raise_failures,
) -> Iterator[Sample]:
    """The samples of a split, in an order that is the same every time.

    Args:
        dataset: one of NAMES.
        root: the dataset's folder.
        split: name of the split.
        options: options of the reader; None for the defaults.
        on_left_out: called with everything that is not yielded; the default raises the failures among them.

    Raises:
        UsageError: an unknown dataset, a missing root, or a root without this layout or split.
        GeoClickError: a broken file, unless `on_left_out` accepts failures.
    """
    from geoclick.datasets.readers import READERS

    if dataset not in READERS:
        raise UsageError(f"Unknown dataset {dataset!r}; choose one of {', '.join(NAMES)}.")
    if dataset not in BUILT_IN and not Path(root).is_dir():
        raise UsageError(f"Dataset root {root} is not a folder; give --root an existing one.")
    # Messages may quote names that cannot be written as UTF-8.
    report = partial(_report, on_left_out)
    options = options or ReadOptions()
    samples = _of_valid_texts(READERS[dataset](Path(root), split, options, report), report)
    if dataset == "raster":
        # The tiles of rasters are written as they are shown.
        return samples
    if (options.bands, options.stretch) != (ReadOptions.bands, ReadOptions.stretch):
        samples = _shown(samples, options)
    if options.tile is None:
        return samples
    from geoclick.datasets import windows

    windows.check(options.tile, options.overlap)
    instances = options.components or (dataset == "coco" and not options.by_class)
    return windows.cut(samples, options, report, instances=instances)


def _shown(samples: Iterator[Sample], options: ReadOptions) -> Iterator[Sample]:
    """Samples whose images are read with the bands and the stretch of the options."""
    from geoclick.geo.reading import PixelOptions

    pixels = PixelOptions(options.bands, options.stretch)
    for sample in samples:
        yield replace(sample, pixels=pixels)


def _of_valid_texts(samples: Iterator[Sample], on_left_out: OnLeftOut) -> Iterator[Sample]:
    """The samples whose texts can be printed and written as UTF-8; the others are failures, and so are blank queries.

    JSON may hold half of a surrogate pair, and Python reads file names that are not UTF-8 as such halves.
    """
    for sample in samples:
        for name in ("image", "sample_id", "query", "category"):
            text = getattr(sample, name)
            reason = plain_text.fault(text) if name == "category" else plain_text.query_fault(text)
            if reason:
                error = f"The {name} {text[:80]!a} of a sample {reason}; fix it or rename the file."
                on_left_out(LeftOut(sample.sample_id, "broken text", error))
                break
        else:
            yield sample


def _report(on_left_out: OnLeftOut, left_out: LeftOut) -> None:
    on_left_out(replace(left_out, item=_writable(left_out.item), error=_writable(left_out.error)))


def _writable(text: str) -> str:
    """A text in which what UTF-8 cannot hold is escaped."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
