"""RRSIS-D: sentences about targets, in the layout of REFER.

    ROOT/rrsisd/refs(unc).p               a pickled list of refs, each a target with its sentences and its split
    ROOT/rrsisd/instances.json            COCO records of images, annotations and categories
    ROOT/images/rrsisd/JPEGImages/*.jpg

The splits are `train`, `val` and `test`. A segmentation is a list of RLEs, whose union is the target. Masks are 800x800
even if the image has a few rows or columns more or less; they are resized to the image. The category is that of the
ref. The query is `raw` of the sentence, as in published evaluations.
"""

import reprlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geoclick import masks
from geoclick.datasets import coco, mask_files, plain_pickle, question_selection
from geoclick.datasets.coco import Json, is_id
from geoclick.datasets.reading import LeftOut, OnLeftOut, ReadOptions, file_in, image_size, inside
from geoclick.datasets.sample import Sample
from geoclick.errors import GeoClickError, UsageError
from geoclick.masks import Rle

NAME = "rrsis-d"
REFS = "rrsisd/refs(unc).p"
INSTANCES = "rrsisd/instances.json"
IMAGES = "images/rrsisd/JPEGImages"


@dataclass(frozen=True)
class Records:
    """The COCO records by id; of several records with the same id the last one, as in REFER."""

    images: dict[Any, Json]
    annotations: dict[Any, Json]
    categories: dict[Any, Json]


def read(root: Path, split: str, options: ReadOptions, on_left_out: OnLeftOut) -> Iterator[Sample]:
    """The samples in the order of the refs, and of the sentences of each.

    Empty sentences are left out. A ref without annotation or image is a failure.
    """
    if missing := [name for name in (REFS, INSTANCES) if not inside(root, name).is_file()]:
        raise UsageError(f"{root} lacks {missing[0]}; give --root the folder that holds rrsisd and images.")
    refs = plain_pickle.load(inside(root, REFS))
    if not isinstance(refs, list) or not all(isinstance(ref, dict) for ref in refs):
        raise GeoClickError(f"{root / REFS} must be a list of refs, each a dict; download the file again.")
    of_split = [ref for ref in refs if ref.get("split") == split]
    if not of_split:
        # Bounded, as are all values of the pickle below: lists in it may contain each other.
        known = ", ".join(sorted({str(name) for ref in refs if is_id(name := ref.get("split"))})) or "none"
        raise UsageError(f"{root / REFS} has no ref of the split {split}; its splits are: {known}.")
    content = coco.read_content(inside(root, INSTANCES))
    records = Records(**{kind: _by_id(content[kind]) for kind in ("images", "annotations", "categories")})
    return _samples(root, split, of_split, records, options, on_left_out)


def _by_id(records: list[Json]) -> dict[Any, Json]:
    return {record["id"]: record for record in records if is_id(record.get("id"))}


def _samples(
    root: Path,
    split: str,
    refs: list[dict[Any, Any]],
    records: Records,
    options: ReadOptions,
    on_left_out: OnLeftOut,
) -> Iterator[Sample]:
    seen = set()
    for ref in refs:
        number, category = ref.get("ref_id"), ref.get("category_id")
        try:
            if not is_id(number) or str(number) in seen:
                shown = reprlib.repr(number)
                raise GeoClickError(f"A ref of {REFS} has the ref_id {shown}; give each ref its own.")
            seen.add(str(number))
            image, size, rle = _target(root, ref, records)
        except GeoClickError as error:
            name = number if is_id(number) else reprlib.repr(number)
            on_left_out(LeftOut(f"ref {name}", "broken ref", str(error)))
            continue
        named = records.categories.get(category) if is_id(category) else None
        for sample_id, text in question_selection.select(_sentences(ref), str(number), options, on_left_out):
            yield Sample(
                sample_id=sample_id,
                dataset=NAME,
                split=split,
                task="referring" if masks.area(rle) else "no_target",
                query=text,
                root=root,
                image=image,
                size=size,
                rle=rle,
                category=str(named.get("name", "")) if named else "",
            )


def _sentences(ref: dict[Any, Any]) -> list[str]:
    """The sentences of a ref; empty texts in place of other values."""
    value = ref.get("sentences")
    sentences = value if isinstance(value, list | tuple) else []
    texts = [s.get("raw") or s.get("sent") if isinstance(s, dict) else "" for s in sentences]
    return [text if isinstance(text, str) else "" for text in texts]


def _target(root: Path, ref: dict[Any, Any], records: Records) -> tuple[str, tuple[int, int], Rle]:
    """The image of a ref relative to the root, its (height, width) and the RLE of the target; raises GeoClickError."""
    image_record = _record(ref, "image_id", records.images)
    annotation = _record(ref, "ann_id", records.annotations)
    name = image_record.get("file_name")
    if not isinstance(name, str):
        raise GeoClickError(f"The image {ref['image_id']} of {INSTANCES} has no file_name; add it.")
    image = f"{IMAGES}/{name}"
    size = image_size(file_in(root, image))
    try:
        return image, size, _rle(annotation.get("segmentation"), size)
    except GeoClickError as error:
        raise GeoClickError(f"Annotation {ref['ann_id']} of {name}: {error}") from error


def _record(ref: dict[Any, Any], key: str, records: dict[Any, Json]) -> Json:
    """The record whose id a ref names; raises GeoClickError if there is none."""
    number = ref.get(key)
    if not is_id(number) or number not in records:
        raise GeoClickError(
            f"Ref {reprlib.repr(ref['ref_id'])} has the {key} {reprlib.repr(number)}, which {INSTANCES} lacks; add it."
        )
    return records[number]


def _rle(segmentation: Any, size: tuple[int, int]) -> Rle:
    """A segmentation as one RLE of its image: the union of its planes, resized to (height, width)."""
    planes = [segmentation] if isinstance(segmentation, dict) else segmentation
    if not isinstance(planes, list) or not planes or not all(isinstance(plane, dict) for plane in planes):
        return coco.to_rle(segmentation, size)
    for plane in planes:
        if not mask_files.is_near(plane.get("size"), size):
            raise GeoClickError(
                f"the image is {size[1]}x{size[0]} pixels but the size of its RLE is {plane.get('size')!r}; "
                "make it [height, width] of the image."
            )
    if len(planes) == 1 and tuple(planes[0]["size"]) == size:
        return coco.to_rle(planes[0], size)
    return masks.encode_rle(mask_files.resize_mask(masks.decode_rle(planes), size))
