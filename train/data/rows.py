"""Click store to training rows: tokens of a prompt and its answer, and the path of an image."""

from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import NotRequired, TypedDict

from datasets import Dataset

from geoclick import chat_rows, store
from geoclick.chat_rows import ChatRow, ImagePaths
from geoclick.errors import GeoClickError
from geoclick.train.augmentation.image_views import ImageView
from geoclick.train.data import task_weights
from geoclick.vlms import encoding
from geoclick.vlms.loading import Vlm

BLOCK = 1024
"""Rows that are encoded together."""


class TrainingRow(TypedDict):
    """What the collators take.

    Attributes:
        images: the paths of the images in the order of their image tokens; there may be none.
        size: height and width of the first image in pixels, then those of the next one.
        prompt_ids: tokens of the prompt, one image token for each image.
        completion_ids: tokens of the answer.
        view: what an augmented row shows of the image.
        source: number of its source, in a run with several.
        kind: of its answer, see `geoclick.train.data.task_weights`; other rows than clicks have none.
    """

    images: list[str]
    size: list[int]
    prompt_ids: list[int]
    completion_ids: list[int]
    view: NotRequired[ImageView]
    kind: NotRequired[str]
    source: NotRequired[int]


class RawRow(TrainingRow):
    """A training row with what `geoclick.train.augmentation.augment` needs.

    Attributes:
        sample_id: of the sample.
        task: of the sample.
        image: as the store names it.
        query: the user's text.
        mask: the counts of the target's RLE.
        clicks: [x, y, 1 or 0] of each click of the answer, in pixels.
        parts: number of clicks of each part.
        answer_format: of the row's source.
    """

    sample_id: str
    task: str
    image: str
    query: str
    mask: str
    clicks: list[list[float]]
    parts: list[int]
    answer_format: str


def build(
    clicks: str | Path,
    root: str | Path,
    vlm: Vlm,
    *,
    answer_format: str,
    max_clicks: int,
    min_iou: float,
    answer_end: str = "best",
    held_out: Container[str] = (),
    raw: bool = False,
) -> tuple[Dataset, dict[str, int]]:
    """The training rows of a click store.

    Chats are encoded here, once; images stay on disk until the collator opens them.

    Args:
        clicks: folder of the click store.
        root: folder that the store's image paths are relative to.
        vlm: its processor encodes the chats, and its family writes the clicks.
        answer_format: `json` or `compact`.
        max_clicks: clicks of a part at most; see `chat_rows.answer_parts`.
        min_iou: smallest IoU of the mask after those clicks; rows without a target are always used.
        answer_end: see `chat_rows.answer_parts`.
        held_out: images, as the store names them, whose rows are left out.
        raw: add the columns that augmentation needs.

    Returns:
        A dataset with the columns of `TrainingRow`, or those of `RawRow`, and the number of rows left out by reason.

    Raises:
        GeoClickError: no or a broken store, a missing image, or no row left.
    """
    left_out: Counter[str] = Counter()
    stored = _without(held_out, store.read(clicks), left_out)
    usable = chat_rows.usable(
        stored, max_clicks=max_clicks, min_iou=min_iou, left_out=left_out, answer_end=answer_end
    )
    paths = ImagePaths(root)
    columns: dict[str, list[object]] = defaultdict(list)
    while block := list(islice(usable, BLOCK)):
        images = [paths[one.row.image] for one in block]
        chats = [
            chat_rows.chat(one.row.query, one.parts, vlm.frame(one.size, answer_format)) for one in block
        ]
        examples = encoding.encode_examples(vlm.processor, chats)
        for one, path, example in zip(block, images, examples, strict=True):
            values = {"images": [path], "size": list(one.size), **example._asdict()}
            values["kind"] = task_weights.kind_of(one.parts)
            if raw:
                values |= _raw_values(one) | {"answer_format": answer_format}
            for name, value in values.items():
                columns[name].append(value)
    if not columns:
        raise GeoClickError(
            f"{clicks} has no row to train on; lower min_iou or evaluate_samples, or make the store again."
        )
    return Dataset.from_dict(columns), dict(left_out)


def _without(
    held_out: Container[str], rows: Iterable[store.Row], left_out: Counter[str]
) -> Iterator[store.Row]:
    """The rows on other images; the held-out ones are counted."""
    for row in rows:
        if row.image in held_out:
            left_out["held out"] += 1
        else:
            yield row


def _raw_values(one: ChatRow) -> dict[str, object]:
    names = ("sample_id", "task", "image", "query")
    return {name: getattr(one.row, name) for name in names} | {
        "mask": one.row.mask["counts"],
        "clicks": [list(map(float, click)) for click in one.clicks],
        "parts": [len(part) for part in one.parts],
    }
