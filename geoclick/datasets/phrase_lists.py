"""RefSegRS and RISBench: a text file of phrases for each split; each line has the name of its image and mask.

    ROOT/output_phrase_SPLIT.txt        NAME PHRASE

    RefSegRS   ROOT/images/NAME.tif   ROOT/masks/NAME.tif   NAME is a number; masks are gray or RGB
    RISBench   ROOT/img_rgb/NAME      ROOT/mask/NAME        NAME is such as test_0_0.png; those of val are train_*.png

The splits are `train`, `val` and `test`. In a mask of RefSegRS, values above 50 are the target, as in the loaders of
published evaluations; in one of RISBench, values above 0.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from geoclick import masks
from geoclick.datasets import question_selection
from geoclick.datasets.mask_files import encode_resized, read_mask
from geoclick.datasets.reading import (
    LeftOut,
    OnLeftOut,
    Reader,
    ReadOptions,
    file_in,
    image_size,
    inside,
)
from geoclick.datasets.sample import Sample
from geoclick.errors import GeoClickError, UsageError

PHRASES = "output_phrase_{split}.txt"


@dataclass(frozen=True)
class Layout:
    """Names and folders of one dataset.

    Attributes:
        name: the value of `--dataset`.
        images: folder of images.
        masks: folder of masks, which have the names of the images.
        suffix: file suffix that the names in the phrase list lack.
        above: mask values above it are the target.
    """

    name: str
    images: str
    masks: str
    suffix: str
    above: int


REFSEGRS = Layout("refsegrs", "images", "masks", ".tif", 50)
RISBENCH = Layout("risbench", "img_rgb", "mask", "", 0)


def read(
    layout: Layout, root: Path, split: str, options: ReadOptions, on_left_out: OnLeftOut
) -> Iterator[Sample]:
    """The samples in the order in which the names first appear, and the phrases of each name in file order.

    Several phrases of one name are questions of which `options` selects. Lines without a phrase are left out.
    """
    path = inside(root, PHRASES.format(split=split))
    if not path.is_file():
        raise UsageError(f"{root} lacks {PHRASES.format(split=split)}; name another --root or --split.")
    return _samples(layout, root, split, read_phrases(path), options, on_left_out)


READERS: dict[str, Reader] = {layout.name: partial(read, layout) for layout in (REFSEGRS, RISBENCH)}


def read_phrases(path: Path) -> dict[str, list[str]]:
    """The phrases of each name, both in file order; raises GeoClickError if the file cannot be read."""
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
            rle = encode_resized(image, read_mask(mask, layout.above), size)
        except GeoClickError as error:
            on_left_out(LeftOut(image, "broken image or mask", str(error), len(texts)))
            continue
        for sample_id, text in question_selection.select(texts, name, options, on_left_out):
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
