"""The protocol of an evaluation: everything that decides its scores."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoclick import __version__
from geoclick.geo.reading import PixelOptions
from geoclick.inference.evaluation.predictors import ADAPTER_CONFIG
from geoclick.scoring.modes import MODES
from geoclick.yaml_file import Yaml

if TYPE_CHECKING:
    from geoclick.inference.evaluation.dataset_scan import DatasetScan
    from geoclick.inference.evaluation.options import ResolvedOptions


ADDED = ("limit", "first", "pixels_sha256", "adapter_config_sha256")
"""Keys that the protocols of earlier versions lack."""


def newest(scan: "DatasetScan", adapter: str | None) -> tuple[float, str]:
    """The time of the last change of a file that only newer protocols record, in seconds, and the file.

    Args:
        scan: of the samples.
        adapter: folder of the adapter, or None.
    """
    config = Path(adapter) / ADAPTER_CONFIG if adapter else None
    if config is None or not config.is_file():
        return scan.newest
    return max(scan.newest, (config.stat().st_mtime, str(config)))


def _reading(options: "ResolvedOptions") -> dict[str, int | str | list[int] | list[float]]:
    """How images are read where it is not the default, which earlier versions did not record.

    With `scored_on`, the samples and their scores are of windows, not of complete images.
    """
    rules: dict[str, int | str | list[int] | list[float]] = {}
    if options.tile is not None:
        rules |= {"tile": options.tile, "overlap": options.overlap}
        rules["scored_on"] = (
            f"windows of at most {options.tile} pixels a side, {options.overlap} shared by neighbors"
        )
    if options.pixels() != PixelOptions():
        rules |= {"bands": list(options.bands), "stretch": list(options.stretch)}
    return rules


def describe(options: "ResolvedOptions", scan: "DatasetScan", about: Mapping[str, Yaml]) -> dict[str, Any]:
    """The content of protocol.json; a run folder is continued only with an equal one.

    Args:
        options: of the run.
        scan: of its samples.
        about: what the predictor says about itself, `Predictor.describe`.
    """
    return {
        "dataset": options.dataset,
        "root": options.root,
        "split": options.split,
        "limit": options.limit,
        "first": options.first,
        "n": len(scan.ids),
        "images": scan.images,
        "smallest_image": list(scan.sizes[0]),
        "largest_image": list(scan.sizes[1]),
        "images_sha256": scan.images_sha256,
        "samples_sha256": scan.samples_sha256,
        "pixels_sha256": scan.pixels_sha256,
        "broken_and_skipped": scan.broken,
        "left_out": scan.left_out,
        "mode": options.mode,
        "scored_side": MODES[options.mode].side,
        **_reading(options),
        "question": options.question,
        "question_seed": options.question_seed if options.question == "random" else None,
        "predictor": options.predictor,
        **about,
        "batch_size": options.batch_size,
        "seed": options.seed,
        "geoclick": __version__,
    }
