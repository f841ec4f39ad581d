import json

from geoclick.inference.evaluation import predictors, protocol
from geoclick.inference.evaluation.dataset_scan import scan
from geoclick.inference.evaluation.options import EvaluateOptions, resolve
from tests.inference.evaluation.test_run_folder import samples

KEYS = [
    "dataset",
    "root",
    "split",
    "limit",
    "first",
    "n",
    "images",
    "smallest_image",
    "largest_image",
    "images_sha256",
    "samples_sha256",
    "pixels_sha256",
    "broken_and_skipped",
    "left_out",
    "mode",
    "scored_side",
    "question",
    "question_seed",
    "predictor",
    "noise",
    "segmenter",
    "batch_size",
    "seed",
    "geoclick",
]


def test_keys_stay_so_that_older_runs_can_be_continued():
    options = resolve(EvaluateOptions(output="out", root="data", predictor="noisy", mode="think2seg"))
    found = protocol.describe(options, scan(samples(4)), predictors.Noisy(0.1, 0).describe())
    assert list(found) == KEYS
    assert json.loads(json.dumps(found)) == found
    assert (found["n"], found["images"], found["scored_side"], found["question"]) == (4, 3, 840, "random")
    assert (found["question_seed"], found["noise"], found["segmenter"]) == (0, 0.1, None)
