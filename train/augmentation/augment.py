"""Training rows made anew in every epoch: pictures, clicks and answers, each still true of its query.

What is drawn follows from seed, sample and epoch alone (the position of a picture from seed, image and epoch, so that
queries of one image may go on sharing a pass of the vision tower): it is the same in every worker and after a resume.

A picture is flipped or turned only where the query's direction words can be exchanged, and cropped only where the query
means the same in a part (see directions.py). A reasoning question is never cropped: what it is inferred from may stand
anywhere. A crop keeps the whole object and every click.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np

from geoclick import masks
from geoclick.clicks import Click, ClickSequence
from geoclick.train.augmentation import directions
from geoclick.train.augmentation.image_views import WHOLE, Size, View
from geoclick.train.data import rows

KINDS = ("flip", "rotate", "crop", "jitter", "shuffle")
OF_PICTURES = ("flip", "rotate", "crop")
"""The kinds that change pictures, so that no vision features can be kept."""

OTHER_FORMAT = {"json": "compact", "compact": "json"}

CROP_SHARE = 0.5
"""Of the rows that may be cropped: at inference pictures are whole."""
CROP_LEAST = 0.5
"""Of each side, which is then shown twice as large."""
CROP_MARGIN = 0.1
"""Of the object's sides, around it and its clicks."""
JITTER = 0.03
"""How far a click moves at most, as a share of the side of a square of the image's area."""


@dataclass(frozen=True)
class Drawn:
    """A row as it is in one epoch; clicks in pixels of the picture, which is `view` of the image."""

    view: View
    query: str
    clicks: ClickSequence
    answer_format: str


@dataclass(frozen=True)
class Augmentation:
    """What is done to rows.

    Attributes:
        processor: the VLM's.
        family: of the VLM.
        answer_format: `json` or `compact`, of the run.
        kinds: of `KINDS`.
        other_format_share: of the rows, asked in the other answer format.
        seed: of the run.
    """

    processor: Any
    family: str
    answer_format: str
    kinds: Sequence[str]
    other_format_share: float
    seed: int

    def __call__(self, row: dict[str, Any], epoch: int) -> dict[str, Any]:
        """A raw row of `geoclick.train.data.rows.build` as the collators take it in an epoch."""
        drawn = self.draw(row, epoch)
        prompt, completion = self._write(drawn, drawn.view.size(tuple(row["size"])))
        kept = {"images": row["images"], "size": row["size"], "view": drawn.view}
        return kept | {"prompt": prompt, "completion": completion}

    def draw(self, row: dict[str, Any], epoch: int) -> Drawn:
        """What becomes of a raw row in an epoch."""
        size, sample = tuple(row["size"]), row["sample_id"]
        clicks = clicks_of(row)
        if "jitter" in self.kinds:
            clicks = jittered(clicks, mask_of(row), self._chance(epoch, "jitter", sample))
        if "shuffle" in self.kinds:
            clicks = shuffled(clicks, self._chance(epoch, "shuffle", sample))
        mirrored, turns = self._position(row["image"], epoch)
        view = View(None, mirrored, turns)
        query = directions.moved(row["query"], view.way)
        if query is None:
            view, query = WHOLE, row["query"]
        if "crop" in self.kinds and row["task"] != "reasoning" and directions.holds_in_a_part(row["query"]):
            chance = self._chance(epoch, "crop", sample)
            if chance.random() < CROP_SHARE:
                view = replace(view, crop=crop_around(mask_of(row), clicks, chance))
        other = self._chance(epoch, "format", sample).random() < self.other_format_share
        answer_format = OTHER_FORMAT[self.answer_format] if other else self.answer_format
        return Drawn(view, query, tuple(view.click(click, size) for click in clicks), answer_format)

    def longest(self, row: dict[str, Any]) -> dict[str, Any]:
        """A raw row with the most tokens that any epoch may give it, for `geoclick.train.packing.packs.lengths`.

        Clicks in the far corner have the most digits, so that this holds for tokenisers that read numbers digit by
        digit and no word together with the next, as Qwen's do. Visual tokens never change, see `View`.
        """
        size = tuple(row["size"])
        views = [View(None, mirrored, turns) for mirrored, turns in self._positions()]
        queries = {directions.moved(row["query"], view.way) for view in views} - {None}
        query = max(sorted(queries), key=self._tokens)
        formats = [self.answer_format]
        if self.other_format_share:
            formats.append(OTHER_FORMAT[self.answer_format])
        found = []
        for height, width in {view.size(size) for view in views}:
            clicks = tuple(click._replace(x=width - 1, y=height - 1) for click in clicks_of(row))
            found += [self._write(Drawn(WHOLE, query, clicks, form), (height, width)) for form in formats]
        prompt, completion = max(sorted(found), key=lambda texts: sum(map(self._tokens, texts)))
        return {"images": row["images"], "size": row["size"], "prompt": prompt, "completion": completion}

    def _write(self, drawn: Drawn, size: Size) -> tuple[str, str]:
        return rows.write(
            self.processor,
            self.family,
            drawn.query,
            drawn.clicks,
            size=size,
            answer_format=drawn.answer_format,
        )

    def _tokens(self, text: str) -> int:
        return len(self.processor.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _chance(self, epoch: int, what: str, sample: str) -> random.Random:
        # Of its own for every kind, so that one more kind changes nothing in the others.
        return random.Random(f"{self.seed} {epoch} {what} {sample}")

    def _positions(self) -> list[tuple[bool, int]]:
        """Mirrored or not and quarter turns: every position that a picture may come in; upside down is both."""
        flips = [(False, 0), (True, 0), (True, 2), (False, 2)] if "flip" in self.kinds else [(False, 0)]
        quarters = range(4) if "rotate" in self.kinds else range(1)
        return sorted({(mirrored, (turns + more) % 4) for mirrored, turns in flips for more in quarters})

    def _position(self, image: str, epoch: int) -> tuple[bool, int]:
        return self._chance(epoch, "position", image).choice(self._positions())


def clicks_of(row: dict[str, Any]) -> ClickSequence:
    """The clicks of a raw row, in pixels of its image."""
    return tuple(Click(x, y, bool(positive)) for x, y, positive in row["clicks"])


def mask_of(row: dict[str, Any]) -> np.ndarray:
    """The target of a raw row, bool [H, W]."""
    return masks.decode_rle({"size": row["size"], "counts": row["mask"]})


def shuffled(clicks: Sequence[Click], chance: random.Random) -> ClickSequence:
    """Clicks with each run of one sign in another order: what is missing, and what is too much, in any order."""
    found: list[Click] = []
    for _, run in groupby(clicks, key=lambda click: click.positive):
        members = list(run)
        chance.shuffle(members)
        found += members
    return tuple(found)


def jittered(clicks: Sequence[Click], mask: np.ndarray, chance: random.Random) -> ClickSequence:
    """Clicks moved by whole pixels, no farther than half-way to the mask's edge.

    So a positive click stays in the part of the mask that it is in and a negative one outside; a click that was on the
    wrong side of the edge stays where it is, as does one without room.

    Args:
        clicks: in pixels.
        mask: of the target, bool [H, W].
        chance: draws, each pixel within reach as likely as any other.
    """
    height, width = mask.shape
    found = []
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
        dx, dy = chance.choice(offsets)
        found.append(click._replace(x=click.x + dx, y=click.y + dy))
    return tuple(found)


def crop_around(
    mask: np.ndarray, clicks: Sequence[Click], chance: random.Random
) -> tuple[int, int, int, int] | None:
    """A part of an image, of about its proportions, that holds a mask and clicks with a margin.

    Args:
        mask: of the target, bool [H, W]; an empty one may be anywhere.
        clicks: in pixels.
        chance: draws size and place.

    Returns:
        (left, top, width, height) in pixels, or None where nothing less than the image holds them.
    """
    size = mask.shape[::-1]
    box = masks.bounding_box(mask)
    spans = []
    for axis in (0, 1):
        values = [round(click[axis]) for click in clicks]
        values += [box[1 - axis].start, box[1 - axis].stop - 1] if box else []
        if values:
            margin = round(CROP_MARGIN * (max(values) - min(values) + 1))
            spans.append((max(min(values) - margin, 0), min(max(values) + margin, size[axis] - 1)))
        else:
            spans.append((size[axis], -1))
    least = max(
        CROP_LEAST, *((last - first + 1) / side for (first, last), side in zip(spans, size, strict=True))
    )
    share = chance.uniform(least, 1)
    starts, sides = [], []
    for (first, last), side in zip(spans, size, strict=True):
        # Rounding must not cut the margin off.
        length = min(max(round(share * side), last - first + 1), side)
        sides.append(length)
        starts.append(chance.randint(max(last + 1 - length, 0), min(first, side - length)))
    return (*starts, *sides) if sides != list(size) else None
