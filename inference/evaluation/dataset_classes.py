"""The class list of a dataset, with the published prompts, background, threshold and class bias of a benchmark."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from geoclick.datasets.benchmarks import BENCHMARKS, Benchmark
from geoclick.errors import UsageError
from geoclick.inference.contrastive import classes as class_lists
from geoclick.inference.contrastive.classes import BACKGROUND, ClassList, Color

if TYPE_CHECKING:
    from geoclick.inference.evaluation.options import ResolvedOptions

PUBLISHED_BIAS = {"xbd": 0.0}
"""Class bias of SegEarth-OV's features on the benchmarks where it is not that of the others."""

COLORS: dict[str, Color] = {
    "background": (0, 0, 0),
    "other": (0, 0, 0),
    "clutter": (0, 0, 0),
    "building": (214, 69, 69),
    "roof": (214, 69, 69),
    "road": (140, 140, 150),
    "pavement": (196, 190, 180),
    "impervious surface": (140, 140, 150),
    "water": (66, 133, 214),
    "tree": (34, 120, 60),
    "forest": (34, 120, 60),
    "vegetation": (110, 175, 80),
    "low vegetation": (150, 205, 110),
    "grass": (150, 205, 110),
    "cropland": (240, 200, 80),
    "agricultural": (240, 200, 80),
    "bareland": (170, 120, 80),
    "barren": (170, 120, 80),
    "car": (245, 140, 30),
    "vehicle": (245, 140, 30),
    "human": (226, 90, 178),
    "wall": (150, 92, 190),
}
"""Colors of a benchmark's classes by name; the others have those of the palette."""


@dataclass(frozen=True)
class DatasetClasses:
    """The classes of a dataset.

    Attributes:
        names: as the categories of samples name them; of a single class, after `background`.
        prompts: their synonyms and colors, in the same order.
        threshold: the published one; None if there is none.
        class_bias: the published one of SegEarth-OV's features where it is a particular one; else None.
    """

    names: tuple[str, ...]
    prompts: ClassList
    threshold: float | None = None
    class_bias: float | None = None

    def chosen_threshold(self, given: float | None, dataset: str) -> tuple[float, str]:
        """The threshold of a run, and where it is from: `published`, `tuned` or, where none is published, `none`.

        Args:
            given: the one of `--threshold`.
            dataset: named in the error.

        Raises:
            UsageError: the dataset has no background for the pixels below the threshold.
        """
        if given is None:
            return (0.0, "none") if self.threshold is None else (self.threshold, "published")
        if given and self.prompts.background is None:
            raise UsageError(
                f"--threshold gives pixels to the class `background`, which {dataset} lacks; remove it, or set it to 0."
            )
        return given, "published" if given == self.threshold else "tuned"


def of_options(options: "ResolvedOptions") -> DatasetClasses:
    """The classes of the dataset of an evaluation.

    Raises:
        UsageError: the dataset has no class besides the background, or repeats a name.
        GeoClickError: the legend of a folder is broken.
    """
    if options.dataset in BENCHMARKS:
        return of_benchmark(BENCHMARKS[options.dataset])
    return of_folder(Path(options.root), options.split)


def of_benchmark(benchmark: Benchmark) -> DatasetClasses:
    """The classes of a benchmark; where it has one only, `background` is the first one."""
    names, synonyms, other = benchmark.names, benchmark.prompts, benchmark.background
    if len(names) == 1:
        names, synonyms, other = (BACKGROUND, *names), ((BACKGROUND,), *synonyms), 0
    colors = [COLORS.get(name) for name in names]
    prompts = class_lists.of_dataset(synonyms, benchmark.title, colors=colors, other=other)
    return DatasetClasses(names, prompts, benchmark.threshold, PUBLISHED_BIAS.get(benchmark.name))


def of_folder(root: Path, split: str) -> DatasetClasses:
    """The classes of a folder of color masks, with the colors of its legend; they have no synonyms.

    Raises:
        UsageError: there is no class besides the background.
        GeoClickError: the legend is broken.
    """
    from geoclick.datasets.color_masks import read_legend

    path = next(path for folder in (root / split, root) if (path := folder / "classes.json").is_file())
    legend = read_legend(path).classes
    names, synonyms = tuple(legend), [(name.lower(),) for name in legend]
    colors = [(code >> 16, code >> 8 & 255, code & 255) for code in legend.values()]
    if len(names) == 1:
        # Colors of no class are not scored, so that a background could not be wrong.
        raise UsageError(f"{path} has one class only, so that every pixel is of it; add another one.")
    return DatasetClasses(names, class_lists.of_dataset(synonyms, str(path), colors=colors))
