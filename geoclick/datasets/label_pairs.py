"""Image and label files of the semantic benchmarks: their layouts, and the lists that limit a split."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from geoclick.datasets.benchmarks import Benchmark, Layout
from geoclick.datasets.reading import LeftOut, OnLeftOut, inside
from geoclick.errors import UsageError

_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")


@dataclass(frozen=True, order=True)
class Pair:
    """The paths of an image and of its label, relative to the root, and the stem that their names share."""

    stem: str
    image: str
    label: str


def find(benchmark: Benchmark, root: Path, split: str) -> tuple[Layout, list[Pair]]:
    """The first layout of the benchmark that has images in `root`, and the pairs of the split, sorted by stem.

    Raises:
        UsageError: no layout has images.
    """
    for layout in benchmark.layouts:
        pairs = [pair for folders in _folders(root, split, layout) for pair in _pairs(root, *folders, layout)]
        if pairs:
            return layout, sorted(pairs)
    places = " or ".join(
        f"{layout.images}/NAME{layout.image_suffix} with {layout.labels}/NAME{layout.label_suffix}"
        for layout in benchmark.layouts[:2]
    )
    fix = f"run 'geoclick prepare {benchmark.name}'" if benchmark.prepared else "arrange the files so"
    raise UsageError(
        f"{root} does not hold the split {split} of {benchmark.title}, {places.format(split=split)}; {fix}, or give "
        "another --root or --split."
    )


def _folders(root: Path, split: str, layout: Layout) -> list[tuple[Path, Path]]:
    """The existing folders of images, each with the folder of its labels, relative to the root."""
    images, labels = Path(layout.images.format(split=split)), Path(layout.labels.format(split=split))
    candidates = [(images, labels)]
    if "*" in layout.images:
        regions = sorted(path.parent.relative_to(root) for path in root.glob(layout.images))
        candidates = [(region / images.name, region / labels.name) for region in regions]
    return [folders for folders in candidates if all(inside(root, folder).is_dir() for folder in folders)]


def _pairs(root: Path, images: Path, labels: Path, layout: Layout) -> Iterator[Pair]:
    """The images of a folder that have the layout's suffix, with their labels."""
    for path in (root / images).iterdir():
        if path.name.lower().endswith(layout.image_suffix) and not path.name.startswith("."):
            stem = path.name[: -len(layout.image_suffix)]
            label = labels / f"{stem}{layout.label_suffix}"
            yield Pair(stem, (images / path.name).as_posix(), label.as_posix())


def listed(benchmark: Benchmark, layout: Layout, root: Path, split: str) -> frozenset[str] | None:
    """The stems on the list of a split, `ROOT/SPLIT.txt` or the published one; None if there is no list.

    A line of the file is a name, with or without a suffix or leading folders.

    Raises:
        UsageError: there is no list, and the folders do not name the split either.
    """
    path = inside(root, f"{split}.txt")
    if path.is_file():
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        return frozenset(_stem(Path(line.strip()).name, layout) for line in lines if line.strip())
    if benchmark.scored_stems and split == benchmark.split:
        return frozenset(benchmark.scored_stems)
    if "*" in layout.images:
        raise UsageError(f"{path} is missing; add this list of the images of the split {split}.")
    if "{split}" not in layout.images and split != benchmark.split:
        raise UsageError(
            f"{benchmark.title} has the split {benchmark.split}, not {split}; give --split {benchmark.split}, or add "
            f"the list {path}."
        )
    return None


def _stem(name: str, layout: Layout) -> str:
    """The stem of an image from its name on a list."""
    if name.lower().endswith(layout.image_suffix):
        return name[: -len(layout.image_suffix)]
    return Path(name).stem if Path(name).suffix.lower() in _IMAGE_SUFFIXES else name


def select(pairs: list[Pair], stems: frozenset[str] | None, on_left_out: OnLeftOut) -> Iterator[Pair]:
    """The pairs on a list, or all of them without a list, each stem once.

    Args:
        pairs: sorted.
        stems: those on the list, or None.
        on_left_out: called for stems on the list without an image, and for stems with several images.
    """
    for stem in sorted((stems or frozenset()) - {pair.stem for pair in pairs}):
        error = (
            f"The split's list names {stem}, but there is no such image; add it, or remove it from the list."
        )
        on_left_out(LeftOut(stem, "listed image is missing", error))
    previous = None
    for pair in pairs:
        if stems is not None and pair.stem not in stems:
            continue
        if pair.stem == previous:
            error = f"{pair.image} shares its name with another image; rename one of the two."
            on_left_out(LeftOut(pair.image, "broken image or label", error))
        else:
            yield pair
        previous = pair.stem
