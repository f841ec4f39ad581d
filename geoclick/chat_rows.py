"""From a click store to chats, for `geoclick train` and `geoclick export`: which rows are used, and how one reads."""

import os
import stat
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path

from geoclick import prompts, store
from geoclick.clicks import Click, ClickSequence
from geoclick.codec import Frame
from geoclick.files import inside
from geoclick.store import Row


@dataclass(frozen=True)
class ChatRow:
    """A usable row of a click store.

    Attributes:
        row: the row.
        parts: the clicks of the answer, as `answer_parts` cuts them.
    """

    row: Row
    parts: tuple[ClickSequence, ...]

    @property
    def given(self) -> int:
        """Number of first clicks that are not taught."""
        return self.row.given

    @property
    def clicks(self) -> ClickSequence:
        """The clicks of all parts in order."""
        return tuple(click for part in self.parts for click in part)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the image in pixels."""
        return self.row.height, self.row.width


def answer_parts(row: Row, max_clicks: int, answer_end: str = "best") -> tuple[ClickSequence, ...]:
    """The clicks of a row's answer: of the first `max_clicks` of each part, those up to `answer_end`.

    Given clicks are all in it: the mask that is corrected is theirs. Training, export and the count of contradictions
    cut a sequence here and nowhere else.

    Args:
        row: of a click store.
        max_clicks: clicks of a part at most.
        answer_end: a key of ANSWER_ENDS.
    """
    return _in_parts(row, _used(row, max_clicks, answer_end))


def _in_parts(row: Row, used: Sequence[int]) -> tuple[ClickSequence, ...]:
    """The clicks with these indices, in the parts that have some."""
    ends, parts = list(accumulate(row.parts)), [list[Click]() for _ in row.parts]
    for i in used:
        parts[bisect_right(ends, i)].append(row.clicks[i])
    return tuple(tuple(part) for part in parts if part)


def _used(row: Row, max_clicks: int, answer_end: str) -> list[int]:
    """The indices of the clicks of the answer, see `answer_parts`; the stored IoUs are those with all clicks before."""
    starts = [0, *accumulate(row.parts)]
    first = [i for a, b in pairwise(starts) for i in range(a, b) if i < max(a + max_clicks, row.given)]
    # An answer may end with the last given click, and not before.
    least = max(row.given - 1, 0)
    ious = [row.ious[i] for i in first[least:]]
    # A row that shows a mask has one click of a sequence that ends later.
    is_cut = answer_end == "best" and ious and row.shown is None
    return first[: least + ious.index(max(ious)) + 1] if is_cut else first


def usable(
    rows: Iterable[Row],
    *,
    max_clicks: int,
    min_iou: float,
    left_out: Counter[str],
    answer_end: str = "best",
) -> Iterator[ChatRow]:
    """The rows that are worth training on, in order.

    Args:
        rows: of a click store.
        max_clicks: clicks of a part at most; see `answer_parts`.
        min_iou: smallest IoU of the mask after those clicks; rows without a target are always used.
        left_out: receives the number of rows left out, by reason.
        answer_end: a key of ANSWER_ENDS.
    """
    for row in rows:
        used = _used(row, max_clicks, answer_end)
        if reason := store.why_left_out(row, used[-1] + 1 if used else 0, min_iou):
            left_out[reason] += 1
        else:
            yield ChatRow(row, _in_parts(row, used))


class ImagePaths(dict[str, str]):
    """The absolute path of each image by its name in the store; every file is checked once, when it is first used.

    Looking up an image raises GeoClickError when its file is missing or outside the root.
    """

    def __init__(self, root: str | Path) -> None:
        super().__init__()
        self._root = Path(root)
        self._folders: dict[str, str] = {}

    def __missing__(self, image: str) -> str:
        folder, _, name = image.rpartition("/")
        if folder not in self._folders:
            self._folders[folder] = str(inside(self._root, folder))
        path = f"{self._folders[folder]}/{name}"
        if not _is_regular(path):
            # A link, or an error.
            path = str(store.existing_image(self._root, image))
        self[image] = path
        return path


def _is_regular(path: str) -> bool:
    """Whether a path is a file and no link."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except (OSError, ValueError):
        return False


def given_text(one: ChatRow, frame: Frame) -> str:
    """The beginning of a row's answer, which is not taught: the text of its given clicks."""
    return frame.beginning(one.parts, one.given)


def chat(query: str, clicks: Iterable[Click] | Iterable[ClickSequence], frame: Frame) -> prompts.Chat:
    """The messages of one example: the user's turn with image and query, and the clicks as the assistant's answer.

    Args:
        query: the user's text.
        clicks: in pixels of the original image, or those of each part.
        frame: how the clicks are written.
    """
    return prompts.messages(query, answer_format=frame.answer_format, answer=frame.encode(clicks))
