"""Augmentation of training rows, different in every epoch: image, clicks and answer, which stay true of the query.

What is drawn depends on seed, sample and epoch alone, so that it is the same in every worker and after a resume. The
view of the image is drawn as in question_views.py.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, islice

import numpy as np

from geoclick import chat_rows, masks
from geoclick.clicks import Click, ClickSequence
from geoclick.codec import Frame
from geoclick.masks import Rle
from geoclick.train.augmentation import directions
from geoclick.train.augmentation.image_views import ImageView, Size
from geoclick.train.augmentation.question_views import (
    VIEW_KINDS,
    Question,
    draw_view,
    generator_of,
    positions,
)
from geoclick.train.data.training_row import RawRow, TrainingRow
from geoclick.vlms import encoding
from geoclick.vlms.encoding import Example
from geoclick.vlms.given import with_given
from geoclick.vlms.loading import resized_size
from geoclick.vlms.processor import Processor

KINDS = (*VIEW_KINDS, "jitter", "shuffle")
OTHER_FORMAT = {"json": "compact", "compact": "json"}

JITTER = 0.03
"""Largest move of a click, as a fraction of the square root of the image's area."""


@dataclass(frozen=True)
class AugmentedSample:
    """A row as it is in one epoch; the clicks of its parts are in pixels of the view."""

    view: ImageView
    query: str
    parts: tuple[ClickSequence, ...]
    answer_format: str

    @property
    def clicks(self) -> ClickSequence:
        """The clicks of all parts in order."""
        return tuple(click for part in self.parts for click in part)


@dataclass(frozen=True)
class Augmentation:
    """How rows are augmented.

    Attributes:
        processor: the VLM's.
        family: of the VLM.
        answer_format: `json` or `compact`, of the run.
        kinds: of `KINDS`.
        other_format_share: fraction of the rows in the other answer format.
        seed: of the run.
    """

    processor: Processor
    family: str
    answer_format: str
    kinds: Sequence[str]
    other_format_share: float
    seed: int

    def __call__(self, row: RawRow, epoch: int) -> TrainingRow:
        """A raw row of `geoclick.train.data.rows.build` as the collators take it in an epoch; chats do not change."""
        if row.get("sample_id") is None:
            return row
        sample = self.draw(row, epoch)
        frame = self._frame(sample.view.size(size_of(row)), sample.answer_format)
        chat = chat_rows.chat(sample.query, sample.parts, frame)
        (example,) = encoding.encode_examples(self.processor, [chat])
        beginning = frame.beginning(sample.parts, row["given"])
        example = with_given(self.processor, example, beginning, sample.answer_format)
        return _training_row(row, example) | {"view": sample.view}

    def draw(self, row: RawRow, epoch: int) -> AugmentedSample:
        """A raw row as it is in an epoch, before it is encoded."""
        size, sample = size_of(row), row["sample_id"]
        parts = parts_of(row)
        # The clicks after given ones correct the mask of these, in their order.
        moves = not row["given"]
        if moves and "jitter" in self.kinds:
            mask, generator = mask_of(row), self._generator(epoch, "jitter", sample)
            parts = tuple(jittered(part, mask, generator) for part in parts)
        if moves and "shuffle" in self.kinds:
            parts = shuffled_parts(parts, self._generator(epoch, "shuffle", sample))
        clicks = tuple(click for part in parts for click in part)
        target: Rle = {"size": row["size"], "counts": row["mask"]}
        question = Question(sample, row["image"], row["query"], row["task"], target, clicks)
        view, query = draw_view(question, self.kinds, self.seed, epoch)
        other = self._generator(epoch, "format", sample).random() < self.other_format_share
        answer_format = OTHER_FORMAT[row["answer_format"]] if other else row["answer_format"]
        parts = tuple(tuple(view.click(click, size) for click in part) for part in parts)
        return AugmentedSample(view, query, parts, answer_format)

    def longest(self, row: RawRow) -> TrainingRow:
        """The row with the largest number of tokens that any epoch may give a raw row.

        Clicks in the far corner have the most digits, so this holds for tokenizers that split numbers into digits and
        never join two words, such as Qwen's. Visual tokens never change, see `ImageView`.
        """
        if row.get("sample_id") is None:
            return row
        size = size_of(row)
        views = [ImageView(None, mirrored, turns) for mirrored, turns in positions(self.kinds)]
        redirected = (directions.redirected(row["query"], view.direction) for view in views)
        queries = sorted({query for query in redirected if query is not None})
        formats = [row["answer_format"]]
        if self.other_format_share:
            formats.append(OTHER_FORMAT[row["answer_format"]])
        chats = []
        for height, width in sorted({view.size(size) for view in views}):
            parts = [
                tuple(click._replace(x=width - 1, y=height - 1) for click in part) for part in parts_of(row)
            ]
            for answer_format in formats:
                frame = self._frame((height, width), answer_format)
                chats += [chat_rows.chat(query, parts, frame) for query in queries]
        examples = encoding.encode_examples(self.processor, chats)
        longest = max(examples, key=lambda example: sum(map(len, example)))
        return _training_row(row, longest)

    @property
    def longest_key(self) -> list[str]:
        """What decides `longest`, besides the row and the processor."""
        return [*sorted(self.kinds), *["other format"] * (self.other_format_share > 0)]

    def _frame(self, size: Size, answer_format: str) -> Frame:
        return Frame(self.family, answer_format, size, resized_size(self.processor, size))

    def _generator(self, epoch: int, what: str, sample: str) -> random.Random:
        return generator_of(self.seed, epoch, what, sample)


def _training_row(row: RawRow, example: Example) -> TrainingRow:
    made: TrainingRow = {
        "images": row["images"],
        "size": row["size"],
        "prompt_ids": example.prompt_ids,
        "completion_ids": example.completion_ids,
        "kind": row["kind"],
    }
    return made | {"source": row["source"]} if "source" in row else made


def size_of(row: RawRow) -> Size:
    """(height, width) of the image of a raw row."""
    height, width = row["size"]
    return height, width


def parts_of(row: RawRow) -> tuple[ClickSequence, ...]:
    """The clicks of each part of a raw row, in pixels of its image."""
    clicks = (Click(x, y, bool(positive)) for x, y, positive in row["clicks"])
    return tuple(tuple(islice(clicks, count)) for count in row["parts"])


def mask_of(row: RawRow) -> np.ndarray:
    """The target of a raw row, bool [H, W]."""
    return masks.decode_rle({"size": row["size"], "counts": row["mask"]})


def shuffled_parts(parts: tuple[ClickSequence, ...], generator: random.Random) -> tuple[ClickSequence, ...]:
    """Parts in random order, with their clicks shuffled."""
    members = [shuffled(part, generator) for part in parts]
    if len(members) > 1:
        generator.shuffle(members)
    return tuple(members)


def shuffled(clicks: Sequence[Click], generator: random.Random) -> ClickSequence:
    """Clicks with each run of one sign in random order."""
    result: list[Click] = []
    for _, run in groupby(clicks, key=lambda click: click.positive):
        members = list(run)
        generator.shuffle(members)
        result += members
    return tuple(result)


def jittered(clicks: Sequence[Click], mask: np.ndarray, generator: random.Random) -> ClickSequence:
    """Clicks moved by whole pixels, at most half-way to the mask's edge.

    A positive click stays inside its part of the mask and a negative one outside. A click on the wrong side of the
    edge, or without room, does not move.

    Args:
        clicks: in pixels.
        mask: of the target, bool [H, W].
        generator: draws uniformly among the pixels within reach.
    """
    height, width = mask.shape
    result = []
    for click in clicks:
        x, y = min(max(round(click.x), 0), width - 1), min(max(round(click.y), 0), height - 1)
        rows_, columns = np.nonzero(mask != mask[y, x])
        reach = JITTER * (height * width) ** 0.5
        if len(rows_):
            reach = min(reach, np.hypot(rows_ - y, columns - x).min() / 2)
        most = int(reach) if mask[y, x] == click.positive else 0
        offsets = [
            (dx, dy)
            for dy in range(max(-most, -y), min(most, height - 1 - y) + 1)
            for dx in range(max(-most, -x), min(most, width - 1 - x) + 1)
            if dx * dx + dy * dy <= reach * reach
        ]
        dx, dy = generator.choice(offsets)
        result.append(click._replace(x=click.x + dx, y=click.y + dy))
    return tuple(result)
