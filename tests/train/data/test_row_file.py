import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from geoclick.train.data import row_file
from geoclick.train.data.row_file import RowFile


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
