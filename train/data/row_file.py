"""Tables as memory-mapped files: any row by its number in microseconds, whatever the size of the table.

A Parquet shard has to be decompressed before a row of it can be read, about 3 ms for 1,000 rows. Training reads rows in
random order, so that a run copies its click stores once to files of the Arrow format, in the cache folder. The
operating system reads the pages that are used, and the processes of a node share them.
"""

import functools
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from geoclick import files, store
from geoclick.errors import GeoClickError
from geoclick.progress_bar import track
from geoclick.store import Row
from geoclick.train.data import cache_folder

Record = dict[str, Any]
"""The columns of a row."""

BATCH = 4096
"""Rows that are written together."""
LONG = 100_000
"""Rows from which a first pass over a store shows its progress."""


class RowFile:
    """The rows of a file of the Arrow format.

    Args:
        path: of the file.

    Attributes:
        path: the same.
        schema: the columns, with their metadata.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            # Not a `with`: the batches point into the map as long as they exist.
            reader = pa.ipc.open_file(pa.memory_map(str(path)))
            self._batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]
        except (pa.ArrowException, OSError) as error:
            raise GeoClickError(f"{path} is damaged; delete it and rerun the command.") from error
        self.schema = reader.schema
        self._starts = [0, *accumulate(len(batch) for batch in self._batches)]

    def __len__(self) -> int:
        """Number of rows."""
        return self._starts[-1]

    def __getitem__(self, number: int) -> Record:
        """The columns of a row."""
        batch = bisect_right(self._starts, number) - 1
        record: Record = self._batches[batch].slice(number - self._starts[batch], 1).to_pylist()[0]
        return record

    def __iter__(self) -> Iterator[Record]:
        """The columns of all rows in order, faster than one by one."""
        for batch in self._batches:
            yield from batch.to_pylist()

    def __reduce__(self) -> tuple[type["RowFile"], tuple[Path]]:
        """A process that gets the file opens it."""
        return RowFile, (self.path,)

    def has_values(self, name: str) -> bool:
        """Whether a column has a value other than null."""
        return any(batch.column(name).null_count < len(batch) for batch in self._batches)

    def categories(self, name: str) -> tuple[list[str], np.ndarray]:
        """The distinct values of a column of texts in the order of their first rows, and the value of each row.

        Returns:
            The values, and int32 [rows] with their numbers.
        """
        numbers: dict[str, int] = {}
        places = []
        for batch in self._batches:
            encoded = batch.column(name).dictionary_encode()
            known = [numbers.setdefault(value, len(numbers)) for value in encoded.dictionary.to_pylist()]
            places.append(np.array(known, np.int32)[encoded.indices.to_numpy()])
        return list(numbers), np.concatenate([np.empty(0, np.int32), *places])


def write(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    """Write batches with the columns of `schema` as a file of the Arrow format; columns that they have not are null."""
    with pa.ipc.new_file(str(path), schema) as writer:
        for batch in batches:
            names = batch.schema.names
            columns = [
                batch.column(field.name) if field.name in names else pa.nulls(len(batch), field.type)
                for field in schema
            ]
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))


class StoreFile:
    """The rows of a click store, by number.

    Args:
        folder: of the store.

    Attributes:
        digest: SHA-256 of the store's shards.
        file: its rows as a file.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        shards = store.shards_of(self.folder)
        self.digest = _digest(tuple((str(shard), _state(shard)) for shard in shards))
        path = cache_folder.path("rows", [self.digest, str(store.SCHEMA)], ".arrow")
        with cache_folder.missing(path) as partial:
            if partial is not None:
                write(partial, store.SCHEMA, (batch for _, batch in store.batches(folder, BATCH)))
        self.file = RowFile(path)

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.file)

    def __getitem__(self, number: int) -> Row:
        """A row; raises GeoClickError if its columns contradict each other."""
        return store.row_of(self.file[number], self.folder)

    def __iter__(self) -> Iterator[Row]:
        """All rows in order, with a progress bar if they are many."""
        for record in track(self.file, f"Reading {self.folder.name}", len(self), shown=len(self) >= LONG):
            yield store.row_of(record, self.folder)


def _state(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


@functools.cache
def _digest(shards: tuple[tuple[str, tuple[int, int]], ...]) -> str:
    """As `store.digest`, but a store that several parts of a run need is hashed once."""
    return files.sha256_of_all(Path(shard) for shard, _ in shards)
