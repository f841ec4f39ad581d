"""RRSIS-D: sentences about mask_files, in the layout of REFER, from which it took the files.

    ROOT/rrsisd/refs(unc).p               a pickled list of refs, each a target with its sentences and its split
    ROOT/rrsisd/instances.json            COCO records of images, annotations and categories
    ROOT/images/rrsisd/JPEGImages/*.jpg

A segmentation is a list of RLEs, whose union is the target. Masks are 800x800 also where the image has a row or a
column more or less; they are stretched to it. Categories are named by the refs: the annotations call theirs
`categories_id`. What is asked is `raw`, as the published evaluations do.

The set: arXiv 2312.12470 (RMSIN); REFER: https://github.com/lichengunc/refer.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from geoclick import masks
from geoclick.datasets import coco, mask_files, plain_pickle
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

NAME = "rrsis-d"
REFS = "rrsisd/refs(unc).p"
INSTANCES = "rrsisd/instances.json"
IMAGES = "images/rrsisd/JPEGImages"


def read(
    root: str | Path,
    split: str,
    *,
    options: ReadOptions | None = None,
    on_left_out: OnLeftOut = raise_failures,
) -> Iterator[Sample]:
    """The samples of one split, in the order of the refs and of their sentences.

    Both files are read once, whole; images are opened one by one.

    Args:
        root: the folder that holds `rrsisd` and `images`.
        split: train, val or test.
        options: which sentence of a ref is asked; None takes its defaults.
        on_left_out: told of empty sentences, and of failures: refs without annotation or image, broken masks.

    Raises:
        UsageError: the root has no such files or no such split.
        GeoClickError: a file is broken; or something in it is, unless `on_left_out` takes failures.
    """
    root, options = Path(root), options or ReadOptions()
    if missing := [name for name in (REFS, INSTANCES) if not inside(root, name).is_file()]:
        raise UsageError(f"{root} lacks {missing[0]}; give --root the folder that holds rrsisd and images.")
    refs = plain_pickle.load(inside(root, REFS))
    if not isinstance(refs, list) or not all(isinstance(ref, dict) for ref in refs):
        raise GeoClickError(f"{root / REFS} must be a list of refs, each a dict; get the file anew.")
    chosen = [ref for ref in refs if ref.get("split") == split]
    if not chosen:
        known = ", ".join(sorted({str(ref.get("split")) for ref in refs})) or "none"
        raise UsageError(f"{root / REFS} has no ref of the split {split}; its splits are: {known}.")
    content = coco.read_content(inside(root, INSTANCES))
    # Of records with the same id REFER takes the last.
    records = {
        kind: {record["id"]: record for record in content[kind] if _is_id(record.get("id"))}
        for kind in ("images", "annotations", "categories")
    }
    return _samples(root, split, chosen, records, options, on_left_out)


def _is_id(value: Any) -> bool:
    return type(value) in (int, str)


def _samples(
    root: Path,
    split: str,
    refs: list[dict],
    records: dict[str, dict[Any, dict]],
    options: ReadOptions,
    on_left_out: OnLeftOut,
) -> Iterator[Sample]:
    seen = set()
    for ref in refs:
        number, category = ref.get("ref_id"), ref.get("category_id")
        try:
            if not _is_id(number) or str(number) in seen:
                raise GeoClickError(f"A ref of {REFS} has the ref_id {number!r}; give each one of its own.")
            seen.add(str(number))
            image, size, rle = _target(root, ref, records)
        except GeoClickError as error:
            on_left_out(LeftOut(f"ref {number}", "broken ref", str(error)))
            continue
        named = records["categories"].get(category) if _is_id(category) else None
        for sample_id, text in asked(_sentences(ref), str(number), options, on_left_out):
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


def _sentences(ref: dict) -> list[str]:
    """The sentences of a ref; one that is no text is empty."""
    found = ref.get("sentences")
    sentences = found if isinstance(found, list | tuple) else []
    texts = [s.get("raw") or s.get("sent") if isinstance(s, dict) else "" for s in sentences]
    return [text if isinstance(text, str) else "" for text in texts]


def _target(
    root: Path, ref: dict, records: dict[str, dict[Any, dict]]
) -> tuple[str, tuple[int, int], dict[str, Any]]:
    """The image of a ref relative to the root, its (height, width) and the RLE of the target; raises GeoClickError."""
    found = {}
    for kind, key in (("images", "image_id"), ("annotations", "ann_id")):
        number = ref.get(key)
        found[kind] = records[kind].get(number) if _is_id(number) else None
        if found[kind] is None:
            raise GeoClickError(
                f"Ref {ref['ref_id']} has the {key} {number!r}, which {INSTANCES} lacks; add it."
            )
    name = found["images"].get("file_name")
    if not isinstance(name, str):
        raise GeoClickError(f"The image {ref['image_id']} of {INSTANCES} has no file_name; add it.")
    image = f"{IMAGES}/{name}"
    size = image_size(file_in(root, image))
    try:
        return image, size, _rle(found["annotations"].get("segmentation"), size)
    except GeoClickError as error:
        raise GeoClickError(f"Annotation {ref['ann_id']} of {name}: {error}") from error


def _rle(segmentation: Any, size: tuple[int, int]) -> dict[str, Any]:
    """A segmentation as one RLE in the frame of its image: planes merged, then stretched to (height, width)."""
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
    return masks.encode_rle(mask_files.fitted(masks.decode_rle(planes), size))
