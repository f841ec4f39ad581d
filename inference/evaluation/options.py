"""The options of `geoclick evaluate`."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from geoclick.backend_options import ANSWER_OPTIONS, BACKEND_OPTIONS
from geoclick.config import option
from geoclick.errors import UsageError
from geoclick.options import DENSE_METHODS, ClipOptions, DatasetOptions, EngineOptions, GenerationOptions
from geoclick.scoring.modes import MODES

PREDICTORS = {
    "generative": "the VLM writes the clicks",
    "oracle": "the clicks of a click store, the upper bound of clicks",
    "box": "the bounding box of the true mask",
    "center-point": "one click at the center of the true mask",
    "noisy": "the true mask with --noise of its pixels wrong",
    "contrastive": "a map of all classes from CLIP and the proposals of the segmenter",
    **dict.fromkeys(DENSE_METHODS, "CLIP's map of all classes by this method"),
    "sam3": "a map of all classes from SAM 3 with text prompts",
    "oracle-proposals": "the majority true class of each proposal, the upper bound of a selection",
}
"""The values of `--predictor`; `predictors.load` makes each of them."""

MAP_PREDICTORS = ("contrastive", *DENSE_METHODS, "sam3", "oracle-proposals")
"""Predictors that decide all classes of an image together."""

WITH_PROPOSALS = ("contrastive", "oracle-proposals")

OF_CLICKS = (
    *("vlm", "adapter", "answer_format", "max_new_tokens", "clicks", "retry_failed"),
    *ANSWER_OPTIONS,
    *BACKEND_OPTIONS,
)
"""Options without a meaning for a map."""


def _predictor_help() -> str:
    groups: dict[str, list[str]] = {}
    for name, description in PREDICTORS.items():
        groups.setdefault(description, []).append(name)
    return "; ".join(f"{', '.join(names)}: {description}" for description, names in groups.items())


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(EngineOptions, ClipOptions, GenerationOptions, DatasetOptions):
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
        help=_predictor_help(),
    )
    cache: str | None = option(
        None,
        help="folder for the proposals and CLIP features of predictors of maps, by image, weights and settings, which "
        "later runs reuse",
    )
    cache_limit: float = option(20.0, help="size in GiB from which the cache takes nothing more", minimum=0)
    sam3: str | None = option(
        None, help="SAM 3 for --predictor sam3: a local folder, or a hub id, such as facebook/sam3"
    )
    clicks: str | None = option(None, help="click store of geoclick synth, for the oracle")
    noise: float = option(
        0.1, help="probability that a pixel of the noisy predictor is wrong", minimum=0, maximum=1
    )
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
    retry_failed: bool = option(
        False,
        help="ask a server again for the samples that failed in a finished run; the others are not asked again",
    )
    batch_size: int = option(16, help="samples in one batch", minimum=1)
    limit: int | None = option(
        None,
        help="size of a random pick of the split's samples, which depends on --seed; predictors of maps take complete "
        "images until there are as many samples",
        minimum=1,
    )
    first: int | None = option(
        None, help="only the first samples of the split; predictors of maps take complete images", minimum=1
    )
    gallery: int = option(6, help="samples in each group of the report's gallery", minimum=0)
    seed: int = option(0, help="random seed (sampling, noise, bootstrap)", minimum=0)


@dataclass(frozen=True, kw_only=True)
class ResolvedOptions(EvaluateOptions):
    """The options with root, split, mode and question set for the dataset."""

    root: str
    split: str
    mode: str
    question: str

    @property
    def by_image(self) -> bool:
        """Whether the predictor receives images with all their samples."""
        return self.predictor in MAP_PREDICTORS


def resolve(options: EvaluateOptions) -> ResolvedOptions:
    """Set what the dataset and the mode decide; raises UsageError for options that do not fit them."""
    from geoclick import datasets
    from geoclick.datasets import selection
    from geoclick.datasets.benchmarks import BENCHMARKS

    if options.noise > 1:
        raise UsageError(f"--noise is a probability, at most 1, not {options.noise}.")
    selection.check(options.limit, options.first)
    options.check_engine(options.device, options.backend)
    benchmark = BENCHMARKS.get(options.dataset)
    semantic = benchmark is not None and benchmark.task == "semantic"
    maps = options.predictor in MAP_PREDICTORS
    (_check_maps if maps else _check_no_maps)(options)
    root = datasets.root_of(options.dataset, options.root)
    split = options.split or (benchmark.split if benchmark else "test")
    if maps and not (semantic or _has_legend(options, Path(root), split)):
        raise UsageError(
            f"--predictor {options.predictor} makes a map of a dataset's classes, but {options.dataset} has none; "
            "give a benchmark of land cover or of one class, or a folder of color masks with a classes.json."
        )
    mode = options.mode or ("semantic" if semantic or maps else "native")
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


def _check_maps(options: EvaluateOptions) -> None:
    """Raise UsageError for options that have no meaning for the map of a predictor."""
    name = options.predictor
    _refuse(options, OF_CLICKS, name)
    if options.threshold is not None and options.threshold > 1:
        raise UsageError(f"--threshold must be from 0 to 1, not {options.threshold}.")
    if name == "oracle-proposals":
        _refuse(options, ("select",), name)
    if name == "sam3":
        clip = [field.name for field in fields(ClipOptions) if field.name != "threshold"]
        _refuse(options, ("cache", "cache_limit", *clip), name)
        if options.sam3 is None:
            raise UsageError("--predictor sam3 needs --sam3, a folder or a hub id, such as facebook/sam3.")
    else:
        _refuse(options, ("sam3",), name)


def _check_no_maps(options: EvaluateOptions) -> None:
    """Raise UsageError for options that only predictors of maps have."""
    clip = [field.name for field in fields(ClipOptions)]
    _refuse(options, ("cache", "cache_limit", "sam3", *clip), options.predictor)
    if options.predictor != "generative":
        _refuse(options, ("adapter", *ANSWER_OPTIONS, *BACKEND_OPTIONS), options.predictor)
    if options.predictor != "oracle":
        _refuse(options, ("clicks",), options.predictor)
    options.check_backend()
    if options.backend != "openai":
        _refuse(options, ("retry_failed",), "generative with --backend local")


def _refuse(options: EvaluateOptions, names: Sequence[str], predictor: str) -> None:
    """Raise UsageError if one of the options is given, since the predictor has no use for it."""
    defaults = {field.name: field.default for field in fields(options)}
    for name in names:
        if getattr(options, name) != defaults[name]:
            flag = name.replace("_", "-")
            raise UsageError(f"--{flag} has no meaning for --predictor {predictor}; remove it.")


def _has_legend(options: EvaluateOptions, root: Path, split: str) -> bool:
    """Whether the dataset is a folder of color masks, of which a sample is an image and a class."""
    if options.dataset != "folder" or (root / split / "samples.jsonl").exists():
        return False
    if options.components:
        raise UsageError("Classes are scored here, not their --components; leave --components out.")
    return any((folder / "classes.json").is_file() for folder in (root / split, root))
