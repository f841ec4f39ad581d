"""Chats of the user's own, to train on besides clicks: text only, or about one or several images.

The answer that is learned is the last turn, the assistant's; the turns before it are its prompt. A file is read and
checked once, see chat_files.py; its chats are then read one by one from a file in the cache folder.
"""

import json
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from geoclick import files
from geoclick.errors import GeoClickError
from geoclick.geo import reading
from geoclick.prompts import Chat
from geoclick.train.data import cache_folder, chat_files, row_file, token_lengths
from geoclick.train.data.chat_files import Json
from geoclick.train.data.lazy_rows import LazyRows
from geoclick.train.data.row_file import RowFile
from geoclick.train.data.training_row import TrainingRow
from geoclick.vlms import encoding
from geoclick.vlms.loading import Vlm
from geoclick.vlms.processor import Processor

if TYPE_CHECKING:
    from geoclick.train.augmentation.augment import Augmentation

BLOCK = 256
"""Chats that are checked together."""
NO_LOSS = "earlier answers without loss"
"""Not a reason why a row is left out, but what is counted with them."""

SCHEMA = pa.schema(
    [
        ("chat", pa.string()),
        ("images", pa.list_(pa.string())),
        ("reason", pa.string()),
        ("earlier", pa.int32()),
    ]
)
"""The file of checked chats: messages as JSON, absolute paths of the images, why the chat is left out (empty if it is
not), and the number of its earlier answers."""


class ChatRows(LazyRows):
    """The chats of a file that are trained on.

    Args:
        file: all chats of the file, with the columns of SCHEMA.
        chosen: the numbers of those that are trained on.
        sizes: (height, width) of each image in pixels.
        processor: the VLM's.
    """

    def __init__(
        self,
        file: RowFile,
        chosen: Sequence[int],
        sizes: Mapping[str, tuple[int, int]],
        processor: Processor,
    ) -> None:
        self.file, self.chosen, self.sizes_of, self.processor = file, chosen, sizes, processor

    def __len__(self) -> int:
        """Number of chats."""
        return len(self.chosen)

    def __getitems__(self, indices: Sequence[int]) -> list[TrainingRow]:
        """Some chats."""
        stored = self.file.records([self.chosen[index] for index in indices])
        examples = encoding.encode_examples(self.processor, [json.loads(row["chat"]) for row in stored])
        return [
            {
                "images": row["images"],
                "size": self._sides(row["images"]),
                "prompt_ids": example.prompt_ids,
                "completion_ids": example.completion_ids,
            }
            for row, example in zip(stored, examples, strict=True)
        ]

    def images(self, index: int) -> tuple[list[str], list[int]]:
        """The images of a chat."""
        paths = self.file[self.chosen[index]]["images"]
        return paths, self._sides(paths)

    def _sides(self, paths: Sequence[str]) -> list[int]:
        return [side for path in paths for side in self.sizes_of[path]]

    def text_lengths(self, augmentation: "Augmentation | None" = None) -> np.ndarray:
        """Tokens of prompt and answer of each chat, int32 [N, 2]; chats are not augmented."""
        every = ChatRows(self.file, _usable(self.file), self.sizes_of, self.processor)
        lengths = token_lengths.cached(every, self.processor, self.file.path.stem, None)
        return lengths[np.searchsorted(every.chosen, self.chosen)]


def build(
    path: Path, root: Path, vlm: Vlm, *, held_out: Container[str] = (), most_tokens: int | None = None
) -> tuple[ChatRows, dict[str, int]]:
    """The training rows of a file of chats, which are rendered when they are read.

    Args:
        path: of the file.
        root: folder that holds its images; their paths are relative to it.
        vlm: its processor encodes the chats.
        held_out: absolute paths of images whose chats are left out.
        most_tokens: longest chat that is used, with the tokens of its images; None is any.

    Returns:
        The rows, and the number of chats left out by reason, and of earlier answers that have no loss.

    Raises:
        GeoClickError: the file is broken or has no chat to train on, or an image is missing, broken or outside root.
    """
    read = chat_files.records(path)
    control = tuple(vlm.processor.tokenizer.added_tokens_encoder)
    content = [files.sha256(path), str(path.resolve()), str(root.resolve()), control, str(SCHEMA)]
    made = cache_folder.path("chats", content, ".arrow")
    with cache_folder.missing(made) as partial:
        if partial is not None:
            row_file.write(partial, SCHEMA, _checked_batches(read, root, control))
    file = RowFile(made)
    chosen, counts = [], Counter[str]()
    for number, row in enumerate(file):
        if any(image in held_out for image in row["images"]):
            counts["held out"] += 1
        elif row["reason"]:
            counts[row["reason"]] += 1
        else:
            chosen.append(number)
    if not chosen:
        raise GeoClickError(f"{path} has no chat to train on; give chats that end with an answer.")
    images = dict.fromkeys(image for row in file if not row["reason"] for image in row["images"])
    sizes = {image: reading.image_size(_checked(image, root)) for image in images}
    rows = ChatRows(file, chosen, sizes, vlm.processor)
    if most_tokens is not None:
        lengths = rows.token_lengths(vlm.processor)
        chosen = [number for number, length in zip(chosen, lengths, strict=True) if length <= most_tokens]
        if not chosen:
            raise GeoClickError(f"No chat of {path} has {most_tokens} tokens or fewer; raise --chat-tokens.")
        counts["longer than chat_tokens"] = len(lengths) - len(chosen)
        rows = ChatRows(file, chosen, sizes, vlm.processor)
    counts[NO_LOSS] = sum(file[number]["earlier"] for number in chosen)
    return rows, {reason: count for reason, count in counts.items() if count}


def _checked(image: str, root: Path) -> Path:
    """The path of an image that is in the folder of the chats or was written to the cache folder."""
    path = Path(image)
    return path if path.is_relative_to(chat_files.folder_of_written()) else files.inside(root, path)


def _usable(file: RowFile) -> list[int]:
    """The numbers of the chats without a reason against them."""
    return [number for number, row in enumerate(file) if not row["reason"]]


def _checked_batches(
    rows: Iterator[tuple[str, Json]], root: Path, control: Sequence[str]
) -> Iterator[pa.RecordBatch]:
    """The chats of a file with the columns of SCHEMA; errors as in `chat_files.parse`."""
    while block := list(islice(rows, BLOCK)):
        made = []
        for where, row in block:
            chat, images = chat_files.parse(row, root, where)
            made.append(
                {
                    "chat": json.dumps(chat),
                    "images": images,
                    "reason": _why_left_out(chat, control),
                    "earlier": sum(message["role"] == "assistant" for message in chat[:-1]),
                }
            )
        yield pa.RecordBatch.from_pylist(made, schema=SCHEMA)


def _why_left_out(chat: Chat, control: Sequence[str]) -> str:
    """Why a chat is not trained on; empty if it is."""
    answer = "".join(part["text"] for part in chat[-1]["content"])
    if chat[-1]["role"] != "assistant" or not answer.strip():
        return "no answer at the end"
    return "a control token in the answer" if any(token in answer for token in control) else ""
