"""The files of chats: rows of JSONL or Parquet, checked, with each image at its place.

A file has the columns of TRL's conversational data: `messages`, a list of `role` (system, user, assistant) and
`content`, and `images`, a list of paths or, in Parquet, of encoded images as `datasets` stores them; these are written
to the cache folder. Content is text, or a list of `{"type": "text", "text": ...}` and
`{"type": "image"}`. In plain texts each `<image>` stands for an image; without any, all images come first.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypedDict

import pyarrow as pa
import pyarrow.parquet as pq

from geoclick import files
from geoclick.errors import GeoClickError
from geoclick.prompts import Chat
from geoclick.train.data import cache_folder
from geoclick.yaml_file import quoted

ROLES = ("system", "user", "assistant")
Json = str | bytes | int | float | bool | list["Json"] | dict[str, "Json"] | None
"""A value of JSON or Parquet."""
Part = dict[str, str]
"""A text or an image of a message, as chat templates take it."""

TAG = "<image>"
"""Stands for an image in a plain text, as in the data of LLaMA-Factory and ms-swift."""
BLOCK = 256
"""Rows that are read together."""
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
"""Endings of names that a written image keeps."""
LONGEST_LINE = 1 << 24
"""Characters of the longest line that is read."""


class Message(TypedDict):
    """A turn of a chat; images are not yet at their places in a plain text."""

    role: str
    content: str | list[Part]


def records(path: Path) -> Iterator[tuple[str, Json]]:
    """The rows of a JSONL or Parquet file, each with its place for messages.

    Raises:
        GeoClickError: the file is missing or broken, or has no column `messages`.
    """
    suffix = path.suffix.lower()
    if suffix not in (".jsonl", ".json", ".parquet"):
        raise GeoClickError(f"{path} is no file of chats; give a .jsonl or .parquet file with 'messages'.")
    if not path.is_file():
        raise GeoClickError(f"{path} does not exist; give --chats an existing file.")
    return _parquet(path) if suffix == ".parquet" else _lines(path)


def _lines(path: Path) -> Iterator[tuple[str, Json]]:
    with path.open("rb") as file:
        for number in range(1, 1 << 62):
            line = file.readline(LONGEST_LINE)
            if not line:
                return
            where = f"{path}, line {number},"
            if len(line) == LONGEST_LINE:
                raise GeoClickError(f"{where} is longer than {LONGEST_LINE:,} bytes; split the chat.")
            if not line.strip():
                continue
            try:
                yield where, json.loads(line)
            except (ValueError, RecursionError) as error:
                raise GeoClickError(f"{where} is not valid JSON; give one object a line.") from error


def _parquet(path: Path) -> Iterator[tuple[str, Json]]:
    try:
        with pq.ParquetFile(path) as file:
            names = [name for name in ("messages", "images") if name in file.schema_arrow.names]
            if "messages" not in names:
                shown = ", ".join(file.schema_arrow.names)
                raise GeoClickError(f"{path} has the columns {shown}; chats need the column 'messages'.")
            number = 0
            for batch in file.iter_batches(BLOCK, columns=names):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path}, row {number},", row
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise GeoClickError(f"{path} cannot be read as Parquet; write it again.") from error


def parse(row: Json, root: Path, where: str) -> tuple[Chat, list[str]]:
    """A row as messages whose contents are lists of parts, and the absolute paths of its images.

    Args:
        row: with `messages` and, if it shows images, `images`.
        root: folder of the images.
        where: the row's place, for messages.

    Raises:
        GeoClickError: the row is broken, or an image is missing or outside root.
    """
    messages = row.get("messages") if isinstance(row, dict) else None
    if not isinstance(row, dict) or not isinstance(messages, list) or not messages:
        raise GeoClickError(f"{where} has no list 'messages'; write 'role' and 'content' of each turn there.")
    images = [_image(image, root, where) for image in _list(row.get("images"), where)]
    chat = [_message(message, where) for message in messages]
    roles = [message["role"] for message in chat]
    turns = roles[roles[0] == "system" :]
    if turns[:1] != ["user"] or "system" in turns:
        raise GeoClickError(f"{where} must begin with a user's turn, after at most one system's.")
    marked = _placed(chat, len(images))
    found = [part for message in marked for part in message["content"] if part["type"] == "image"]
    if len(found) != len(images):
        raise GeoClickError(
            f"{where} has {len(images)} images but {len(found)} places for them; give each image one place."
        )
    if any(part in message["content"] for message in marked if message["role"] != "user" for part in found):
        raise GeoClickError(f"{where} has an image outside a user's turn; move it to the question.")
    return marked, images


def _list(images: Json, where: str) -> list[Json]:
    if images is None:
        return []
    if not isinstance(images, list):
        raise GeoClickError(f"{where} needs a list of paths in 'images', not {quoted(images)}.")
    return images


def _image(image: Json, root: Path, where: str) -> str:
    """The absolute path of an image; `datasets` stores one as a struct of `path` and `bytes`."""
    if isinstance(image, dict):
        content, image = image.get("bytes"), image.get("path")
        if isinstance(content, bytes):
            return str(_written(content, image if isinstance(image, str) else ""))
    if not isinstance(image, str) or not image:
        raise GeoClickError(f"{where} has an image that is neither a path nor bytes in Parquet; fix it.")
    try:
        path = files.inside(root, image)
        exists = path.is_file()
    except (OSError, RuntimeError, ValueError) as error:
        # A null character, a name that is too long, a loop of links.
        raise GeoClickError(f"{where} has an image whose path is no file name; fix it.") from error
    if not exists:
        raise GeoClickError(f"{where} names the image {image}, but {path} does not exist; fix --chat-root.")
    return str(path)


def folder_of_written() -> Path:
    """The folder of images that were given as bytes."""
    return cache_folder.folder().resolve() / "chat-images"


def _written(content: bytes, name: str) -> Path:
    """The file of an encoded image, named by its content."""
    suffix = Path(name).suffix.lower()
    digest = hashlib.sha256(content).hexdigest()
    path = folder_of_written() / f"{digest}{suffix if suffix in SUFFIXES else ''}"
    with cache_folder.missing(path) as partial:
        if partial is not None:
            partial.write_bytes(content)
    return path


def _message(message: Json, where: str) -> Message:
    """One message with its parts; text with tags is not divided yet."""
    if not isinstance(message, dict) or "role" not in message or "content" not in message:
        raise GeoClickError(f"{where} has a message without 'role' or 'content'.")
    role, content = message["role"], message["content"]
    if role not in ROLES:
        raise GeoClickError(f"{where} has the role {quoted(role)}; known roles: {', '.join(ROLES)}.")
    if isinstance(content, str):
        return {"role": role, "content": _checked(content, where)}
    if not isinstance(content, list):
        raise GeoClickError(f"{where} has a content that is neither text nor a list of parts.")
    return {"role": role, "content": [_part(part, where) for part in content]}


def _part(part: Json, where: str) -> Part:
    values = part if isinstance(part, dict) else {}
    kind, text = values.get("type"), values.get("text")
    if kind == "text" and isinstance(text, str):
        return {"type": "text", "text": _checked(text, where)}
    if kind == "image" and not any(values.get(name) for name in ("image", "url", "path", "base64")):
        return {"type": "image"}
    raise GeoClickError(
        f"{where} has the part {quoted(part)}; parts are texts and images, which are named in 'images'."
    )


def _checked(text: str, where: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise GeoClickError(f"{where} has text that is no valid Unicode; fix it.") from error
    return text


def _placed(chat: Sequence[Message], images: int) -> Chat:
    """The messages with all contents as parts: tags become images, or all images come before the first text."""
    plain = [m["content"] for m in chat if isinstance(m["content"], str) and m["role"] == "user"]
    tagged = bool(images) and any(TAG in text for text in plain)
    listed = any(
        part["type"] == "image" for m in chat if isinstance(m["content"], list) for part in m["content"]
    )
    ahead = 0 if tagged or listed else images
    result: Chat = []
    for message in chat:
        content = message["content"]
        if isinstance(content, str):
            divided = tagged and message["role"] == "user"
            content = _divided(content) if divided else [{"type": "text", "text": content}]
        if ahead and message["role"] == "user":
            content, ahead = [*[{"type": "image"}] * ahead, *content], 0
        result.append({"role": message["role"], "content": content})
    return result


def _divided(text: str) -> list[Part]:
    """A text with tags as parts."""
    parts: Iterable[str] = text.split(TAG)
    result: list[Part] = []
    for number, part in enumerate(parts):
        if number:
            result.append({"type": "image"})
        if part:
            result.append({"type": "text", "text": part})
    return result
