import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoclick import store
from geoclick.train.data import row_file
from geoclick.train.data.row_file import RowFile, StoreFile
from tests import tiny


def test_some_rows_are_those_read_one_by_one(tmp_path):
    schema = pa.schema([("name", pa.string()), ("clicks", pa.list_(pa.int64()))])
    batches = [
        pa.RecordBatch.from_pylist([{"name": f"{b} {n}", "clicks": [b] * n} for n in range(size)], schema)
        for b, size in enumerate((5, 0, 1, 9))
    ]
    row_file.write(tmp_path / "rows.arrow", schema, batches)
    file = RowFile(tmp_path / "rows.arrow")
    assert len(file) == 15

    @given(st.lists(st.integers(0, 14)))
    def check(numbers):
        assert file.records(numbers) == [file[number] for number in numbers]

    check()
    assert file.records(range(15)) == list(file) == file.records(np.arange(15))


@pytest.mark.parametrize("numbers", [[], [3], [2, 0, 2, 5, 2]])
def test_rows_of_a_store_may_be_read_twice_at_once(numbers, tmp_path):
    """As a pack of a mixture may hold them."""
    clicks, _ = tiny.click_store(tmp_path, rows=6)
    stored = list(store.read(clicks))
    assert StoreFile(clicks).rows(numbers) == [stored[number] for number in numbers]
