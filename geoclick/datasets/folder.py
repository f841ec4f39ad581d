"""Plain folders: images with masks, listed in `samples.jsonl` or paired by name.

`ROOT/SPLIT/samples.jsonl` holds one JSON object per line, with paths relative to `ROOT/SPLIT`:

    {"sample_id": "a-1", "task": "referring", "query": "the tank by the road", "image": "images/a.png",
     "size": [256, 256], "mask": {"size": [256, 256], "counts": "..."}, "category": "storage tank"}

`mask` is a COCO RLE or the path of a mask file; it may be omitted if the task is `no_target`. `category` may be
omitted, and so may `instances`, a list with the COCO RLE of each object of the target, for scores by instance. The
tasks are `referring`, `reasoning`, `semantic` and `no_target`, and for queries about several objects or a hard one
`all_of_a_kind`, `several_by_purpose` and `hard`.

Lossless and JPEG mask files are read by one rule: stored values, not brightness. The target is the pixels with the one
value besides 0 (the palette's index where there is a palette) or the one color besides black. Gray levels between black
and white, as JPEG and resizing leave them, are thresholded at half, which is reported. If all pixels have one color and
an alpha channel is not opaque, alpha is the mask. A mask with several values or colors is ambiguous and refused.

Without `samples.jsonl`, every `ROOT/SPLIT/images/NAME.*` (or `ROOT/images/NAME.*`) is paired with `masks/NAME.*`. If
there is a `classes.json` in `ROOT/SPLIT` or, for all splits, in `ROOT`, the masks are read as colors:

    {"classes": {"Building": [60, 16, 152], "Road": [110, 193, 228]}, "ignore": [[155, 155, 155]]}

A sample is then an image and a class: every class is a query about every image, in lower case, and a class that an
image lacks has no target. With `--components`, each connected component of a color is a sample instead. Components of a
class ask the same question of the image and have different targets, so they contradict each other; they are counted.
Ignored and unknown colors are not scored. Without `classes.json`, a mask has one target, and its query is `--query`.
"""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np

from geoclick import contradictions, masks
from geoclick.datasets.color_masks import (
    Legend,
    Region,
    read_codes,
    read_legend,
    regions,
    slug,
    unknown_pixels,
    valid_pixels,
)
from geoclick.datasets.reading import (
    LeftOut,
    OnLeftOut,
    ReadOptions,
    check_size,
    file_in,
    image_size,
    inside,
    is_file_in,
)
from geoclick.datasets.sample import Sample
from geoclick.datasets.target_masks import read_target
from geoclick.errors import GeoClickError, UsageError
from geoclick.images import MAX_PIXELS, SUFFIXES
from geoclick.masks import Rle
from geoclick.tasks import TASKS
from geoclick.yaml_file import Yaml, quoted

NAME = "folder"

THRESHOLDED = "gray levels in the mask, thresholded at half"


def read(root: Path, split: str, options: ReadOptions, on_left_out: OnLeftOut) -> Iterator[Sample]:
    """The samples in the order of `samples.jsonl`, or of the images' names and the legend's classes.

    A root that holds `images` itself has one split under any name. With `options.components`, components that are
    smaller or larger than the options allow are left out.
    """
    folder = inside(root, split)
    if (folder / "samples.jsonl").is_file():
        return _listed(root, split, folder, on_left_out)
    if (folder / "samples.jsonl").exists():
        raise UsageError(f"{folder / 'samples.jsonl'} is no file; replace it.")
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
    with (folder / "samples.jsonl").open("rb") as lines:
        for number, raw in enumerate(lines, start=1):
            if not raw.strip():
                continue
            where = f"{split}/samples.jsonl line {number}"
            try:
                # UnicodeDecodeError is a ValueError.
                line = raw.decode()
                sample, thresholded = _parse(line, root, split, folder)
                if sample.sample_id in seen:
                    raise ValueError(f"sample_id {quoted(sample.sample_id)} occurs twice")
            except ValueError as error:
                on_left_out(LeftOut(where, "broken line", f"{where} is not a sample: {error}; fix the line."))
            except GeoClickError as error:
                on_left_out(LeftOut(where, "broken sample", f"{where}: {error}"))
            else:
                seen.add(sample.sample_id)
                if thresholded:
                    on_left_out(LeftOut(where, THRESHOLDED))
                yield sample


def _parse(line: str, root: Path, split: str, folder: Path) -> tuple[Sample, bool]:
    """One line as a Sample, and whether its mask was thresholded.

    Raises:
        ValueError: the line is broken.
        GeoClickError: a file is broken.
    """
    try:
        record = json.loads(line)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(record, dict):
        raise ValueError("it is not a JSON object")
    for key in ("sample_id", "task", "query", "image"):
        if not isinstance(record.get(key), str):
            raise ValueError(f"{key} must be a text, not {quoted(record.get(key))}")
    if record["task"] not in TASKS:
        raise ValueError(f"task must be one of {', '.join(TASKS)}, not {quoted(record['task'])}")
    size = _size(record.get("size"), "size")
    if not is_file_in(folder, record["image"]) and inside(folder, record["image"]).exists():
        raise ValueError(f"image {quoted(record['image'])} is no file")
    rle, thresholded = _rle(record, size, folder)
    sample = Sample(
        sample_id=record["sample_id"],
        dataset=NAME,
        split=split,
        task=record["task"],
        query=record["query"],
        root=root,
        image=f"{split}/{record['image']}",
        size=size,
        rle=rle,
        category=str(record.get("category") or ""),
        instances=_instances(record.get("instances"), record["image"], size),
    )
    return sample, thresholded


def _instances(listed: Yaml, image: str, size: tuple[int, int]) -> tuple[Rle, ...]:
    """The instances of a line about an image of `size`; errors as in `_parse`."""
    if not isinstance(listed, list | None):
        raise ValueError("instances must be a list of RLEs")
    return tuple(_rle_of(rle, image, size) for rle in listed or ())


def _size(value: object, name: str) -> tuple[int, int]:
    if (
        not isinstance(value, list)
        or len(value) != 2
        or not all(type(number) is int and number > 0 for number in value)
    ):
        raise ValueError(f"{name} must be [height, width], not {quoted(value)}")
    if value[0] * value[1] > MAX_PIXELS:
        raise ValueError(f"{name} has more than {MAX_PIXELS:,} pixels")
    return value[0], value[1]


def _rle(record: dict[str, Any], size: tuple[int, int], folder: Path) -> tuple[Rle, bool]:
    """The target of a line, from an RLE, a mask file, or nothing, and whether a file was thresholded."""
    mask = record.get("mask")
    if isinstance(mask, dict):
        return _rle_of(mask, record["image"], size), False
    if isinstance(mask, str):
        pixels, thresholded = read_target(file_in(folder, mask))
        check_size(record["image"], size, pixels.shape)
        return masks.encode_rle(pixels), thresholded
    if mask is None and record["task"] == "no_target":
        return masks.encode_rle(np.zeros(size, bool)), False
    raise ValueError(f"mask must be an RLE or a path, not {quoted(mask)}")


def _rle_of(mask: Yaml, image: str, size: tuple[int, int]) -> Rle:
    """An RLE of a line about an image of `size`, with compressed counts; errors as in `_parse`."""
    if not isinstance(mask, dict):
        raise ValueError(f"an instance must be an RLE, not {quoted(mask)}")
    check_size(image, size, _size(mask.get("size"), "the size of mask"))
    if isinstance(mask.get("counts"), str):
        masks.area(mask)  # checks the counts
        return cast(Rle, {"size": mask["size"], "counts": mask["counts"]})
    return masks.encode_rle(masks.decode_rle(mask))


def _visible(path: Path) -> bool:
    return path.is_file() and not path.name.startswith(".")


def _is_image_name(path: Path) -> bool:
    """Whether a path, which may be a pipe or a broken link, is named as an image."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _paired(
    root: Path, split: str, base: Path, options: ReadOptions, on_left_out: OnLeftOut
) -> Iterator[Sample]:
    """Samples of images and masks with the same stem."""
    legends = (inside(root, name) for name in (Path(split) / "classes.json", "classes.json"))
    legend = next((read_legend(path) for path in legends if path.is_file()), None)
    files = [path for path in sorted((base / "images").iterdir()) if _visible(path) or _is_image_name(path)]
    mask_of = {path.stem: path for path in sorted((base / "masks").iterdir()) if _visible(path)}
    prefix = base.resolve().relative_to(root.resolve())
    stems = set()
    for path in files:
        image = (prefix / "images" / path.name).as_posix()
        try:
            if not path.is_file():
                raise GeoClickError(f"{path} is no plain file; replace or remove it.")
            if path.stem in stems:
                raise GeoClickError(f"{path} shares its name with another image; rename one of the two.")
            if path.stem not in mask_of:
                raise GeoClickError(f"{path} has no mask; add {base / 'masks' / path.stem}.png.")
            stems.add(path.stem)
            size = image_size(inside(base, path.relative_to(base)))
            mask = inside(base, mask_of[path.stem].relative_to(base))
            sample = partial(
                Sample, dataset=NAME, split=split, task="semantic", root=root, image=image, size=size
            )
            if legend is None:
                samples = [_of_target(image, path.stem, mask, options.query, sample, on_left_out)]
            else:
                samples = _of_colors(image, path.stem, mask, legend, options, sample, on_left_out)
        except GeoClickError as error:
            on_left_out(LeftOut(image, "broken image or mask", str(error)))
            continue
        yield from samples


def _of_target(
    image: str, stem: str, path: Path, query: str, sample: Callable[..., Sample], on_left_out: OnLeftOut
) -> Sample:
    """The sample of a mask without classes; `sample` lacks what differs between samples."""
    target, thresholded = read_target(path)
    result = sample(sample_id=stem, query=query, rle=masks.encode_rle(target))
    check_size(image, result.size, target.shape)
    if thresholded:
        on_left_out(LeftOut(image, THRESHOLDED))
    return result


def _of_colors(
    image: str,
    stem: str,
    path: Path,
    legend: Legend,
    options: ReadOptions,
    sample: Callable[..., Sample],
    on_left_out: OnLeftOut,
) -> list[Sample]:
    """The samples of a color mask, one for each class or component."""
    codes = read_codes(path)
    valid = valid_pixels(codes, legend)
    sample = partial(sample, valid_rle=None if valid.all() else masks.encode_rle(valid))
    unknown = unknown_pixels(codes, legend)
    if unknown == codes.size:
        raise GeoClickError(
            f"{path} has no color of classes.json; add its colors there, or replace the mask."
        )
    if options.components:
        regions = _of_allowed_area(image, codes, legend, options, on_left_out)
        samples = [_of_component(stem, region, codes.shape, sample) for region in regions]
        _count_contradictions(image, samples, on_left_out)
    else:
        samples = [
            sample(
                sample_id=f"{stem}/{slug(name)}",
                query=name.lower(),
                rle=masks.encode_rle(codes == code),
                category=name,
            )
            for name, code in legend.classes.items()
        ]
    for first in samples[:1]:
        check_size(image, first.size, codes.shape)
    if unknown:
        on_left_out(LeftOut(image, "pixels of unknown colors, ignored", count=unknown))
    if not valid.any():
        on_left_out(LeftOut(image, "no pixel that is scored", count=len(samples)))
        return []
    return samples


def _count_contradictions(image: str, samples: list[Sample], on_left_out: OnLeftOut) -> None:
    """Report the samples of an image that have the query of another one and a different target."""
    rows = contradictions.QuestionTargets()
    for sample in samples:
        rows.add(sample.image, sample.query, sample.rle)
    if count := rows.count().contradicting:
        reason = "components that contradict others (same image and query, another target), still used"
        on_left_out(LeftOut(image, reason, count=count))


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
    return sample(
        sample_id=f"{stem}-{slug(region.category)}-{region.start[0]}-{region.start[1]}",
        query=region.category.lower(),
        rle=masks.encode_rle(mask),
        category=region.category,
    )
