"""From a click store to chats, for `geoclick train` and `geoclick export`: which rows are used, and how one reads."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from geoclick import prompts, store
from geoclick.clicks import Click, ClickSequence
from geoclick.codec import Frame
from geoclick.store import Row


@dataclass(frozen=True)
class ChatRow:
    """A usable row of a click store.

    Attributes:
        row: the row.
        clicks: those of the answer, as `answer_clicks` cuts them.
    """

    row: Row
    clicks: ClickSequence

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the image in pixels."""
        return self.row.height, self.row.width


def answer_clicks(row: Row, max_clicks: int, answer_end: str = "best") -> ClickSequence:
    """The clicks that a model is taught for a row: of its first `max_clicks`, those up to `answer_end`.

    Training, export and the count of contradictions cut a sequence here and nowhere else.

    Args:
        row: of a click store.
        max_clicks: clicks at most.
        answer_end: a key of ANSWER_ENDS.
    """
    ious = row.ious[:max_clicks]
    end = ious.index(max(ious)) + 1 if answer_end == "best" and ious else max_clicks
    return row.clicks[:end]


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
        max_clicks: clicks of an answer at most; see `answer_clicks`.
        min_iou: smallest IoU of the mask after those clicks; rows without a target are always used.
        left_out: receives the number of rows left out, by reason.
        answer_end: a key of ANSWER_ENDS.
    """
    for row in rows:
        clicks = answer_clicks(row, max_clicks, answer_end)
        if reason := store.why_left_out(row, len(clicks), min_iou):
            left_out[reason] += 1
        else:
            yield ChatRow(row, clicks)


class ImagePaths(dict[str, str]):
    """The absolute path of each image by its name in the store; every file is checked once, when it is first used.

    Looking up an image raises GeoClickError when its file is missing or outside the root.
    """

    def __init__(self, root: str | Path) -> None:
        super().__init__()
        self._root = Path(root)

    def __missing__(self, image: str) -> str:
        self[image] = str(store.existing_image(self._root, image))
        return self[image]


def chat(query: str, clicks: Iterable[Click], frame: Frame) -> prompts.Chat:
    """The messages of one example: the user's turn with image and query, and the clicks as the assistant's answer.

    Args:
        query: the user's text.
        clicks: in pixels of the original image.
        frame: how the clicks are written.
    """
    return prompts.messages(query, answer_format=frame.answer_format, answer=frame.encode(clicks))
