"""COCO instances: one JSON file of images, annotations and categories, one sample for each annotation.

The annotation file is the first of these that exists:

    ROOT/annotations/instances_SPLIT.json    as in COCO itself
    ROOT/SPLIT.json
    ROOT/SPLIT/_annotations.coco.json        as exported by Roboflow

Images are looked up by `file_name` in ROOT/SPLIT, ROOT/images/SPLIT, ROOT/images and ROOT, in this order; if it is in
none, also with backslashes as slashes and with `%20` and the like decoded. The query is the category's name in lower
case. A segmentation is a list of polygons or an RLE, compressed or not; polygons of fewer than three points next to
others are ignored and counted. Ids may be numbers or texts: 1, 1.0 and "1" are the same id.

Annotations with `iscrowd` are no targets: as in COCO's own scoring, their pixels are not scored for queries of their
category, except those of the target. `--crowds` makes them targets, which CVAT's brush masks need. Annotations of a
category in an image ask the same question and have different targets, so they contradict each other; with `--by-class`,
a sample is an image and a category, and its target is the union of the annotations. With `--empty-images`, an image
without annotations is a sample without target for each category.

Format: https://cocodataset.org/#format-data. Polygons are rasterized by pycocotools.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from geoclick import masks
from geoclick.datasets.reading import (
    LeftOut,
    OnLeftOut,
    ReadOptions,
    check_size,
    image_size,
    inside,
    is_file_in,
    raise_failures,
)
from geoclick.datasets.sample import Sample
from geoclick.errors import GeoClickError, UsageError
from geoclick.masks import Rle

NAME = "coco"

ANNOTATIONS = ("annotations/instances_{split}.json", "{split}.json", "{split}/_annotations.coco.json")
"""Candidate paths of the annotation file, below the root."""

LISTS = ("images", "annotations", "categories")
"""Lists of objects that are read; a file may hold anything else besides."""

CROWD = "crowd, its pixels do not count; --crowds makes crowds targets"

IMAGES = ("{split}", "images/{split}", "images", ".")
"""Candidate folders of the images, below the root."""

MAX_COORDINATE = 1e6
"""Largest coordinate of a polygon; pycocotools computes with 32 bits, in fifths of a pixel."""

MAX_OUTLINE = 4e6
"""Longest outline of a polygon in pixels; pycocotools takes 40 bytes or more for each."""

_IDS = ("id", "image_id", "category_id")

Json = dict[str, Any]
"""A record of the annotation file, of which nothing but its being an object has been checked."""


@dataclass(frozen=True)
class Index:
    """The content of an annotation file.

    Attributes:
        images: records of the images, in file order.
        annotations: records of the annotations by image id, in file order.
        categories: names by id.
    """

    images: list[Json]
    annotations: dict[int | str, list[Json]]
    categories: dict[int | str, str]


def read(root: Path, split: str, options: ReadOptions, on_left_out: OnLeftOut) -> Iterator[Sample]:
    """The samples by image, in file order, and by annotation.

    Annotations without a pixel are left out, and crowds unless `options.crowds`. An outlined instance is never too
    small.
    """
    candidates = [name.format(split=split) for name in ANNOTATIONS]
    path = next((path for path in (inside(root, name) for name in candidates) if path.is_file()), None)
    if path is None:
        raise UsageError(
            f"{root} holds no COCO annotations for the split {split!r}: none of {', '.join(candidates)}; "
            "name another --root or --split."
        )
    return _samples(root, split, read_index(path, on_left_out), options, on_left_out)


def is_id(value: object) -> bool:
    """Whether a value can be the id of a record."""
    return type(value) in (int, str)


def to_id(value: Any) -> Any:
    """An id in one form: floats and texts of whole numbers as integers; other values as they are."""
    if type(value) is float and value.is_integer():
        return int(value)
    if type(value) is str and len(value) < 20 and value.isdecimal() and str(int(value)) == value:
        return int(value)
    return value


def read_index(path: Path, on_left_out: OnLeftOut = raise_failures) -> Index:
    """The content of a COCO file, with the annotations grouped by image.

    Raises:
        GeoClickError: it is no such file; or a record is broken, unless `on_left_out` accepts failures.
    """
    content = read_content(path)
    for records in content.values():
        for record in records:
            record |= {key: to_id(record[key]) for key in _IDS if key in record}
    images = [record for record in content["images"] if _has_id(record, "image", path, on_left_out)]
    known = {record["id"] for record in images}
    if len(known) < len(images):
        raise GeoClickError(f"{path} gives two images the same id; renumber them.")
    annotations: dict[int | str, list[Json]] = defaultdict(list)
    seen = set()
    for record in content["annotations"]:
        if not _has_id(record, "annotation", path, on_left_out):
            continue
        name, image = f"annotation {record['id']}", record.get("image_id")
        if record["id"] in seen:
            error = f"{path} has {name} twice; give each annotation its own id."
            on_left_out(LeftOut(name, "broken annotation", error))
        elif not is_id(image) or image not in known:
            error = f"{name} is of image {image!r}, which {path} lacks; add the image."
            on_left_out(LeftOut(name, "unknown image", error))
        else:
            seen.add(record["id"])
            annotations[record["image_id"]].append(record)
    names = {
        record["id"]: record["name"]
        for record in content["categories"]
        if is_id(record.get("id")) and isinstance(record.get("name"), str)
    }
    return Index(images, dict(annotations), names)


def read_content(path: Path) -> dict[str, list[Json]]:
    """The lists of images, annotations and categories in a COCO file; raises GeoClickError if it has none."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise GeoClickError(f"{path} cannot be read as JSON ({error}); replace the file.") from error
    if not isinstance(content, dict) or not all(
        isinstance(content.get(key), list) and all(isinstance(record, dict) for record in content[key])
        for key in LISTS
    ):
        raise GeoClickError(
            f"{path} must hold lists of objects under images, annotations and categories; give a COCO instances file."
        )
    return {key: content[key] for key in LISTS}


def _has_id(record: Json, kind: str, path: Path, on_left_out: OnLeftOut) -> bool:
    """Whether a record has an id; a record without one is reported."""
    number = record.get("id")
    if is_id(number):
        return True
    error = f"{path} holds an {kind} with the id {number!r}; give each a number of its own."
    on_left_out(LeftOut(f"{kind} {number!r}", f"broken {kind}", error))
    return False


def _samples(
    root: Path, split: str, index: Index, options: ReadOptions, on_left_out: OnLeftOut
) -> Iterator[Sample]:
    for record in index.images:
        # Removed from the index, so that its memory is freed image by image.
        annotations = index.annotations.pop(record["id"], [])
        if not annotations and not options.empty_images:
            continue
        try:
            image, size = _image(root, split, record)
        except GeoClickError as error:
            name = str(record.get("file_name"))
            on_left_out(LeftOut(name, "broken image", str(error), max(len(annotations), 1)))
            continue
        sample = partial(Sample, dataset=NAME, split=split, root=root, image=image, size=size)
        if annotations:
            targets, crowds = _decode(annotations, index.categories, image, size, options.crowds, on_left_out)
            if options.by_class:
                targets = _united(targets, record["id"], index.categories)
            yield from _of_image(targets, crowds, sample)
        else:
            yield from _without_target(record["id"], index.categories, size, sample)


def _without_target(
    number: int | str, categories: dict[int | str, str], size: tuple[int, int], sample: Callable[..., Sample]
) -> Iterator[Sample]:
    """The samples of an image without annotations, one for each category."""
    empty = masks.encode_rle(np.zeros(size, bool))
    for category, name in categories.items():
        sample_id = f"image-{number}-category-{category}"
        yield sample(sample_id=sample_id, task="no_target", query=name.lower(), rle=empty, category=name)


def _united(
    targets: list[tuple[str, str, Rle]], number: int | str, categories: dict[int | str, str]
) -> list[tuple[str, str, Rle]]:
    """The targets of an image, one for each of its categories, in the file's order."""
    from pycocotools import mask as pycoco

    united = []
    # Several categories may have one name.
    ids = {name: category for category, name in reversed(categories.items())}
    for name, category in reversed(ids.items()):
        if rles := [rle for _, own, rle in targets if own == name]:
            rle = pycoco.merge(rles)
            counts = rle["counts"].decode("ascii")
            sample_id = f"image-{number}-category-{category}"
            united.append((sample_id, name, Rle(size=rles[0]["size"], counts=counts)))
    return united


def _image(root: Path, split: str, record: Json) -> tuple[str, tuple[int, int]]:
    """The path of an image relative to the root and its (height, width); raises GeoClickError."""
    name = record.get("file_name")
    if not isinstance(name, str) or not name:
        raise GeoClickError(f"The image {record['id']} has no file_name; add it to the annotations.")
    # As it is; as written on Windows; as in an address.
    names = dict.fromkeys([name, name.replace("\\", "/"), unquote(name), unquote(name).replace("\\", "/")])
    folders = [candidate.format(split=split) for candidate in IMAGES]
    for path in (Path(folder) / spelling for spelling in names for folder in folders):
        if is_file_in(root, path):
            size = image_size(inside(root, path))
            # Some writers omit the size; if it is given, the polygons refer to it.
            recorded = tuple(
                side if record.get(key) is None else record[key]
                for key, side in zip(("height", "width"), size, strict=True)
            )
            check_size(name, size, recorded)
            return path.as_posix(), size
    places = ", ".join(folders[:-1])
    raise GeoClickError(f"{name} is in none of {places} below {root}; add the image or give another --root.")


def _decode(
    annotations: list[Json],
    categories: dict[int | str, str],
    image: str,
    size: tuple[int, int],
    use_crowds: bool,
    on_left_out: OnLeftOut,
) -> tuple[list[tuple[str, str, Rle]], dict[str, np.ndarray]]:
    """The targets of one image as (id, category, RLE), and the pixels of the crowds of each category."""
    targets: list[tuple[str, str, Rle]] = []
    crowds: dict[str, np.ndarray] = {}
    for record in annotations:
        name, number = f"annotation {record['id']}", record.get("category_id")
        if not is_id(number) or number not in categories:
            error = f"{name} has the category {number!r}, which the file does not name; add it."
            on_left_out(LeftOut(name, "unknown category", error))
            continue
        category = categories[record["category_id"]]
        try:
            segmentation, stubs = _without_stubs(record.get("segmentation"))
            rle = to_rle(segmentation, size)
        except GeoClickError as error:
            on_left_out(LeftOut(name, "broken segmentation", f"{name} of {image}: {error}"))
            continue
        if stubs:
            on_left_out(LeftOut(name, "polygons of fewer than three points, ignored", count=stubs))
        if not masks.area(rle):
            on_left_out(LeftOut(name, "no pixel in it"))
        elif _is_crowd(record) and not use_crowds:
            on_left_out(LeftOut(name, CROWD))
            mask = masks.decode_rle(rle)
            crowds[category] = mask | crowds[category] if category in crowds else mask
        else:
            targets.append((str(record["id"]), category, rle))
    return targets, crowds


def _is_crowd(record: Json) -> bool:
    """Whether an annotation is a crowd; the mark may be a number, a boolean or a text."""
    return str(record.get("iscrowd") or 0).lower() not in ("0", "0.0", "false")


def _without_stubs(segmentation: Any) -> tuple[Any, int]:
    """A segmentation without its polygons of one or two points, if it has others, and their number."""
    if not isinstance(segmentation, list):
        return segmentation, 0
    good = [points for points in segmentation if not (isinstance(points, list) and len(points) in (0, 2, 4))]
    return (good, len(segmentation) - len(good)) if good else (segmentation, 0)


def _of_image(
    targets: list[tuple[str, str, Rle]], crowds: dict[str, np.ndarray], sample: Callable[..., Sample]
) -> Iterator[Sample]:
    """The samples of one image; `sample` lacks what differs between them."""
    for sample_id, category, rle in targets:
        crowd = crowds.get(category)
        yield sample(
            sample_id=sample_id,
            task="semantic",
            query=category.lower(),
            rle=rle,
            valid_rle=None if crowd is None else masks.encode_rle(~crowd | masks.decode_rle(rle)),
            category=category,
        )


def to_rle(segmentation: Any, size: tuple[int, int]) -> Rle:
    """A COCO segmentation as compressed RLE.

    Args:
        segmentation: polygons, each [x0, y0, x1, y1, ...] with (0, 0) the outer corner of the top left pixel, whose
            union is the mask; or an RLE with its counts as text or list. An empty list is an empty mask.
        size: (height, width) of the image.

    Raises:
        GeoClickError: it is neither, a polygon is broken, or the RLE is of another size.
    """
    from pycocotools import mask as pycoco

    if isinstance(segmentation, dict):
        recorded = segmentation.get("size")
        if not isinstance(recorded, list) or tuple(recorded) != tuple(size):
            raise GeoClickError(
                f"the image is {size[1]}x{size[0]} pixels but the size of its RLE is {recorded!r}; "
                "make it [height, width] of the image."
            )
        counts = segmentation.get("counts")
        if isinstance(counts, str):
            masks.area(segmentation)
            return {"size": list(size), "counts": counts}
        return masks.encode_rle(masks.decode_rle(segmentation))
    if not isinstance(segmentation, list):
        raise GeoClickError("its segmentation is neither polygons nor an RLE; add one.")
    if not segmentation:
        return masks.encode_rle(np.zeros(size, bool))
    rle = pycoco.merge(pycoco.frPyObjects([_polygon(points) for points in segmentation], *size))
    return {"size": list(size), "counts": rle["counts"].decode("ascii")}


def _polygon(points: Any) -> np.ndarray:
    """A polygon's numbers, float [2 N], validated: pycocotools trusts them, and takes four numbers for a box."""
    try:
        polygon = np.array(points, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        polygon = np.empty(0)
    if polygon.ndim != 1 or len(polygon) < 6 or len(polygon) % 2:
        raise GeoClickError(
            "one of its polygons is not [x, y, ...] of three points or more; fix or remove it."
        )
    # `not <=` refuses NaN too.
    if not np.abs(polygon).max() <= MAX_COORDINATE:
        raise GeoClickError(f"one of its polygons has coordinates beyond {MAX_COORDINATE:.0f}; fix it.")
    corners = polygon.reshape(-1, 2)
    outline = np.abs(corners - np.roll(corners, 1, axis=0)).max(axis=1).sum()
    if outline > MAX_OUTLINE:
        raise GeoClickError(
            f"the outline of one of its polygons is longer than {MAX_OUTLINE:.0f} pixels; fix it."
        )
    return polygon
