"""The hash of all weights of a model's folder, fast enough to check it at every loading."""

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

BLOCK = 32 * 2**20
"""Bytes that one thread hashes at a time."""


def weights_sha256(folder: Path) -> str:
    """SHA-256 over the hashes of all blocks of all safetensors files, in the order of their names.

    Every byte counts. The blocks are hashed in parallel, since hashlib releases the interpreter's lock.
    """
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 16)) as pool:
        blocks = pool.map(_hash_block, _blocks(folder))
        digest = hashlib.sha256()
        for block in blocks:
            digest.update(block)
    return digest.hexdigest()


def _blocks(folder: Path) -> Iterator[tuple[Path, int]]:
    """Each file with the start of each of its blocks."""
    for path in sorted(folder.glob("*.safetensors")):
        for start in range(0, path.stat().st_size, BLOCK):
            yield path, start


def _hash_block(block: tuple[Path, int]) -> bytes:
    path, start = block
    with path.open("rb") as file:
        file.seek(start)
        return hashlib.sha256(file.read(BLOCK)).digest()
