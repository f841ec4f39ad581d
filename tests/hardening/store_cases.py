"""Click stores, evaluations and run records that are broken in one place."""

import json
import math
import shutil

import pyarrow as pa
import pyarrow.parquet as pq

from tests.hardening.cases import Case

NAN, INF = math.nan, math.inf


def set_to(key, value):
    def change(row):
        row[key] = value

    return change


def click(key, value):
    def change(row):
        row["clicks"][0][key] = value

    return change


def cleared(key):
    return set_to(key, None)


ROWS = {
    **{f"{key} null": cleared(key) for key in ("sample_id", "image", "query", "task", "width", "height")},
    **{f"{key} null": cleared(key) for key in ("mask", "clicks", "ious", "segmenter", "policy", "seed")},
    **{f"{key} null": cleared(key) for key in ("dataset", "split", "schema_version")},
    **{f"{key} empty": set_to(key, "") for key in ("sample_id", "image", "query", "task")},
    **{f"{key} {value}": set_to(key, value) for key in ("width", "height") for value in (0, -5, 2**31 - 1)},
    **{f"x {value}": click("x", value) for value in (NAN, INF, -1.0, 1e30, None)},
    **{f"y {value}": click("y", value) for value in (NAN, -INF, -1.0, 1e30, None)},
    "sign null": click("positive", None),
    "a click null": lambda row: row["clicks"].__setitem__(0, None),
    "ious empty": set_to("ious", []),
    "ious too many": lambda row: row["ious"].append(0.5),
    **{f"iou {value}": set_to("ious", [value] * 9) for value in (NAN, 7.0, -1.0, INF)},
    "an iou NaN": lambda row: row["ious"].__setitem__(0, NAN),
    "an iou 7": lambda row: row["ious"].__setitem__(0, 7.0),
    "an iou null": lambda row: row["ious"].__setitem__(0, None),
    "mask size null": lambda row: row["mask"].__setitem__("size", None),
    "mask counts null": lambda row: row["mask"].__setitem__("counts", None),
    "mask counts empty": lambda row: row["mask"].__setitem__("counts", ""),
    "mask counts broken": lambda row: row["mask"].__setitem__("counts", "~~~~"),
    "mask of another size": lambda row: row["mask"].__setitem__("size", [7, 9]),
    "mask of one side": lambda row: row["mask"].__setitem__("size", [7]),
    "mask of 10^9": lambda row: row.update(mask={"size": [10**9, 10**9], "counts": "0"}),
    "parts that do not fit": set_to("parts", [1, 99]),
    "parts with null": set_to("parts", [None]),
    "given 99": set_to("given", 99),
    "given -1": set_to("given", -1),
    "shown of another size": set_to("shown", {"size": [3, 3], "counts": "9"}),
    "shown broken": set_to("shown", {"size": [3, 3], "counts": "~~~"}),
    "task unknown": set_to("task", "poetry"),
    "image outside": set_to("image", "../../../../etc/passwd"),
    "image absolute": set_to("image", "/etc/passwd"),
    "image a folder": set_to("image", "train/images"),
    "image missing": set_to("image", "train/images/none.png"),
    "schema 99": set_to("schema_version", 99),
    "schema 0": set_to("schema_version", 0),
    "query blank": set_to("query", " \n "),
    "query with NUL": set_to("query", "a\0b"),
    "a million letters": set_to("query", "a" * 1_000_000),
}
"""Changes of a row with clicks, all of which must be refused."""

TOLERATED = ("segmenter null", "policy null", "seed null", "dataset null", "split null")


def twice(table):
    return pa.concat_tables([table, table])


TABLES = {
    "every row twice": twice,
    "no rows": lambda table: table.slice(0, 0),
    "no clicks column": lambda table: table.drop_columns(["clicks"]),
    "columns of another type": lambda table: table.set_column(
        table.schema.get_field_index("width"), "width", pa.array([str(w) for w in table["width"].to_pylist()])
    ),
    "a further column": lambda table: table.append_column("code", pa.array(["x"] * len(table))),
    "columns in another order": lambda table: table.select(table.column_names[::-1]),
}


def store_with(inputs, folder, change_row=None, change_table=None):
    """A copy of the click store with a changed row or table."""
    copy = folder / "store"
    shutil.copytree(inputs.clicks, copy)
    path = next(copy.glob("clicks-*.parquet"))
    table = pq.read_table(path)
    if change_row:
        rows = table.to_pylist()
        change_row(next(row for row in rows if row["clicks"]))
        table = pa.Table.from_pylist(rows, schema=table.schema)
    if change_table:
        table = change_table(table)
    pq.write_table(table, path)
    return copy


def lines_of(command, inputs, folder, store):
    """A command line that reads a click store."""
    output = ["--output", folder / "out"]
    if command == "train sft":
        data = ["--clicks", store, "--root", inputs.scenes, "--allow-contradictions"]
        small = ["--max-steps", 1, "--per-device-train-batch-size", 64]
        return ["--config", "sft/embedded", *data, *small, *output]
    if command == "export":
        return [store, "--root", inputs.scenes, "--layout", "ms-swift", *output]
    if command == "quality":
        return [store, "--root", inputs.scenes, *output]
    oracle = ["--predictor", "oracle", "--clicks", store]
    return ["--root", inputs.scenes, "--split", "train", *oracle, *output]


READERS = ("quality", "export", "train sft", "evaluate")
FILES = {
    "a shard cut": lambda store: cut(next(store.glob("*.parquet"))),
    "a shard of text": lambda store: next(store.glob("*.parquet")).write_text("click"),
    "an empty shard": lambda store: next(store.glob("*.parquet")).write_text(""),
    "a further shard beyond": lambda store: shutil.copy(
        next(store.glob("*.parquet")), store / "clicks-00007-of-00003.parquet"
    ),
    "a shard number beyond": lambda store: next(store.glob("*.parquet")).rename(
        store / "clicks-00001-of-00001.parquet"
    ),
    "shards of none": lambda store: next(store.glob("*.parquet")).rename(
        store / "clicks-00000-of-00000.parquet"
    ),
    "no shard": lambda store: next(store.glob("*.parquet")).unlink(),
}


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def cases():
    """The cases of this kind."""
    return [*row_cases(), *table_cases(), *json_cases(), *line_cases()]


def row_cases():
    for command in READERS:
        for name, change in ROWS.items():

            def words(inputs, folder, change=change, command=command):
                return lines_of(command, inputs, folder, store_with(inputs, folder, change_row=change))

            yield Case("stores", command, name, words, refuse=name not in TOLERATED)


def table_cases():
    for command in READERS:
        for name, change in TABLES.items():

            def words(inputs, folder, change=change, command=command):
                return lines_of(command, inputs, folder, store_with(inputs, folder, change_table=change))

            yield Case("stores", command, name, words)
        for name, change in FILES.items():

            def broken(inputs, folder, change=change, command=command):
                store = store_with(inputs, folder)
                change(store)
                return lines_of(command, inputs, folder, store)

            yield Case("stores", command, name, broken)


DOCUMENTS = {
    "empty": b"",
    "cut": None,
    "binary": b"\x00\xff\xfe",
    "null": b"null",
    "a list": b"[]",
    "a number": b"7",
    "nested": b"[" * 100_000,
    "a huge integer": b'{"a": ' + b"9" * 5000 + b"}",
    "an empty object": b"{}",
}
"""What stands in place of a JSON file."""

RECORDS = {
    "quality": ("manifest.json", lambda i, f: (i.clicks, lines_of("quality", i, f, f / "copy"))),
    "export": ("manifest.json", lambda i, f: (i.clicks, lines_of("export", i, f, f / "copy"))),
    "train sft": ("manifest.json", lambda i, f: (i.clicks, lines_of("train sft", i, f, f / "copy"))),
    "compare": (
        "metrics.json",
        lambda i, f: (i.evaluation("a"), [f / "copy", i.evaluation("b"), "--output", f / "out"]),
    ),
    "evaluate": (
        "protocol.json",
        lambda i, f: (
            i.evaluation("a"),
            [*("--root", i.scenes, "--split", "test", "--predictor", "center-point"), "--output", f / "copy"],
        ),
    ),
    "predict": (
        "geoclick.json",
        lambda i, f: (
            i.adapter,
            [i.image, "--text", "tank", "--adapter", f / "copy", "--output", f / "out"],
        ),
    ),
    "merge": ("geoclick.json", lambda i, f: (i.adapter, [f / "copy", "--output", f / "out"])),
    "card": ("geoclick.json", lambda i, f: (i.adapter, [f / "copy"])),
    "train grpo": (
        "adapter_config.json",
        lambda i, f: (
            i.adapter,
            [
                *("--config", "grpo/embedded", "--adapter", f / "copy", "--root", i.scenes),
                *("--max-steps", 1, "--output", f / "out"),
            ],
        ),
    ),
}
"""A JSON file that each command reads, and how: (folder that is copied, command line)."""


def json_cases():
    for command, (file, line) in RECORDS.items():
        for name, content in DOCUMENTS.items():

            def words(inputs, folder, file=file, line=line, content=content):
                source, words = line(inputs, folder)
                shutil.copytree(source, folder / "copy")
                path = folder / "copy" / file
                path.write_bytes(
                    path.read_bytes()[: path.stat().st_size // 2] if content is None else content
                )
                return words

            heavy = command in ("predict", "merge", "card", "train grpo")
            yield Case("stores", command, f"{file}: {name}", words, heavy=heavy)


LINES = {
    "a line of junk": lambda lines: lines.insert(1, "junk"),
    "a line of null": lambda lines: lines.insert(1, "null"),
    "the last line missing": lambda lines: lines.pop(),
    "the last line cut": lambda lines: lines.append(lines.pop()[:40]),
    "a line twice": lambda lines: lines.append(lines[0]),
    "iou NaN": lambda lines: edited(lines, iou=NAN),
    "iou 7": lambda lines: edited(lines, iou=7),
    "iou null": lambda lines: edited(lines, iou=None),
    "union -1": lambda lines: edited(lines, union=-1),
    "intersection a text": lambda lines: edited(lines, intersection="many"),
    "mask null": lambda lines: edited(lines, mask=None),
    "mask of another size": lambda lines: edited(lines, mask={"size": [3, 3], "counts": "9"}),
    "target broken": lambda lines: edited(lines, target={"size": [3, 3], "counts": "~"}),
    "sample_id a number": lambda lines: edited(lines, sample_id=7),
    "clicks of words": lambda lines: edited(lines, clicks=["a", "b"]),
    "image outside": lambda lines: edited(lines, image="../../../../../etc/passwd"),
    "size of 10^9": lambda lines: edited(lines, size=[10**9, 10**9]),
    "empty": lambda lines: lines.clear(),
}
"""Changes of predictions.jsonl."""


def edited(lines, **values):
    lines[0] = json.dumps({**json.loads(lines[0]), **values})


def line_cases():
    for name, change in LINES.items():

        def compare(inputs, folder, change=change):
            changed(inputs, folder, change)
            return [folder / "copy", inputs.evaluation("b"), "--output", folder / "out"]

        def evaluate(inputs, folder, change=change):
            changed(inputs, folder, change)
            options = ("--root", inputs.scenes, "--split", "test", "--predictor", "center-point")
            return [*options, "--output", folder / "copy"]

        yield Case("stores", "compare", f"predictions.jsonl: {name}", compare)
        yield Case("stores", "evaluate", f"predictions.jsonl: {name}", evaluate)


def changed(inputs, folder, change):
    shutil.copytree(inputs.evaluation("a"), folder / "copy")
    path = folder / "copy" / "predictions.jsonl"
    lines = path.read_text().splitlines()
    change(lines)
    path.write_text("".join(line + "\n" for line in lines))
