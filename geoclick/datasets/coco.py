"""COCO instances: one JSON file of images, annotations and categories, one sample for each annotation.

The file is the first of these that is there:

    ROOT/annotations/instances_SPLIT.json    as COCO itself has it
    ROOT/SPLIT.json
    ROOT/SPLIT/_annotations.coco.json        as Roboflow writes it

and `file_name` is looked for in ROOT/SPLIT, ROOT/images/SPLIT, ROOT/images and ROOT, in this order. The query is the
category's name in lower case. A segmentation is a list of polygons or an RLE, compressed or not. What `iscrowd` marks
is nobody's target: as COCO's own scoring does, its pixels do not count where its category is asked for, save those of
the target.

The format: https://cocodataset.org/#format-data; polygons are rasterised by COCO's own code.
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco

from geoclick import masks
from geoclick.datasets.reading import (
    LeftOut,
    OnLeftOut,
    ReadOptions,
    check_size,
    image_size,
    inside,
    raise_failures,
)
from geoclick.datasets.sample import Sample
from geoclick.errors import GeoClickError, UsageError

NAME = "coco"

ANNOTATIONS = ("annotations/instances_{split}.json", "{split}.json", "{split}/_annotations.coco.json")
"""Where the file of annotations may be, below the root."""

IMAGES = ("{split}", "images/{split}", "images", ".")
"""Where its images may be, below the root."""

MAX_COORDINATE = 1e6
"""Polygons reach no farther out; COCO's code counts in 32 bits, five steps to a pixel."""

MAX_OUTLINE = 4e6
"""Pixels that the outline of a polygon measures at most; COCO's code takes 40 bytes and more for each."""


@dataclass(frozen=True)
class Index:
    """What the file says.

    Attributes:
        images: the records of the images, in the file's order.
        annotations: the records of each image's annotations by its id, in the file's order.
        categories: names by id.
    """

    images: list[dict]
    annotations: dict[Any, list[dict]]
    categories: dict[Any, str]


def read(
    root: str | Path,
    split: str,
    *,
    options: ReadOptions | None = None,
    on_left_out: OnLeftOut = raise_failures,
) -> Iterator[Sample]:
    """The samples of one split: the images in the file's order, and the annotations of each in theirs.

    The file is read once, whole; its annotations are let go image by image.

    Args:
        root: the dataset's folder; `Sample.image` is relative to it.
        split: names the file and the folder of images, see the module.
        options: not needed here: no area is too small for an instance that somebody outlined.
        on_left_out: told of crowds, of annotations without a pixel, and of failures: missing images, images of
            another size than is said, unknown categories, broken segmentations.

    Raises:
        UsageError: the file of annotations is not there.
        GeoClickError: it is broken; or something in it is, unless `on_left_out` takes failures.
    """
    root = Path(root)
    tried = [name.format(split=split) for name in ANNOTATIONS]
    path = next((path for path in (inside(root, name) for name in tried) if path.is_file()), None)
    if path is None:
        raise UsageError(
            f"{root} holds no COCO annotations for the split {split!r}: none of {', '.join(tried)}; "
            "name another --root or --split."
        )
    return _samples(root, split, read_index(path, on_left_out), on_left_out)


def read_index(path: Path, on_left_out: OnLeftOut = raise_failures) -> Index:
    """The content of a COCO file, annotations sorted to their images.

    Raises:
        GeoClickError: it is no such file; or a record is broken, unless `on_left_out` takes failures.
    """
    content = read_content(path)
    images = [record for record in content["images"] if _identified(record, "image", path, on_left_out)]
    known = {record["id"] for record in images}
    if len(known) < len(images):
        raise GeoClickError(f"{path} gives two images the same id; number them anew.")
    annotations: dict[Any, list[dict]] = defaultdict(list)
    seen = set()
    for record in content["annotations"]:
        if not _identified(record, "annotation", path, on_left_out):
            continue
        name, image = f"annotation {record['id']}", record.get("image_id")
        if record["id"] in seen:
            on_left_out(
                LeftOut(name, "broken annotation", f"{path} has {name} twice; give each an id of its own.")
            )
        elif type(image) not in (int, str) or image not in known:
            on_left_out(
                LeftOut(name, "unknown image", f"{name} is of image {image!r}, which {path} lacks; add it.")
            )
        else:
            seen.add(record["id"])
            annotations[image].append(record)
    names = {
        record["id"]: record["name"]
        for record in content["categories"]
        if type(record.get("id")) in (int, str) and isinstance(record.get("name"), str)
    }
    return Index(images, dict(annotations), names)


def read_content(path: Path) -> dict[str, list[dict]]:
    """The lists of images, annotations and categories in a COCO file; raises GeoClickError when it has none."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise GeoClickError(f"{path} cannot be read as JSON ({error}); replace the file.") from error
    if not isinstance(content, dict) or not all(
        isinstance(content.get(key), list) and all(isinstance(record, dict) for record in content[key])
        for key in ("images", "annotations", "categories")
    ):
        raise GeoClickError(
            f"{path} must hold lists of objects under images, annotations and categories; give a COCO instances file."
        )
    return content


def _identified(record: dict, kind: str, path: Path, on_left_out: OnLeftOut) -> bool:
    """Whether a record has an id; it is reported when not."""
    number = record.get("id")
    if type(number) in (int, str):
        return True
    error = f"{path} holds an {kind} whose id is {number!r}; give each a number of its own."
    on_left_out(LeftOut(f"{kind} {number!r}", f"broken {kind}", error))
    return False


def _samples(root: Path, split: str, index: Index, on_left_out: OnLeftOut) -> Iterator[Sample]:
    for record in index.images:
        # Taken out, so that the memory of a large file shrinks on the way.
        annotations = index.annotations.pop(record["id"], [])
        if not annotations:
            continue
        try:
            image, size = _image(root, split, record)
        except GeoClickError as error:
            name = str(record.get("file_name"))
            on_left_out(LeftOut(name, "broken image", str(error), len(annotations)))
            continue
        common = {"dataset": NAME, "split": split, "root": root, "image": image, "size": size}
        yield from _of_image(annotations, index.categories, common, on_left_out)


def _image(root: Path, split: str, record: dict) -> tuple[str, tuple[int, int]]:
    """The path of an image relative to the root and its (height, width); raises GeoClickError."""
    name = record.get("file_name")
    if not isinstance(name, str) or not name:
        raise GeoClickError(f"The image {record['id']} has no file_name; add it to the annotations.")
    for folder in (base.format(split=split) for base in IMAGES):
        try:
            path = inside(root, Path(folder) / name)
            there = path.is_file()
        except (OSError, ValueError) as error:
            raise GeoClickError(
                f"{name[:80]!r} is no name of a file ({error}); mend the file_name."
            ) from error
        if there:
            size = image_size(path)
            # Some writers leave the size out; where it is given, every polygon is in its frame.
            said = tuple(
                side if record.get(key) is None else record[key]
                for key, side in zip(("height", "width"), size, strict=True)
            )
            check_size(name, size, said)
            return (Path(folder) / name).as_posix(), size
    places = ", ".join(base.format(split=split) for base in IMAGES[:-1])
    raise GeoClickError(f"{name} is in none of {places} below {root}; add the image or give another --root.")


def _of_image(
    annotations: list[dict], categories: dict[Any, str], common: dict, on_left_out: OnLeftOut
) -> Iterator[Sample]:
    """The samples of one image, all crowds first, since they bear on the others."""
    size = common["size"]
    crowds: dict[str, np.ndarray] = {}
    found: list[tuple[str, str, dict]] = []
    for record in annotations:
        name = f"annotation {record['id']}"
        category = _category(record, categories)
        if category is None:
            error = f"{name} has the category {record.get('category_id')!r}, which the file does not name; add it."
            on_left_out(LeftOut(name, "unknown category", error))
            continue
        try:
            rle = to_rle(record.get("segmentation"), size)
        except GeoClickError as error:
            on_left_out(LeftOut(name, "broken segmentation", f"{name} of {common['image']}: {error}"))
            continue
        if not masks.area(rle):
            on_left_out(LeftOut(name, "no pixel in it"))
        elif record.get("iscrowd"):
            on_left_out(LeftOut(name, "crowd, its pixels do not count"))
            mask = masks.decode_rle(rle)
            crowds[category] = mask | crowds[category] if category in crowds else mask
        else:
            found.append((str(record["id"]), category, rle))
    for sample_id, category, rle in found:
        crowd = crowds.get(category)
        yield Sample(
            sample_id=sample_id,
            task="semantic",
            query=category.lower(),
            rle=rle,
            valid_rle=None if crowd is None else masks.encode_rle(~crowd | masks.decode_rle(rle)),
            category=category,
            **common,
        )


def _category(record: dict, categories: dict[Any, str]) -> str | None:
    number = record.get("category_id")
    return categories.get(number) if type(number) in (int, str) else None


def to_rle(segmentation: Any, size: tuple[int, int]) -> dict[str, Any]:
    """A COCO segmentation as compressed RLE.

    Args:
        segmentation: polygons, each [x0, y0, x1, y1, ...] with (0, 0) the outer corner of the top left pixel, of
            which the union is taken; or an RLE, its counts a text or a list. An empty list is an empty mask.
        size: (height, width) of the image.

    Raises:
        GeoClickError: it is neither, its polygons are broken, or the RLE is of another size.
    """
    if isinstance(segmentation, dict):
        said = segmentation.get("size")
        if not isinstance(said, list) or tuple(said) != tuple(size):
            raise GeoClickError(
                f"the image is {size[1]}x{size[0]} pixels but the size of its RLE is {said!r}; "
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
    rle = coco.merge(coco.frPyObjects([_polygon(points) for points in segmentation], *size))
    return {"size": list(size), "counts": rle["counts"].decode("ascii")}


def _polygon(points: Any) -> np.ndarray:
    """A polygon's numbers, float [2 N], checked: COCO's code trusts them, and takes four for a box."""
    try:
        polygon = np.array(points, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        polygon = np.empty(0)
    if polygon.ndim != 1 or len(polygon) < 6 or len(polygon) % 2:
        raise GeoClickError("a polygon of it is not [x, y, ...] of three points or more; mend or remove it.")
    # Turned round so that it refuses a NaN too.
    if not np.abs(polygon).max() <= MAX_COORDINATE:
        raise GeoClickError(f"a polygon of it has coordinates beyond {MAX_COORDINATE:.0f}; mend it.")
    corners = polygon.reshape(-1, 2)
    outline = np.abs(corners - np.roll(corners, 1, axis=0)).max(axis=1).sum()
    if outline > MAX_OUTLINE:
        raise GeoClickError(
            f"the outline of a polygon of it is longer than {MAX_OUTLINE:.0f} pixels; mend it."
        )
    return polygon
