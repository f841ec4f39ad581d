"""A click store with one broken row is refused with one sentence that names the sample, whatever reads it."""

import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from geoclick import store
from geoclick.errors import GeoClickError
from tests.geoclick.test_store import two_clicks

NAN, INF = math.nan, math.inf
CLICKS = [{"x": 1.0, "y": 0.0, "positive": True}, {"x": 2.0, "y": 1.0, "positive": False}]


def written(folder, *, rows=5, **changes):
    """A store whose row 3 is changed."""
    store.write_shard(folder, 0, 1, map(two_clicks, range(rows)))
    path = folder / store.shard_name(0, 1)
    records = pq.read_table(path).to_pylist()
    records[3] |= changes
    pq.write_table(pa.Table.from_pylist(records, schema=store.SCHEMA), path)
    return folder


def with_click(**values):
    return [CLICKS[0], CLICKS[1] | values]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        *(({name: None}, f"has no {name}") for name in store.SCHEMA.names[:17] if name != "schema_version"),
        ({"query": " "}, "has an empty query"),
        ({"sample_id": ""}, "has an empty sample_id"),
        ({"image": ""}, "has an empty image"),
        *(({"task": task}, "has a task that is none of referring, ") for task in ("", "poetry")),
        *(
            ({"image": image}, "has an image outside its dataset")
            for image in ("/a.png", "../a.png", "a/../../b.png", "..", "C:\\a.png", "\\\\host\\a.png")
        ),
        ({"query": "a\x1b"}, "has a control character in its query"),
        ({"query": "a" * 10_001}, "has a query of more than"),
        *(({"width": side}, "impossible image size") for side in (0, -1)),
        ({"width": 2**31 - 1, "height": 2**31 - 1}, "impossible image size"),
        ({"clicks": [CLICKS[0], None]}, "a click without"),
        *(({"clicks": with_click(**{key: None})}, "a click without") for key in ("x", "y", "positive")),
        *(({"clicks": with_click(x=x)}, "a click outside") for x in (NAN, INF, -INF, -0.6, 2.6, 1e30)),
        *(({"clicks": with_click(y=y)}, "a click outside") for y in (NAN, -0.6, 1.6)),
        ({"ious": []}, "as many IoUs as clicks"),
        ({"ious": [0.5]}, "as many IoUs as clicks"),
        ({"ious": [0.5] * 3}, "as many IoUs as clicks"),
        *(({"ious": [0.5, iou]}, "an IoU that is not from 0 to 1") for iou in (NAN, INF, -0.1, 7.0, None)),
        ({"mask": {"size": None, "counts": "15"}}, "has a mask that is broken or of another size"),
        ({"mask": {"size": [3, 2], "counts": "15"}}, "has a mask that is broken or of another size"),
        ({"mask": {"size": [2], "counts": "15"}}, "has a mask that is broken or of another size"),
        ({"mask": {"size": [2, 3], "counts": None}}, "has a mask that is broken or of another size"),
        ({"mask": {"size": [2, 3], "counts": "~~"}}, "has a mask that is broken or of another size"),
        ({"mask": {"size": [2, 3], "counts": "15\n"}}, "has a mask that is broken or of another size"),
        ({"mask": {"size": [2, 3], "counts": ""}}, "has a mask that is broken or of another size"),
        ({"shown": {"size": [9, 9], "counts": "15"}}, "has a shown that is broken or of another size"),
        ({"parts": [None, 2]}, "a part without a number"),
    ],
)
def test_a_broken_row_is_refused(tmp_path, changes, reason):
    folder = written(tmp_path, **changes)
    with pytest.raises(GeoClickError, match=f"is broken: the row of sample .* {reason}"):
        list(store.read(folder))


def test_the_row_is_named(tmp_path):
    with pytest.raises(GeoClickError, match="the row of sample '000003' has an IoU"):
        list(store.read(written(tmp_path, ious=[0.5, 7.0])))


def test_rows_that_stand_twice_are_refused_within_and_across_shards(tmp_path):
    within, across = tmp_path / "within", tmp_path / "across"
    store.write_shard(within, 0, 1, [*map(two_clicks, range(300)), two_clicks(7)])
    for index in range(2):
        store.write_shard(across, index, 2, map(two_clicks, range(3)))
    for folder in (within, across):
        with pytest.raises(GeoClickError, match="has two rows; make the store again"):
            list(store.read(folder))


def test_two_dots_in_a_name_lead_nowhere(tmp_path):
    assert len(list(store.read(written(tmp_path, image="images/a..b/..c.png")))) == 5


def test_clicks_on_the_border_are_inside(tmp_path):
    folder = written(tmp_path, clicks=with_click(x=-0.5, y=1.5), given=1)
    assert len(list(store.read(folder))) == 5


def test_a_slice_of_a_shard_is_checked_with_its_own_lists(tmp_path):
    folder = written(tmp_path, rows=5, clicks=[], ious=[], parts=[])
    assert sum(len(batch) for _, batch in store.batches(folder, 2)) == 5


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("clicks-00007-of-00001.parquet", "has a number that no shard of 1 has"),
        ("clicks-00001-of-00001.parquet", "has a number that no shard of 1 has"),
    ],
)
def test_a_shard_with_a_number_beyond_is_refused(tmp_path, name, reason):
    path = written(tmp_path) / store.shard_name(0, 1)
    path.rename(tmp_path / name)
    with pytest.raises(GeoClickError, match=reason):
        list(store.read(tmp_path))


def test_a_shard_that_is_no_file_is_refused(tmp_path):
    (tmp_path / store.shard_name(0, 1)).mkdir()
    with pytest.raises(GeoClickError, match="is no file"):
        list(store.read(tmp_path))
