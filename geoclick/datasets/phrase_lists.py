"""RefSegRS and RISBench: a text file of phrases for each split; each line has the name of its image and mask.

    ROOT/output_phrase_SPLIT.txt        NAME PHRASE

    RefSegRS   ROOT/images/NAME.tif   ROOT/masks/NAME.tif   NAME is a number; masks are gray or RGB
    RISBench   ROOT/img_rgb/NAME      ROOT/mask/NAME        NAME is such as test_0_0.png; those of val are train_*.png

The splits are `train`, `val` and `test`. In a mask of RISBench, values above 0 are the target. Published loaders of
RefSegRS differ: values above 50 (default), those of the first channel above 0 (`geoclick evaluate --mode think2seg`),
or white after conversion to gray (`--mode segearth-r1`).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from geoclick import masks
from geoclick.datasets import question_selection
from geoclick.datasets.mask_files import encode_resized, read_first_channel, read_mask, read_white
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
        by_mode: how masks are read in the scoring modes of published evaluations with another rule.
    """

    name: str
    images: str
    masks: str
    suffix: str
    above: int
    by_mode: Mapping[str, Callable[[Path], np.ndarray]] = field(default_factory=dict)

    def read_mask(self, path: Path, mode: str) -> np.ndarray:
        """The target in a mask file, bool [H, W]; raises GeoClickError if it cannot be read."""
        return self.by_mode[mode](path) if mode in self.by_mode else read_mask(path, self.above)


REFSEGRS = Layout(
    "refsegrs", "images", "masks", ".tif", 50, {"think2seg": read_first_channel, "segearth-r1": read_white}
)
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
            rle = encode_resized(image, layout.read_mask(mask, options.mode), size)
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
