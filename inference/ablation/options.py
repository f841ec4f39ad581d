"""The options of `geoclick ablate`, and what they resolve to: the base and the values of each axis."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from geoclick.clips.templates import TEMPLATES
from geoclick.config import option
from geoclick.errors import UsageError
from geoclick.inference.ablation.plan import AXES, DENSE, Model, Setting, Value
from geoclick.options import DENSE_METHODS, SELECTIONS, ClipOptions, PixelRule, SegmenterOptions

if TYPE_CHECKING:
    from geoclick.inference.evaluation.dataset_classes import DatasetClasses

OVERLAPS = ("small-on-top", "large-on-top", "predicted-iou", "margin")
UNCOVERED = ("dense", "background", "nearest")


@dataclass(frozen=True, kw_only=True)
class AblateOptions(PixelRule, ClipOptions, SegmenterOptions):
    """Options of `geoclick ablate`: the base, as in evaluate, and the values of the axes."""

    dataset: str = option(
        "folder", help="a benchmark of land cover or of one class, or a folder of color masks"
    )
    root: str | None = option(None, help="folder of the dataset")
    split: str | None = option(
        None, help="split of the dataset (default: the published one of a benchmark, else test)"
    )
    output: str = option(
        help="folder for the table, the curves and the page; an interrupted run in it is continued"
    )
    axes: tuple[str, ...] = option(
        (),
        choices=tuple(AXES),
        help="what is varied, one at a time around the base (default: everything; nothing with --grid)",
    )
    grid: tuple[str, ...] = option((), choices=tuple(AXES), help="axes of which all products are measured")
    thresholds: tuple[float, ...] = option(
        (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8),
        help="values of the axis threshold",
        minimum=0,
        maximum=1,
    )
    scales: tuple[float, ...] = option(
        (10.0, 25.0, 40.0, 50.0, 75.0, 100.0), help="factors of the cosines in the softmax"
    )
    class_biases: tuple[float, ...] = option((-0.45, -0.3, -0.15, 0.0), help="values of the axis class-bias")
    template_sets: tuple[str, ...] = option(
        tuple(TEMPLATES), choices=tuple(TEMPLATES), help="values of the axis templates"
    )
    feature_methods: tuple[str, ...] = option(
        DENSE_METHODS, choices=DENSE_METHODS, help="values of the axis features"
    )
    clips: tuple[str, ...] = option(
        (),
        help="values of the axis clip: names as in --clip, or ARCHITECTURE=FILE for weight files of open_clip",
    )
    selections: tuple[str, ...] = option(
        (DENSE, *SELECTIONS),
        choices=(DENSE, *SELECTIONS),
        help="values of the axis select; dense is CLIP without proposals",
    )
    overlap_orders: tuple[str, ...] = option(OVERLAPS, choices=OVERLAPS, help="values of the axis overlaps")
    uncovered_rules: tuple[str, ...] = option(
        UNCOVERED, choices=UNCOVERED, help="values of the axis uncovered"
    )
    points: tuple[int, ...] = option(
        (8, 10, 16, 20, 24, 29, 32), help="values of the axis points-per-side", minimum=1
    )
    predicted_ious: tuple[float, ...] = option(
        (0.2, 0.4, 0.6, 0.8, 0.88), help="values of the axis predicted-iou", minimum=0, maximum=1
    )
    stabilities: tuple[float, ...] = option(
        (0.5, 0.7, 0.8, 0.9, 0.95), help="values of the axis stability", minimum=0, maximum=1
    )
    segmenters: tuple[str, ...] = option(
        (),
        help="values of the axis segmenter: names as in --segmenter, or NAME=FILE, such as "
        "sam_vit_l=sam_vit_l_0b3195.pth",
    )
    max_clicks: int | None = option(
        None,
        help="compare --segmenters by clicks instead: mean IoU after 1 to this many clicks, each at the center of the "
        "largest error, on samples with a target of any dataset",
        minimum=1,
    )
    adapter: str | None = option(None, help="with --max-clicks, decode the clicks of this adapter, too")
    cache: str = option(
        "runs/cache",
        help="folder of proposals and features by content, which makes a second run quick; evaluate shares it",
    )
    cache_limit: float = option(20.0, help="size in GiB from which the cache takes nothing more", minimum=0)
    limit: int | None = option(
        None, help="number of images in a random pick, which depends on --seed", minimum=1
    )
    first: int | None = option(None, help="only the first images of the split", minimum=1)
    seed: int = option(0, help="random seed (pick of images, bootstrap)", minimum=0)
    device: str = option("auto", help="auto, cpu, cuda or cuda:N")


def place(options: AblateOptions) -> tuple[Path, str]:
    """Root and split of the dataset.

    Raises:
        UsageError: the dataset has no classes at each pixel, or no root is given.
    """
    from geoclick import datasets
    from geoclick.datasets import selection
    from geoclick.datasets.benchmarks import BENCHMARKS

    selection.check(options.limit, options.first)
    check_clicks(options)
    benchmark = BENCHMARKS.get(options.dataset)
    if options.dataset not in datasets.NAMES:
        raise UsageError(f"Unknown dataset {options.dataset!r}; choose one of {', '.join(datasets.NAMES)}.")
    root = Path(datasets.root_of(options.dataset, options.root))
    split = options.split or (benchmark.split if benchmark else "test")
    if options.max_clicks is not None:
        return root, split
    folders = (root / split, root) if options.dataset == "folder" else ()
    legend = any((folder / "classes.json").is_file() for folder in folders)
    if not legend and (benchmark is None or benchmark.task != "semantic"):
        raise UsageError(
            f"{options.dataset} at {root} has no class at each pixel; give a benchmark of land cover or of one class, "
            "or a folder of color masks with a classes.json."
        )
    return root, split


def check_clicks(options: AblateOptions) -> None:
    """Refuse options that do not go with --max-clicks, or only with it; raises UsageError."""
    if options.max_clicks is None:
        if options.adapter:
            raise UsageError("--adapter goes with --max-clicks; give both.")
        return
    if not options.segmenters:
        raise UsageError("--max-clicks compares --segmenters; give one or more.")
    if options.axes or options.grid:
        raise UsageError("--max-clicks does not vary --axes or --grid; remove them.")


def model(value: str) -> Model:
    """A model of `--clips` or `--segmenters`: NAME or NAME=FILE."""
    name, equals, checkpoint = value.partition("=")
    if not name or (equals and not checkpoint):
        raise UsageError(f"{value!r} is no model; write NAME, or NAME=FILE for a weight file.")
    return Model(name, checkpoint or None)


def base(options: AblateOptions, classes: "DatasetClasses") -> Setting:
    """The base, as `geoclick evaluate --predictor contrastive` with the same options; None where models decide."""
    from geoclick.inference.contrastive.settings import TILE, settings_of
    from geoclick.inference.evaluation.map_predictors import WHOLE

    threshold, _ = classes.chosen_threshold(options.threshold, options.dataset)
    settings = settings_of(replace(options, threshold=threshold), tile=WHOLE, overlap=0)
    return Setting(
        clip=Model(options.clip, options.clip_checkpoint),
        segmenter=Model(options.segmenter, options.checkpoint),
        select=options.select,
        settings=replace(settings, proposal_window=TILE),
    )


def varied(
    options: AblateOptions, classes: "DatasetClasses", complete: Setting, *, siglip: bool = False
) -> tuple[list[str], tuple[str, ...]]:
    """The axes that are varied one at a time, and a sentence for each one that is not for a reason.

    Args:
        options: of the command.
        classes: of the dataset.
        complete: the base without None.
        siglip: whether its CLIP is a SigLIP.

    Raises:
        UsageError: an axis is requested that has no values, or no meaning for the dataset or the CLIP.
    """
    reasons = {}
    if classes.prompts.background is None:
        reasons["threshold"] = "the dataset has no background for the pixels below it"
    if siglip:
        reasons["class-bias"] = "a SigLIP has no class token"
    for axis in ("clip", "segmenter"):
        if not getattr(options, AXES[axis].option):
            reasons[axis] = f"there is no --{AXES[axis].option} to compare"
    for axis in (*options.axes, *options.grid):
        if axis in reasons:
            raise UsageError(f"The axis {axis} cannot be varied: {reasons[axis]}.")
    names = list(dict.fromkeys(options.axes))
    notes = []
    if not options.axes and not options.grid:
        names = [axis for axis in AXES if axis not in reasons]
        notes = [
            f"The axis {axis} is left out: {reasons[axis]}."
            for axis in ("threshold", "class-bias")
            if axis in reasons
        ]
    if "uncovered" in (*names, *options.grid) and classes.prompts.background is None:
        notes.append("The rule background for uncovered pixels is left out: the dataset has no background.")
    rules = [axis for axis in ("overlaps", "uncovered") if axis in (*names, *options.grid)]
    if rules and len(classes.names) == 2 and complete.select == "vote":
        notes.append(
            f"With one class and vote, the map is a union of proposals: {' and '.join(rules)} change the oracle only."
        )
    return names, tuple(notes)


def values(options: AblateOptions, axis: str, classes: "DatasetClasses", complete: Setting) -> list[Value]:
    """The values of an axis with that of the base, numbers in order.

    Args:
        options: of the command.
        axis: a key of AXES.
        classes: of the dataset; without a background among them, no uncovered pixel can get it.
        complete: the base without None.
    """
    given: Sequence[Value] = getattr(options, AXES[axis].option)
    if axis in ("clip", "segmenter"):
        given = [model(str(value)) for value in given]
    if axis == "uncovered" and classes.prompts.background is None:
        given = [value for value in given if value != "background"]
    own = complete.value(axis)
    listed = list(dict.fromkeys((*given, own) if own not in given else given))
    return sorted(listed, key=lambda value: float(str(value))) if AXES[axis].numeric else listed
