"""RefSegRS and RISBench: a text file of phrases for each split, each line with the name of its image and mask.

    ROOT/output_phrase_SPLIT.txt        NAME PHRASE

    RefSegRS   ROOT/images/NAME.tif   ROOT/masks/NAME.tif   NAME is a number; masks are grey or RGB
    RISBench   ROOT/img_rgb/NAME      ROOT/mask/NAME        NAME is such as test_0_0.png; those of val are train_*.png

The sets: arXiv 2306.08625 (RRSIS) and arXiv 2410.08613 (CroBIM). The layouts are those of the loaders that evaluations
of both publish; a mask of RefSegRS counts from 51 on as it does there.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from geoclick import masks
from geoclick.datasets.mask_files import encode_fitted, read_target
from geoclick.datasets.question_selection import asked
from geoclick.datasets.reading import (
    LeftOut,
    OnLeftOut,
    ReadOptions,
    file_in,
    image_size,
    inside,
    raise_failures,
)
from geoclick.datasets.sample import Sample
from geoclick.errors import GeoClickError, UsageError

PHRASES = "output_phrase_{split}.txt"


@dataclass(frozen=True)
class Layout:
    """Where a set has its files.

    Attributes:
        name: the value of `--dataset`.
        images: the folder of images.
        masks: the folder of masks, of the same names.
        suffix: what stands behind the name in the phrases.
        above: mask values larger than it are the target.
    """

    name: str
    images: str
    masks: str
    suffix: str
    above: int


REFSEGRS = Layout("refsegrs", "images", "masks", ".tif", 50)
RISBENCH = Layout("risbench", "img_rgb", "mask", "", 0)


def read(
    layout: Layout,
    root: str | Path,
    split: str,
    *,
    options: ReadOptions | None = None,
    on_left_out: OnLeftOut = raise_failures,
) -> Iterator[Sample]:
    """The samples of one split, in the order in which the names first appear, and the phrases of each in theirs.

    Args:
        layout: REFSEGRS or RISBENCH.
        root: the folder that holds the phrases.
        split: train, val or test.
        options: which phrase is asked where several lines have the same name; None takes its defaults.
        on_left_out: told of lines without a phrase, and of failures: missing or broken images and masks.

    Raises:
        UsageError: there is no file of phrases for the split.
        GeoClickError: a file is broken, unless `on_left_out` takes failures.
    """
    root, options = Path(root), options or ReadOptions()
    path = inside(root, PHRASES.format(split=split))
    if not path.is_file():
        raise UsageError(f"{root} lacks {PHRASES.format(split=split)}; name another --root or --split.")
    return _samples(layout, root, split, read_phrases(path), options, on_left_out)


def read_phrases(path: Path) -> dict[str, list[str]]:
    """The phrases of each name, both in the file's order; raises GeoClickError when it cannot be read."""
    try:
        lines = path.read_text(encoding="utf-8-sig", errors="replace").split("\n")
    except OSError as error:
        raise GeoClickError(f"{path} cannot be read ({error}); replace the file.") from error
    phrases: dict[str, list[str]] = {}
    for line in lines:
        if words := line.split(maxsplit=1):
            phrases.setdefault(words[0], []).append(words[1] if len(words) == 2 else "")
    return phrases


def _samples(
    layout: Layout,
    root: Path,
    split: str,
    phrases: dict[str, list[str]],
    options: ReadOptions,
    on_left_out: OnLeftOut,
) -> Iterator[Sample]:
    for name, texts in phrases.items():
        image = f"{layout.images}/{name}{layout.suffix}"
        try:
            size = image_size(file_in(root, image))
            mask = file_in(root, f"{layout.masks}/{name}{layout.suffix}")
            rle = encode_fitted(image, read_target(mask, layout.above), size)
        except GeoClickError as error:
            on_left_out(LeftOut(image, "broken image or mask", str(error), len(texts)))
            continue
        for sample_id, text in asked(texts, name, options, on_left_out):
            yield Sample(
                sample_id=sample_id,
                dataset=layout.name,
                split=split,
                task="referring" if masks.area(rle) else "no_target",
                query=text,
                root=root,
                image=image,
                size=size,
                rle=rle,
            )
