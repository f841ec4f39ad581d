"""Tables as memory-mapped files: any row by its number in microseconds, whatever the size of the table.

A Parquet shard has to be decompressed before a row of it can be read, about 3 ms for 1,000 rows. Training reads rows in
random order, so that a run copies its click stores once to files of the Arrow format, in the cache folder. The
operating system reads the pages that are used, and the processes of a node share them.
"""

import functools
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from geoclick import files, store
from geoclick.errors import GeoClickError
from geoclick.store import Row
from geoclick.train.data import cache_folder

Record = dict[str, Any]
"""The columns of a row."""

BATCH = 4096
"""Rows that are written together."""


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

    def records(self, numbers: Sequence[int]) -> list[Record]:
        """The columns of some rows, faster than one by one; of a number that occurs twice, the same object."""
        found: dict[int, Record] = {}
        wanted = np.unique(np.asarray(numbers, np.int64))
        ends = np.searchsorted(wanted, self._starts)
        for batch, start, first, last in zip(self._batches, self._starts, ends, ends[1:], strict=False):
            if first < last:
                chosen = wanted[first:last]
                found.update(zip(chosen.tolist(), _taken(batch, chosen - start).to_pylist(), strict=True))
        return [found[number] for number in numbers]

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


def _taken(batch: pa.RecordBatch, places: np.ndarray) -> pa.RecordBatch:
    """Some rows of a batch, given in ascending order; neighbors are not copied."""
    first, last = int(places[0]), int(places[-1])
    return (
        batch.slice(first, last - first + 1) if last - first < len(places) else batch.take(pa.array(places))
    )


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

    def rows(self, numbers: Sequence[int]) -> list[Row]:
        """Some rows; raises GeoClickError if the columns of one contradict each other."""
        return [store.row_of(record, self.folder) for record in self.file.records(numbers)]


def _state(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


@functools.cache
def _digest(shards: tuple[tuple[str, tuple[int, int]], ...]) -> str:
    """As `store.digest`, but a store that several parts of a run need is hashed once."""
    return files.sha256_of_all(Path(shard) for shard, _ in shards)
