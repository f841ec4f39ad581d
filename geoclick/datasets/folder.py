"""Plain folders: images with masks, listed in `samples.jsonl` or paired by name.

`ROOT/SPLIT/samples.jsonl` holds one JSON object per line, with paths relative to `ROOT/SPLIT`:

    {"sample_id": "a-1", "task": "referring", "query": "the tank by the road", "image": "images/a.png",
     "size": [256, 256], "mask": {"size": [256, 256], "counts": "..."}, "category": "storage tank"}

`mask` is a COCO RLE or the path of a mask file; it may be omitted if the task is `no_target`. `category` may be
omitted. The tasks are `referring`, `reasoning`, `semantic` and `no_target`.

Without that file, every `ROOT/SPLIT/images/NAME.*` (or `ROOT/images/NAME.*`) is paired with `masks/NAME.*`. If there is
a `classes.json` next to `images`, the masks are read as colors: each connected component of a color is one sample, and
its query is the class's name in lower case.

    {"classes": {"Building": [60, 16, 152], "Road": [110, 193, 228]}, "ignore": [[155, 155, 155]]}

Ignored and unknown colors are not scored. Without `classes.json`, all pixels that are not black are one target.
"""

import json
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np

from geoclick import images, masks
from geoclick.datasets.color_masks import (
    Legend,
    Region,
    read_codes,
    read_legend,
    regions,
    unknown_pixels,
    valid_pixels,
)
from geoclick.datasets.reading import LeftOut, OnLeftOut, ReadOptions, check_size, image_size, inside
from geoclick.datasets.sample import TASKS, Sample
from geoclick.errors import GeoClickError, UsageError
from geoclick.masks import Rle

NAME = "folder"


def read(root: Path, split: str, options: ReadOptions, on_left_out: OnLeftOut) -> Iterator[Sample]:
    """The samples in the order of `samples.jsonl`, or of the images' names and the legend's classes.

    A root that holds `images` itself has one split under any name. Components of color masks that are smaller or larger
    than the options allow are left out.
    """
    folder = inside(root, split)
    if (folder / "samples.jsonl").is_file():
        return _listed(root, split, folder, on_left_out)
    base = next((b for b in (folder, root) if (b / "images").is_dir() and (b / "masks").is_dir()), None)
    if base is None:
        raise UsageError(
            f"{folder} holds neither samples.jsonl nor the folders images and masks; "
            "name another --root or --split."
        )
    return _paired(root, split, base, options, on_left_out)


def _listed(root: Path, split: str, folder: Path, on_left_out: OnLeftOut) -> Iterator[Sample]:
    """Samples of `samples.jsonl`."""
    seen = set()
    with (folder / "samples.jsonl").open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            where = f"{split}/samples.jsonl line {number}"
            try:
                sample = _parse(line, root, split, folder)
                if sample.sample_id in seen:
                    raise ValueError(f"sample_id {sample.sample_id!r} occurs twice")
            except ValueError as error:
                on_left_out(LeftOut(where, "broken line", f"{where} is not a sample: {error}; fix the line."))
            except GeoClickError as error:
                on_left_out(LeftOut(where, "broken sample", f"{where}: {error}"))
            else:
                seen.add(sample.sample_id)
                yield sample


def _parse(line: str, root: Path, split: str, folder: Path) -> Sample:
    """One line as a Sample; raises ValueError for a broken line and GeoClickError for a broken file."""
    try:
        record = json.loads(line)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(record, dict):
        raise ValueError("it is not a JSON object")
    for key in ("sample_id", "task", "query", "image"):
        if not isinstance(record.get(key), str):
            raise ValueError(f"{key} must be a text, not {record.get(key)!r}")
    if record["task"] not in TASKS:
        raise ValueError(f"task must be one of {', '.join(TASKS)}, not {record['task']!r}")
    size = _size(record.get("size"), "size")
    inside(folder, record["image"])
    return Sample(
        sample_id=record["sample_id"],
        dataset=NAME,
        split=split,
        task=record["task"],
        query=record["query"],
        root=root,
        image=f"{split}/{record['image']}",
        size=size,
        rle=_rle(record, size, folder),
        category=str(record.get("category") or ""),
    )


def _size(value: object, name: str) -> tuple[int, int]:
    if (
        not isinstance(value, list)
        or len(value) != 2
        or not all(type(number) is int and number > 0 for number in value)
    ):
        raise ValueError(f"{name} must be [height, width], not {value!r}")
    return value[0], value[1]


def _rle(record: dict[str, Any], size: tuple[int, int], folder: Path) -> Rle:
    """The target of a line: an RLE, a mask file, or nothing if there is no target."""
    mask = record.get("mask")
    if isinstance(mask, dict):
        check_size(record["image"], size, _size(mask.get("size"), "the size of mask"))
        # Decoding checks its counts.
        return cast(Rle, mask)
    if isinstance(mask, str):
        pixels = images.read_gray(inside(folder, mask)) > 0
        check_size(record["image"], size, pixels.shape)
        return masks.encode_rle(pixels)
    if mask is None and record["task"] == "no_target":
        return masks.encode_rle(np.zeros(size, bool))
    raise ValueError(f"mask must be an RLE or a path, not {mask!r}")


def _visible(path: Path) -> bool:
    return path.is_file() and not path.name.startswith(".")


def _paired(
    root: Path, split: str, base: Path, options: ReadOptions, on_left_out: OnLeftOut
) -> Iterator[Sample]:
    """Samples of images and masks with the same stem."""
    legend = read_legend(base / "classes.json") if (base / "classes.json").is_file() else None
    files = [path for path in sorted((base / "images").iterdir()) if _visible(path)]
    mask_of = {path.stem: path for path in sorted((base / "masks").iterdir()) if _visible(path)}
    prefix = base.resolve().relative_to(root.resolve())
    stems = set()
    for path in files:
        image = (prefix / "images" / path.name).as_posix()
        try:
            if path.stem in stems:
                raise GeoClickError(f"{path} shares its name with another image; rename one of the two.")
            if path.stem not in mask_of:
                raise GeoClickError(f"{path} has no mask; add {base / 'masks' / path.stem}.png.")
            stems.add(path.stem)
            size = image_size(inside(base, path.relative_to(base)))
            mask = inside(base, mask_of[path.stem].relative_to(base))
            codes = read_codes(mask)
            check_size(image, size, codes.shape)
        except GeoClickError as error:
            on_left_out(LeftOut(image, "broken image or mask", str(error)))
            continue
        sample = partial(
            Sample, dataset=NAME, split=split, task="semantic", root=root, image=image, size=size
        )
        if legend is None:
            yield sample(sample_id=path.stem, query=options.query, rle=masks.encode_rle(codes > 0))
            continue
        if unknown := unknown_pixels(codes, legend):
            on_left_out(LeftOut(image, "pixels of unknown colors, ignored", count=unknown))
        valid = valid_pixels(codes, legend)
        sample = partial(sample, valid_rle=None if valid.all() else masks.encode_rle(valid))
        for region in _of_allowed_area(image, codes, legend, options, on_left_out):
            yield _of_component(path.stem, region, codes.shape, sample)


def _of_allowed_area(
    image: str, codes: np.ndarray, legend: Legend, options: ReadOptions, on_left_out: OnLeftOut
) -> Iterator[Region]:
    """The components of a color mask that are neither too small nor too large; the others are counted."""
    small = large = 0
    for region in regions(codes, legend):
        if region.area < options.min_area:
            small += 1
        elif region.area > options.max_area_fraction * codes.size:
            large += 1
        else:
            yield region
    if small:
        on_left_out(LeftOut(image, "smaller than min_area", count=small))
    if large:
        on_left_out(LeftOut(image, "larger than max_area_fraction", count=large))


def _of_component(stem: str, region: Region, size: tuple[int, ...], sample: Callable[..., Sample]) -> Sample:
    """The sample of one component; its id holds the first pixel, so that no area option changes it."""
    mask = np.zeros(size, bool)
    mask[region.box] = region.mask
    slug = re.sub(r"[\W_]+", "_", region.category.lower()).strip("_")
    return sample(
        sample_id=f"{stem}-{slug}-{region.start[0]}-{region.start[1]}",
        query=region.category.lower(),
        rle=masks.encode_rle(mask),
        category=region.category,
    )
