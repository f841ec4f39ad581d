"""The options of `geoclick evaluate`."""

from dataclasses import dataclass
from pathlib import Path

from geoclick.config import option
from geoclick.errors import UsageError
from geoclick.options import DatasetOptions, GenerationOptions
from geoclick.scoring.modes import MODES

PREDICTORS = {
    "generative": "the VLM writes the clicks",
    "oracle": "the clicks of a click store, the upper bound of clicks",
    "box": "the bounding box of the true mask",
    "center-point": "one click at the center of the true mask",
    "noisy": "the true mask with --noise of its pixels wrong",
}
"""The values of `--predictor`; `predictors.load` makes each of them."""


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(GenerationOptions, DatasetOptions):
    """Options of `geoclick evaluate`."""

    output: str = option(help="run folder; an interrupted run in it is continued")
    compare: tuple[str, ...] = option(
        (), help="two finished run folders on the same samples, instead of a new run"
    )
    split: str | None = option(
        None, help="split of the dataset (default: the published one of a benchmark, else test)"
    )
    predictor: str = option(
        "generative",
        choices=tuple(PREDICTORS),
        help="; ".join(f"{name}: {description}" for name, description in PREDICTORS.items()),
    )
    clicks: str | None = option(None, help="click store of geoclick synth, for the oracle")
    noise: float = option(0.1, help="probability that a pixel of the noisy predictor is wrong", minimum=0)
    mode: str | None = option(
        None,
        choices=tuple(MODES),
        help="scoring rules (default: semantic for datasets of land cover classes, else native)",
    )
    skip_broken: bool = option(
        False,
        help="skip samples that cannot be read, and those of images that the models cannot take, and count them in the "
        "protocol; every image is decoded once more",
    )
    temperature: float = option(0.0, help="sampling temperature; 0 takes the most likely token", minimum=0)
    batch_size: int = option(16, help="samples in one batch", minimum=1)
    limit: int | None = option(
        None, help="size of a random pick of the split's samples, which depends on --seed", minimum=1
    )
    first: int | None = option(None, help="only the first samples of the split", minimum=1)
    gallery: int = option(6, help="samples in each group of the report's gallery", minimum=0)
    seed: int = option(0, help="random seed (sampling, noise, bootstrap)", minimum=0)


@dataclass(frozen=True, kw_only=True)
class ResolvedOptions(EvaluateOptions):
    """The options with root, split, mode and question set for the dataset."""

    root: str
    split: str
    mode: str
    question: str


def resolve(options: EvaluateOptions) -> ResolvedOptions:
    """Set what the dataset and the mode decide; raises UsageError for options that do not fit them."""
    from geoclick import datasets
    from geoclick.datasets import selection
    from geoclick.datasets.benchmarks import BENCHMARKS

    if options.noise > 1:
        raise UsageError(f"--noise is a probability, at most 1, not {options.noise}.")
    selection.check(options.limit, options.first)
    benchmark = BENCHMARKS.get(options.dataset)
    semantic = benchmark is not None and benchmark.task == "semantic"
    mode = options.mode or ("semantic" if semantic else "native")
    root = datasets.root_of(options.dataset, options.root)
    split = options.split or (benchmark.split if benchmark else "test")
    if mode == "semantic" and not (semantic or _has_legend(options, Path(root), split)):
        raise UsageError(
            f"--mode semantic needs a dataset with classes, which {options.dataset} is not; choose another mode, or "
            "add classes.json to a folder of color masks."
        )
    decided = {
        "root": root,
        "split": split,
        "mode": mode,
        "question": options.question or MODES[mode].question or "all",
    }
    return ResolvedOptions(**(vars(options) | decided))


def _has_legend(options: EvaluateOptions, root: Path, split: str) -> bool:
    """Whether the dataset is a folder of color masks, of which a sample is an image and a class."""
    if options.dataset != "folder" or (root / split / "samples.jsonl").exists():
        return False
    if options.components:
        raise UsageError("--mode semantic scores classes, not their --components; leave one of them out.")
    return any((folder / "classes.json").is_file() for folder in (root / split, root))
