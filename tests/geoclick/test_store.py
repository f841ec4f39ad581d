import dataclasses
import json
import re
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geoclick import plain_text, store
from geoclick.clicks import Click
from geoclick.errors import GeoClickError
from geoclick.tasks import TASKS
from tests import tiny

TEXTS = [
    "sample_id",
    "dataset",
    "split",
    "query",
    "segmenter",
    "segmenter_sha256",
    "policy",
    "category",
]


@st.composite
def rows(draw):
    """A row with any texts, and clicks in its image."""
    texts = {name: draw(st.text(st.characters(codec="utf-8"), max_size=20)) for name in TEXTS}
    visible = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=20)
    height, width = draw(st.integers(1, 30_000)), draw(st.integers(1, 30_000))
    count = draw(st.integers(0, 6))
    return store.Row(
        task=draw(st.sampled_from(TASKS)),
        **texts | {name: draw(visible) for name in ("sample_id", "query")},
        image=draw(visible.filter(lambda text: not re.search(plain_text.OUTSIDE, text))),
        width=width,
        height=height,
        mask={"size": [height, width], "counts": draw(st.text("019PQ", min_size=1, max_size=9))},
        clicks=tuple(
            Click(draw(st.floats(0, width - 1)), draw(st.floats(0, height - 1)), draw(st.booleans()))
            for _ in range(count)
        ),
        ious=tuple(draw(st.floats(0, 1)) for _ in range(count)),
        seed=draw(st.integers(0, 2**63 - 1)),
    )


def row(number, clicks=()):
    return store.Row(
        sample_id=f"{number:06d}",
        dataset="folder",
        split="val",
        task="referring",
        image=f"images/{number:06d}.png",
        width=3,
        height=2,
        query="the red roof",
        mask={"size": [2, 3], "counts": "15"},
        clicks=tuple(clicks),
        ious=tuple(0.5 for _ in clicks),
        segmenter="embedded",
        segmenter_sha256="0" * 64,
        policy="center",
        seed=0,
        category="building",
    )


def two_clicks(number):
    return row(number, [Click(1.0, 0.0), Click(2.0, 1.0, False)])


@settings(max_examples=30)
@given(st.lists(rows(), max_size=5, unique_by=lambda one: (one.dataset, one.split, one.sample_id)))
def test_rows_read_back_equal(tmp_path_factory, written):
    folder = tmp_path_factory.mktemp("store")
    store.write_shard(folder, 0, 1, written)
    assert list(store.read(folder)) == written


def test_shards_are_read_in_order_and_streamed(tmp_path):
    written = [two_clicks(number) for number in range(700)]
    for index in (2, 0, 1):
        store.write_shard(tmp_path, index, 3, written[index * 250 : (index + 1) * 250])
    assert list(store.read(tmp_path)) == written
    assert next(store.read(tmp_path)) == written[0]


def test_parts_are_read_back_and_cut_the_clicks(tmp_path):
    clicks = [Click(1.0, 0.0), Click(2.0, 1.0, False), Click(0.0, 1.0)]
    written = replace(row(0, clicks), parts=(2, 1))
    store.write_shard(tmp_path, 0, 1, [written])
    (read,) = store.read(tmp_path)
    assert read == written
    assert read.sequences == (tuple(clicks[:2]), (clicks[2],))
    assert row(1, clicks).sequences == (tuple(clicks),)
    assert row(2).sequences == ()


def test_version_1_is_read_as_one_part(tmp_path):
    path = store.write_shard(tmp_path, 0, 1, [two_clicks(0), row(1)])
    table = pq.read_table(path).drop_columns(["parts", "given", "shown"])
    index = table.schema.get_field_index("schema_version")
    table = table.set_column(index, "schema_version", pa.array([1, 1], pa.int32()))
    pq.write_table(table.cast(store.FIRST_SCHEMA), path)
    assert list(store.read(tmp_path)) == [two_clicks(0), row(1)]
    assert [r.parts for r in store.read(tmp_path)] == [(2,), ()]


def test_version_2_has_no_given_clicks_and_shows_images_as_they_are(tmp_path):
    written = replace(two_clicks(0), parts=(1, 1))
    path = store.write_shard(tmp_path, 0, 1, [written])
    table = pq.read_table(path).drop_columns(["given", "shown"])
    index = table.schema.get_field_index("schema_version")
    table = table.set_column(index, "schema_version", pa.array([2], pa.int32()))
    pq.write_table(table.cast(store.SECOND_SCHEMA), path)
    assert list(store.read(tmp_path)) == [written]
    assert (written.given, written.shown) == (0, None)


def test_given_clicks_and_the_shown_mask_are_read_back(tmp_path):
    written = [replace(two_clicks(0), given=1, shown={"size": [2, 3], "counts": "051"}), two_clicks(1)]
    store.write_shard(tmp_path, 0, 1, written)
    assert list(store.read(tmp_path)) == written
    store.write_shard(tmp_path, 0, 1, [replace(two_clicks(0), given=3)])
    with pytest.raises(GeoClickError, match="000000 has 3 given clicks, of 2"):
        list(store.read(tmp_path))


@pytest.mark.parametrize("parts", [(1,), (2, 1), (3, -1), (2, 0)])
def test_parts_that_do_not_cut_the_clicks_are_refused(tmp_path, parts):
    store.write_shard(tmp_path, 0, 1, [replace(two_clicks(0), parts=parts)])
    with pytest.raises(GeoClickError, match="the parts of 000000 have"):
        list(store.read(tmp_path))


def test_columns_are_the_architectures():
    names = (
        "sample_id, dataset, split, task, image, width, height, query, mask, clicks, ious, segmenter, "
        "segmenter_sha256, policy, seed, schema_version, category, parts, given, shown"
    )
    assert ", ".join(store.SCHEMA.names) == names
    assert store.shard_name(3, 16) == "clicks-00003-of-00016.parquet"


def test_same_rows_same_bytes(tmp_path):
    written = [two_clicks(number) for number in range(20)]
    first = store.write_shard(tmp_path / "a", 0, 1, written).read_bytes()
    second = store.write_shard(tmp_path / "b", 0, 1, iter(written)).read_bytes()
    assert first == second


def test_datasets_reads_it(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    for index in range(2):
        store.write_shard(tmp_path / "store", index, 2, [two_clicks(index)])
    store.write_manifest(tmp_path / "store", {})
    table = datasets.load_dataset(
        "parquet", data_files=str(tmp_path / "store" / "*.parquet"), cache_dir=str(tmp_path / "cache")
    )["train"]
    assert table.column_names == store.SCHEMA.names
    assert table[1]["sample_id"] == "000001"
    assert table[1]["clicks"][1] == {"x": 2.0, "y": 1.0, "positive": False}
    assert table[1]["mask"] == {"size": [2, 3], "counts": "15"}


def interrupted_rows():
    yield two_clicks(0)
    raise KeyboardInterrupt


def test_an_interrupted_shard_is_none(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        store.write_shard(tmp_path, 0, 2, interrupted_rows())
    assert list(tmp_path.iterdir()) == []
    assert store.finished_shards(tmp_path, 2) == set()


def test_a_write_that_fails_keeps_the_shard_before_it(tmp_path, monkeypatch):
    path = store.write_shard(tmp_path, 0, 1, [two_clicks(0)])
    before = path.read_bytes()

    def fail(table, where, **_):
        where.write_bytes(b"PAR1 half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_table", fail)
    with pytest.raises(OSError, match="No space"):
        store.write_shard(tmp_path, 0, 1, [two_clicks(1)])
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_job_left_is_overwritten(tmp_path):
    (tmp_path / "clicks-00000-of-00001.parquet.partial").write_bytes(b"half")
    with pytest.raises(GeoClickError, match="no click store"):
        list(store.read(tmp_path))
    path = store.write_shard(tmp_path, 0, 1, [two_clicks(0)])
    assert list(tmp_path.iterdir()) == [path]


def test_finished_shards(tmp_path):
    assert store.finished_shards(tmp_path / "none", 4) == set()
    for index in (1, 3):
        store.write_shard(tmp_path, index, 4, [])
    assert store.finished_shards(tmp_path, 4) == {1, 3}
    assert store.finished_shards(tmp_path, 5) == set()


def test_incomplete_and_missing_stores_say_so(tmp_path):
    with pytest.raises(GeoClickError, match="no click store"):
        list(store.read(tmp_path / "none"))
    store.write_shard(tmp_path, 0, 2, [two_clicks(0)])
    with pytest.raises(GeoClickError, match="1 of 2 shards"):
        list(store.read(tmp_path))
    store.write_shard(tmp_path, 0, 3, [two_clicks(0)])
    with pytest.raises(GeoClickError, match="different jobs"):
        list(store.read(tmp_path))


def test_broken_shard_says_so(tmp_path):
    path = store.write_shard(tmp_path, 0, 1, [two_clicks(number) for number in range(50)])
    whole = path.read_bytes()
    for broken in (b"", whole[: len(whole) // 2], b"x" * 500):
        path.write_bytes(broken)
        with pytest.raises(GeoClickError, match="broken"):
            list(store.read(tmp_path))


@pytest.mark.parametrize("columns", [{}, {"more": pa.array(["x"])}])
def test_another_schema_version_is_refused(tmp_path, columns):
    path = store.write_shard(tmp_path, 0, 1, [two_clicks(0)])
    table = pq.read_table(path)
    index = table.schema.get_field_index("schema_version")
    table = table.set_column(index, "schema_version", pa.array([99], pa.int32()))
    for name, values in columns.items():
        table = table.append_column(name, values)
    pq.write_table(table, path)
    with pytest.raises(GeoClickError, match="schema version 99, but this GeoClick reads 1"):
        list(store.read(tmp_path))


def test_another_table_is_refused(tmp_path):
    pq.write_table(pa.table({"a": [1]}), tmp_path / store.shard_name(0, 1))
    with pytest.raises(GeoClickError, match="schema version None"):
        list(store.read(tmp_path))


def test_manifest(tmp_path):
    with pytest.raises(GeoClickError, match=r"manifest\.json"):
        store.read_manifest(tmp_path)
    store.write_manifest(tmp_path, {"rows": 3})
    assert store.read_manifest(tmp_path) == {"schema_version": 3, "rows": 3}
    path = tmp_path / "manifest.json"
    for broken in ("{", "[1]", json.dumps({"schema_version": 4}), "[" * 100_000):
        path.write_text(broken)
        with pytest.raises(GeoClickError):
            store.read_manifest(tmp_path)


def test_datasets_reads_a_store_among_the_other_files_of_its_job(tmp_path):
    datasets = pytest.importorskip("datasets")
    clicks, _ = tiny.click_store(tmp_path, rows=5)
    for name in ("dropped.jsonl", "failures.jsonl"):
        (clicks / name).touch()
    (clicks / "metrics.json").write_text('{"samples": 5}')
    (clicks / "config.yaml").write_text("seed: 0\n")
    table = datasets.load_dataset(str(clicks), cache_dir=str(tmp_path / "cache"))["train"]
    assert table["sample_id"] == [row.sample_id for row in store.read(clicks)]
    assert store.read_manifest(clicks)["rows"] == 5


def test_rows_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        row(0).seed = 1


def test_rows_are_left_out_for_a_missing_click_or_a_poor_mask():
    clicks = [Click(0, 0), Click(1, 1)]
    assert store.why_left_out(row(0, clicks), 2, 0.5) == ""
    assert store.why_left_out(row(0, clicks), 2, 0.6) == "below min_iou"
    better = dataclasses.replace(row(0, clicks), ious=(0.5, 0.7))
    assert [store.why_left_out(better, taken, 0.6) for taken in (1, 2)] == ["below min_iou", ""]
    assert store.why_left_out(row(0), 0, 0.0) == "no clicks for a target"
    assert store.why_left_out(dataclasses.replace(row(0), task="no_target"), 0, 0.9) == ""


def test_images_are_there_and_inside_the_root(tmp_path):
    (tmp_path / "root").mkdir()
    for folder in (tmp_path, tmp_path / "root"):
        (folder / "a.png").touch()
    assert store.existing_image(tmp_path / "root", "a.png") == (tmp_path / "root/a.png").resolve()
    with pytest.raises(GeoClickError, match="give --root the folder of the dataset"):
        store.existing_image(tmp_path / "root", "b.png")
    with pytest.raises(GeoClickError, match="leads out of"):
        store.existing_image(tmp_path / "root", "../a.png")
