"""Tiny copies of the referring and reasoning benchmarks, with the peculiarities of the real ones.

Each image is a scene, resized to the benchmark's size. The peculiarities alternate with the number of the image, so
that four images have all of them; every copy can be read without a failure.
"""

import codecs
import json
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from geoclick import files, masks
from geoclick.datasets import earthreason, phrase_lists, rrsis_d
from geoclick.datasets.mask_files import resize_mask
from geoclick.scenes.drawing import sample_scene, target_mask
from geoclick.scenes.kinds import KINDS
from geoclick.scenes.queries import Query, rephrase

SPLITS = ("train", "val", "test")
OTHER_COUNT = 2
"""Images of each split that is not scored."""

RRSIS_D_SIZES = ((800, 800), (801, 800), (800, 800), (787, 800))
EARTHREASON_SIZES = ((600, 600), (256, 256), (123, 140), (1024, 768))
PHRASE_SIZE = (512, 512)
"""Of RefSegRS and RISBench."""


@dataclass(frozen=True)
class Drawn:
    """A scene with a query.

    Attributes:
        image: uint8 [H, W, 3] at the benchmark's size.
        target: bool [256, 256] at the scene's own.
        query: the query.
        texts: several phrasings of it.
    """

    image: np.ndarray
    target: np.ndarray
    query: Query
    texts: list[str]


def _draw(seed: int, split: str, number: int, task: str, size: tuple[int, int]) -> Drawn:
    image, ids, (query,) = sample_scene(seed, split, number, (task,))
    target = target_mask(ids, query)
    height, width = size
    resized = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))
    rng = np.random.default_rng([seed, number, SPLITS.index(split)])
    return Drawn(resized, target, query, [query.text, *(rephrase(query, rng) for _ in range(5))])


def _images(count: int) -> list[tuple[str, int]]:
    """(split, number) of every image of a copy."""
    counts = dict.fromkeys(SPLITS, OTHER_COUNT) | {"test": count}
    return [(split, number) for split, images in counts.items() for number in range(images)]


def write_rrsis_d(root: Path, count: int, seed: int) -> None:
    """RRSIS-D: a REFER pickle, COCO records, JPEGs of 800x800.

    Peculiarities: one row more or 13 rows fewer than the mask; a mask in two planes that overlap; three sentences, one
    of them empty.
    """
    names = list(KINDS)
    refs: list[dict[str, Any]] = []
    content: dict[str, list[dict[str, Any]]] = {
        "images": [],
        "annotations": [],
        "categories": [{"supercategory": "object", "id": i, "name": name} for i, name in enumerate(names, 1)],
    }
    (root / rrsis_d.IMAGES).mkdir(parents=True, exist_ok=True)
    for split, number in _images(count):
        drawn = _draw(seed, split, number, "referring", RRSIS_D_SIZES[number % 4])
        ident = len(refs) + 1
        file_name, category = f"{ident:05d}.jpg", names.index(drawn.query.kinds[0]) + 1
        Image.fromarray(drawn.image).save(root / rrsis_d.IMAGES / file_name, quality=95)
        mask = resize_mask(drawn.target, (800, 800))
        box = _box(mask)
        content["images"].append({"file_name": file_name, "height": 800, "width": 800, "id": ident})
        content["annotations"].append(
            {
                "id": ident,
                "image_id": ident,
                "categories_id": category,
                "segmentation": [masks.encode_rle(plane) for plane in _planes(mask, box, number % 4 == 2)],
                "area": int(mask.sum()),
                "bbox": box,
                "iscrowd": 0,
            }
        )
        texts = [drawn.texts[0], "", drawn.texts[1]] if number % 4 == 3 else drawn.texts[:1]
        refs.append(_ref(ident, category, split, file_name, texts))
    (root / rrsis_d.INSTANCES).parent.mkdir(parents=True, exist_ok=True)
    files.write_whole(root / rrsis_d.INSTANCES, json.dumps(content))
    with files.whole(root / rrsis_d.REFS) as partial:
        # The protocol of Python 3.7, for which the dataset's own code was written.
        partial.write_bytes(pickle.dumps(refs, protocol=3))


def _box(mask: np.ndarray) -> list[int]:
    """The bounding box of a mask that is not empty: left, top, right and bottom."""
    box = masks.bounding_box(mask)
    assert box is not None
    rows, columns = box
    return [columns.start, rows.start, columns.stop, rows.stop]


def _planes(mask: np.ndarray, box: list[int], several: bool) -> list[np.ndarray]:
    """A mask as one plane, or as two planes that share a column."""
    if not several:
        return [mask]
    columns, middle = np.arange(mask.shape[1]), (box[0] + box[2]) // 2
    return [mask & (columns <= middle), mask & (columns >= middle)]


def _ref(ident: int, category: int, split: str, file_name: str, texts: list[str]) -> dict[str, Any]:
    """A record in REFER's format."""
    sentences = [
        {"raw": text, "sent": text.lower(), "sent_id": 10 * ident + i, "tokens": text.lower().split()}
        for i, text in enumerate(texts)
    ]
    return {
        "sent_ids": [sentence["sent_id"] for sentence in sentences],
        "file_name": file_name,
        "ann_id": ident,
        "ref_id": ident,
        "image_id": ident,
        "split": split,
        "sentences": sentences,
        "category_id": category,
    }


def write_earthreason(root: Path, count: int, seed: int) -> None:
    """EarthReason: images of any size, six questions each.

    Peculiarities: an empty target without an answer; a label of 0 and 1; one with a palette; a PNG instead of a JPEG;
    a byte order mark.
    """
    for split, number in _images(count):
        turn = number % 4
        task = "no_target" if turn == 1 else "reasoning"
        size = EARTHREASON_SIZES[turn]
        drawn = _draw(seed, split, number, task, size)
        folders = {name: root / split / name for name in earthreason.FOLDERS}
        for folder in folders.values():
            folder.mkdir(parents=True, exist_ok=True)
        stem = f"{split}_{number:04d}"
        suffix = ".png" if turn == 2 else ".jpg"
        Image.fromarray(drawn.image).save(folders["images"] / f"{stem}{suffix}", quality=95)
        mask = resize_mask(drawn.target, size)
        label = Image.fromarray(mask.astype(np.uint8) * (1 if turn in (2, 3) else 255))
        if turn == 3:
            label = label.convert("P")
            label.putpalette([0, 0, 0, 0, 0, 1])
        label.save(folders["labels"] / f"{stem}.png")
        answers = [] if task == "no_target" else [f"It is the {drawn.query.kinds[0]}."] * 3
        text = json.dumps({"questions": drawn.texts, "answer": answers}, ensure_ascii=False)
        mark = codecs.BOM_UTF8 if turn == 2 else b""
        (folders["QAs"] / f"{stem}.json").write_bytes(mark + text.encode())


def write_refsegrs(root: Path, count: int, seed: int) -> None:
    """RefSegRS: TIFFs named by numbers, masks in RGB.

    Peculiarities: a gray mask; one whose background is dark gray.
    """
    _write_phrase_list(root, count, seed, phrase_lists.REFSEGRS, dict.fromkeys(SPLITS, "{}"), background=30)


def write_risbench(root: Path, count: int, seed: int) -> None:
    """RISBench: PNGs, the names of val begin with train.

    Peculiarities: gray and RGB masks.
    """
    names = {"train": "train_{}_0.png", "val": "train_{}_1.png", "test": "test_{}_0.png"}
    _write_phrase_list(root, count, seed, phrase_lists.RISBENCH, names, background=0)


def _write_phrase_list(
    root: Path, count: int, seed: int, layout: phrase_lists.Layout, names: dict[str, str], background: int
) -> None:
    """The images, masks and phrases of a layout.

    `names` are patterns by split, with a placeholder for the number; `background` is the gray value around the target
    in every fourth mask.
    """
    for folder in (layout.images, layout.masks):
        (root / folder).mkdir(parents=True, exist_ok=True)
    lines: dict[str, str] = dict.fromkeys(SPLITS, "")
    for unique, (split, number) in enumerate(_images(count), 1):
        drawn = _draw(seed, split, number, "referring", PHRASE_SIZE)
        name = names[split].format(unique)
        Image.fromarray(drawn.image).save(root / layout.images / f"{name}{layout.suffix}", compress_level=1)
        around = background if number % 4 == 2 else 0
        mask = np.where(resize_mask(drawn.target, PHRASE_SIZE), 255, around).astype(np.uint8)
        label = Image.fromarray(mask) if number % 2 else Image.fromarray(mask).convert("RGB")
        label.save(root / layout.masks / f"{name}{layout.suffix}")
        lines[split] += f"{name} {drawn.texts[0]}\n"
    for split, text in lines.items():
        files.write_whole(root / phrase_lists.PHRASES.format(split=split), text)


REFERRING = {
    "rrsis-d": write_rrsis_d,
    "earthreason": write_earthreason,
    "refsegrs": write_refsegrs,
    "risbench": write_risbench,
}
