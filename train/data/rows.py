"""The training rows of a click store: tokens of a prompt and its answer, and the path of an image."""

from collections.abc import Container, Hashable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from geoclick import chat_rows, mask_overlay
from geoclick.chat_rows import ChatRow, ImagePaths
from geoclick.codec import Frame
from geoclick.errors import GeoClickError
from geoclick.train.data import task_weights, token_lengths
from geoclick.train.data.lazy_rows import LazyRows
from geoclick.train.data.row_file import StoreFile
from geoclick.train.data.row_index import Limits, RowIndex, open_index
from geoclick.train.data.training_row import RawRow, TrainingRow
from geoclick.vlms import encoding, given
from geoclick.vlms.loading import Vlm, resized_size
from geoclick.vlms.processor import Processor

if TYPE_CHECKING:
    from geoclick.train.augmentation.augment import Augmentation


@dataclass(frozen=True)
class Rendering:
    """How rows of a click store become tokens.

    Attributes:
        processor: the VLM's.
        family: of the VLM.
        answer_format: `json` or `compact`.
        limits: of the answers.
        raw: give what augmentation needs in place of tokens, which differ in every epoch.
    """

    processor: Processor
    family: str
    answer_format: str
    limits: Limits
    raw: bool

    def __call__(self, ones: Sequence[ChatRow], paths: Sequence[str]) -> list[TrainingRow]:
        """The training rows of some rows, each with the path of its image."""
        if self.raw:
            return [self._raw(one, path) for one, path in zip(ones, paths, strict=True)]
        frames = {size: self._frame(size) for size in {one.size for one in ones}}
        examples = given.encode_rows(self.processor, ones, [frames[one.size] for one in ones])
        return [
            {
                "images": [mask_overlay.reference(path, one.row.shown)],
                "size": list(one.size),
                "prompt_ids": example.prompt_ids,
                "completion_ids": example.completion_ids,
                "kind": task_weights.kind_of(one.parts),
            }
            for one, path, example in zip(ones, paths, examples, strict=True)
        ]

    def _frame(self, size: tuple[int, int]) -> Frame:
        return Frame(self.family, self.answer_format, size, resized_size(self.processor, size))

    def _raw(self, one: ChatRow, path: str) -> RawRow:
        return {
            "images": [mask_overlay.reference(path, one.row.shown)],
            "size": list(one.size),
            "prompt_ids": [],
            "completion_ids": [],
            "kind": task_weights.kind_of(one.parts),
            "sample_id": one.row.sample_id,
            "task": one.row.task,
            "image": one.row.image,
            "query": one.row.query,
            "mask": one.row.mask["counts"],
            "clicks": [list(map(float, click)) for click in one.clicks],
            "parts": [len(part) for part in one.parts],
            "given": one.given,
            "answer_format": self.answer_format,
        }


class ClickRows(LazyRows):
    """The rows of a click store that are trained on.

    Args:
        store: the click store.
        index: its usable rows.
        chosen: places in the index of the rows that are trained on, int64 [N].
        paths: absolute path of each image of the store; empty for images without a chosen row.
        render: makes training rows.
    """

    def __init__(
        self,
        store: StoreFile,
        index: RowIndex,
        chosen: np.ndarray,
        paths: Sequence[str],
        render: Rendering,
    ) -> None:
        self.store, self.index, self.chosen = store, index, chosen
        self.paths, self.render = paths, render

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.chosen)

    def __getitems__(self, indices: Sequence[int]) -> list[TrainingRow]:
        """Some rows."""
        limits = self.render.limits
        places = self.chosen[np.asarray(indices, np.int64)]
        stored = self.store.rows(self.index.rows[places].tolist())
        ones = [
            ChatRow(row, chat_rows.answer_parts(row, limits.max_clicks, limits.answer_end)) for row in stored
        ]
        return self.render(ones, [self.paths[image] for image in self.index.image[places].tolist()])

    def images(self, index: int) -> tuple[list[str], list[int]]:
        """The image of a row."""
        place = self.chosen[index]
        return [self.paths[self.index.image[place]]], self.index.sizes[place].tolist()

    def image_sizes(self) -> dict[str, tuple[int, int]]:
        """The (height, width) of each image by its path."""
        sizes = map(tuple, self.index.sizes[self.chosen].tolist())
        return {
            self.paths[image]: size
            for image, size in zip(self.index.image[self.chosen].tolist(), sizes, strict=True)
        }

    @property
    def has_texts(self) -> bool:
        """Whether some rows have no image."""
        return False

    @property
    def draws_masks(self) -> bool:
        """Whether masks are drawn on the images of some rows."""
        return self.store.file.has_values("shown")

    def groups(self) -> list[Hashable]:
        """The image of each row."""
        shared = [(path,) for path in self.paths]
        return [shared[image] for image in self.index.image[self.chosen].tolist()]

    def text_lengths(self, augmentation: "Augmentation | None" = None) -> np.ndarray:
        """Tokens of prompt and answer of each row, int32 [N, 2]; those of all usable rows are cached."""
        # As if no row were held out, so that the evaluation of a run does not change what is cached.
        every = ClickRows(self.store, self.index, np.arange(len(self.index.rows)), self.paths, self.render)
        if augmentation is None and self.render.raw:
            every.render = replace(self.render, raw=False)
        source = [self.index.key, self.render.answer_format, self.render.family]
        lengths = token_lengths.cached(every, self.render.processor, source, augmentation)
        return lengths if len(self.chosen) == len(lengths) else lengths[self.chosen]

    def visual_lengths(self, processor: Processor) -> np.ndarray:
        """Tokens that the image of each row adds to its placeholder, int64 [N]."""
        sizes, which = np.unique(self.index.sizes[self.chosen], axis=0, return_inverse=True)
        tokens = [encoding.visual_tokens(processor, (height, width)) for height, width in sizes.tolist()]
        return np.array(tokens, np.int64)[which.reshape(-1)] - 1


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
) -> tuple[ClickRows, dict[str, int]]:
    """The training rows of a click store.

    Rows are rendered when they are read, and images stay on disk until the collator opens them.

    Args:
        clicks: folder of the click store.
        root: folder that the store's image paths are relative to.
        vlm: its processor encodes the chats, and its family writes the clicks.
        answer_format: `json` or `compact`.
        max_clicks: clicks of a part at most; see `chat_rows.answer_parts`.
        min_iou: smallest IoU of the mask after those clicks; rows without a target are always used.
        answer_end: see `chat_rows.answer_parts`.
        held_out: images, as the store names them, whose rows are left out.
        raw: give rows what augmentation needs, in place of tokens.

    Returns:
        The rows, as `TrainingRow` or `RawRow`, and the number of rows left out by reason.

    Raises:
        GeoClickError: no or a broken store, a missing image, or no row left.
    """
    store = StoreFile(clicks)
    limits = Limits(max_clicks, min_iou, answer_end)
    index = open_index(store, limits)
    is_out = np.array([name in held_out for name in index.names], bool)
    chosen = np.flatnonzero(~is_out[index.image])
    if not len(chosen):
        raise GeoClickError(
            f"{clicks} has no row to train on; lower min_iou or evaluate_samples, or make the store again."
        )
    existing, paths = ImagePaths(root), [""] * len(index.names)
    for image in np.unique(index.image[chosen]).tolist():
        paths[image] = existing[index.names[image]]
    render = Rendering(vlm.processor, vlm.family, answer_format, limits, raw)
    return ClickRows(store, index, chosen, paths, render), index.left_out(is_out)
