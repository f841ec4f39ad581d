"""A folder of computed values by content: each is computed once, then read.

The name of a file is the hash of everything that its value depends on, so nothing in the folder is ever out of date,
and the folder may be deleted at any time. Several processes may use it at once. The first line of a file is the hash of
the rest; a damaged value is computed again.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from geoclick import files
from geoclick.yaml_file import Yaml

T = TypeVar("T")

GIB = 2**30


class Cache:
    """A folder of values.

    Args:
        folder: created with the first value.
        limit: size in bytes from which nothing is added; one line says so.

    Attributes:
        made: values that were computed, whether or not they were written.
        read: values that were read.
    """

    def __init__(self, folder: Path, *, limit: int = 20 * GIB) -> None:
        self.folder, self.limit = folder, limit
        self.made = self.read = 0
        self._size: int | None = None
        self._full = False

    @property
    def size(self) -> int:
        """Bytes in the folder: counted once, then with what this process has added."""
        if self._size is None:
            self._size = sum(path.stat().st_size for path in self.folder.rglob("*.cached"))
        return self._size

    def load(self, path: Path) -> bytes | None:
        """The content of a value's file; None if there is none, or if it is damaged, which one line says."""
        try:
            digest, _, content = path.read_bytes().partition(b"\n")
        except FileNotFoundError:
            return None
        if digest.decode("latin-1") != hashlib.sha256(content).hexdigest():
            print(f"{path} is damaged; its value is computed again.")
            return None
        self.read += 1
        return content

    def save(self, path: Path, content: bytes) -> None:
        """Write the content of a value atomically, unless the folder has reached its limit."""
        stored = hashlib.sha256(content).hexdigest().encode() + b"\n" + content
        if self.size + len(stored) > self.limit:
            if not self._full:
                print(
                    f"The cache {self.folder} has reached its limit of {self.limit / GIB:g} GiB; further values are "
                    "computed without it. Delete the folder or raise --cache-limit."
                )
            self._full = True
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        # A name for each process, since two may compute the same value.
        own = path.with_name(f"{path.name}-{os.getpid()}")
        with files.whole(own) as partial:
            partial.write_bytes(stored)
        own.replace(path)
        self._size = self.size + len(stored)

    def path(self, kind: str, content: Mapping[str, Yaml]) -> Path:
        """The file of the value of a kind that depends on `content`."""
        name = key(content)
        return self.folder / kind / name[:2] / f"{name}.cached"


class Stored(Generic[T]):
    """Values of one kind as bytes.

    Args:
        kind: name of their folder in the cache.
        encode: a value to bytes.
        decode: the reverse.
    """

    def __init__(self, kind: str, encode: Callable[[T], bytes], decode: Callable[[bytes], T]) -> None:
        self.kind, self._encode, self._decode = kind, encode, decode

    def value(self, cache: Cache | None, content: Mapping[str, Yaml], compute: Callable[[], T]) -> T:
        """The value that depends on `content` alone: read from a cache, or computed and written to it.

        Args:
            cache: None computes it.
            content: everything that decides the value.
            compute: makes the value.
        """
        if cache is None:
            return compute()
        path = cache.path(self.kind, content)
        stored = cache.load(path)
        if stored is not None:
            return self._decode(stored)
        value = compute()
        cache.made += 1
        cache.save(path, self._encode(value))
        return value


def key(content: Mapping[str, Yaml]) -> str:
    """The hash of a value's content, 64 hexadecimal digits."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def image_key(image: np.ndarray) -> dict[str, Yaml]:
    """What identifies an image, uint8 [H, W, 3]."""
    digest = hashlib.sha256(image.tobytes()).hexdigest()
    return {"shape": list(image.shape), "pixels": digest}
