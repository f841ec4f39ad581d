"""The protocol of an evaluation: everything that decides its scores."""

from typing import TYPE_CHECKING, Any

from geoclick import __version__
from geoclick.scoring.modes import MODES

if TYPE_CHECKING:
    from geoclick.inference.evaluation.dataset_scan import DatasetScan
    from geoclick.inference.evaluation.options import ResolvedOptions
    from geoclick.inference.evaluation.predictors import Predictor


def describe(options: "ResolvedOptions", scan: "DatasetScan", predictor: "Predictor") -> dict[str, Any]:
    """The content of protocol.json; a run folder is continued only with an equal one."""
    return {
        "dataset": options.dataset,
        "root": options.root,
        "split": options.split,
        "n": len(scan.ids),
        "images": scan.images,
        "smallest_image": list(scan.sizes[0]),
        "largest_image": list(scan.sizes[1]),
        "images_sha256": scan.images_sha256,
        "samples_sha256": scan.samples_sha256,
        "broken_and_skipped": scan.broken,
        "left_out": scan.left_out,
        "mode": options.mode,
        "scored_side": MODES[options.mode].side,
        "question": options.question,
        "question_seed": options.question_seed if options.question == "random" else None,
        "predictor": options.predictor,
        **predictor.describe(),
        "batch_size": options.batch_size,
        "seed": options.seed,
        "geoclick": __version__,
    }
