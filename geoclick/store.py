"""The click store: Parquet shards of click sequences with a manifest, written atomically and read as a stream.

`datasets.load_dataset("STORE")` reads it, too, and so does `pd.read_parquet(sorted(glob("STORE/*.parquet")))`. A shard
is written under a temporary name and renamed when it is complete. The same rows give the same bytes, so a job that is
interrupted and rerun produces the same store as an uninterrupted one.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from geoclick import stored_rows
from geoclick.clicks import Click, ClickSequence
from geoclick.errors import GeoClickError
from geoclick.files import inside, refuse_special, sha256_of_all, whole, write_whole
from geoclick.masks import Rle

SCHEMA_VERSION = 3
READABLE = (1, 2, 3)
"""Schema versions that are read. Version 1 has no column `parts`: each sequence is one part. Versions 1 and 2 have no
columns `given` and `shown`: all clicks are taught, on the images as they are."""

_RLE = pa.struct([("size", pa.list_(pa.int32())), ("counts", pa.string())])
SCHEMA = pa.schema(
    [
        ("sample_id", pa.string()),
        ("dataset", pa.string()),
        ("split", pa.string()),
        ("task", pa.string()),
        ("image", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("query", pa.string()),
        ("mask", _RLE),
        (
            "clicks",
            pa.list_(pa.struct([("x", pa.float64()), ("y", pa.float64()), ("positive", pa.bool_())])),
        ),
        ("ious", pa.list_(pa.float64())),
        ("segmenter", pa.string()),
        ("segmenter_sha256", pa.string()),
        ("policy", pa.string()),
        ("seed", pa.int64()),
        ("schema_version", pa.int32()),
        ("category", pa.string()),
        ("parts", pa.list_(pa.int32())),
        ("given", pa.int32()),
        ("shown", _RLE),
    ]
)
SECOND_SCHEMA = pa.schema([field for field in SCHEMA if field.name not in ("given", "shown")])
FIRST_SCHEMA = pa.schema([field for field in SECOND_SCHEMA if field.name != "parts"])
"""Schema version 1."""
SCHEMAS = (SCHEMA, SECOND_SCHEMA, FIRST_SCHEMA)

DATASET_CONFIG = ".huggingface.yaml"
"""File in which `datasets` looks for the data files of a folder."""
_SHARD = re.compile(r"clicks-([0-9]{5})-of-([0-9]{5})\.parquet")
_BATCH = 256


@dataclass(frozen=True, kw_only=True)
class Row:
    """One sample with its clicks.

    Attributes:
        sample_id: unique within dataset and split.
        image: path relative to the dataset's root, with forward slashes.
        width: width of the original image in pixels.
        height: height of the original image in pixels.
        mask: COCO RLE of the target at the size of the original image.
        clicks: in pixels of the original image; empty if the query has no target.
        ious: IoU of the segmenter's mask with the target after each click.
        segmenter: name of the segmenter that was used.
        segmenter_sha256: SHA-256 of its weights.
        policy: click policy and prompting mode.
        seed: random seed of the job.
        category: class of the target; empty if the dataset has none.
        parts: number of clicks of each part, each of which is a prompt of its own; one part if it is not given.
        given: number of first clicks that a model made itself. They are the beginning of the answer and are not taught;
            the clicks after them, and the end of the answer, are.
        shown: COCO RLE of the mask that is drawn on the image for the model, see `geoclick.mask_overlay`; None for the
            image as it is.
    """

    sample_id: str
    dataset: str
    split: str
    task: str
    image: str
    width: int
    height: int
    query: str
    mask: Rle
    clicks: ClickSequence
    ious: tuple[float, ...]
    segmenter: str
    segmenter_sha256: str
    policy: str
    seed: int
    category: str = ""
    parts: tuple[int, ...] = ()
    given: int = 0
    shown: Rle | None = None

    def __post_init__(self) -> None:
        if self.clicks and not self.parts:
            object.__setattr__(self, "parts", (len(self.clicks),))

    @property
    def sequences(self) -> tuple[ClickSequence, ...]:
        """The clicks of each part."""
        ends = accumulate(self.parts)
        return tuple(self.clicks[end - length : end] for end, length in zip(ends, self.parts, strict=True))


def shard_name(index: int, count: int) -> str:
    """The file name of shard `index` of `count`, such as `clicks-00003-of-00016.parquet`."""
    return f"clicks-{index:05d}-of-{count:05d}.parquet"


def write_shard(folder: str | Path, index: int, count: int, rows: Iterable[Row]) -> Path:
    """Write one shard atomically, replacing one of the same name, and return its path."""
    path = Path(folder) / shard_name(index, count)
    path.parent.mkdir(parents=True, exist_ok=True)
    records = [_record(row) for row in rows]
    table = pa.Table.from_pylist(records, schema=SCHEMA)
    with whole(path) as partial:
        pq.write_table(table, partial, compression="zstd")
    return path


def finished_shards(folder: str | Path, count: int) -> set[int]:
    """The indices of those of `count` shards that are written."""
    return {index for index in range(count) if (Path(folder) / shard_name(index, count)).is_file()}


def write_manifest(folder: str | Path, manifest: dict[str, Any]) -> None:
    """Write `manifest.json`, with the schema version added; it is written last and marks a complete store.

    Before it, a hidden file names the shards for `datasets.load_dataset(FOLDER)`, which else reads other files, too.
    """
    write_whole(
        Path(folder) / DATASET_CONFIG, "configs:\n- config_name: default\n  data_files: clicks-*.parquet\n"
    )
    content = {"schema_version": SCHEMA_VERSION, **manifest}
    write_whole(Path(folder) / "manifest.json", json.dumps(content, indent=2) + "\n")


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """The manifest of a store; raises GeoClickError if it is missing or broken."""
    path = Path(folder) / "manifest.json"
    refuse_special(path)
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise GeoClickError(
            f"{folder} has no manifest.json; give a click store, or rerun its 'geoclick synth'."
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise GeoClickError(f"{path} is not valid JSON; rerun its 'geoclick synth'.") from error
    if not isinstance(manifest, dict):
        raise GeoClickError(f"{path} is no manifest; rerun its 'geoclick synth'.")
    _check_version(manifest.get("schema_version"), path)
    return manifest


def read(folder: str | Path) -> Iterator[Row]:
    """The rows of a store, shard by shard, a few hundred in memory at a time.

    Raises:
        GeoClickError: there is no store, a shard is missing or broken, or the schema version is another.
    """
    for path, batch in batches(folder, _BATCH):
        for record in batch.to_pylist():
            yield row_of(record, path)


def batches(folder: str | Path, rows: int) -> Iterator[tuple[Path, pa.RecordBatch]]:
    """The rows of a store in order, as columns of one of SCHEMAS, with the shard that holds them; errors as in `read`.

    Args:
        folder: of the store.
        rows: of a batch at most.
    """
    seen: set[int] = set()
    for path in shards_of(Path(folder)):
        try:
            with pq.ParquetFile(path) as file:
                if file.schema_arrow not in SCHEMAS:
                    _check_version(_stored_version(file), path)
                    raise GeoClickError(
                        f"{path} does not have the columns of a click store; make one with 'geoclick synth'."
                    )
                for batch in file.iter_batches(rows):
                    if reason := stored_rows.fault(batch) or stored_rows.repeated(batch, seen):
                        raise GeoClickError(f"{path} is broken: {reason}; make the store again.")
                    yield path, batch
        except (pa.ArrowException, OSError) as error:
            raise GeoClickError(
                f"{path} is broken; delete it and rerun the same 'geoclick synth' command."
            ) from error


def digest(*folders: str | Path) -> str:
    """SHA-256 of the shards of stores, which changes with their rows; errors as in `read`."""
    return sha256_of_all(shard for folder in folders for shard in shards_of(Path(folder)))


def why_left_out(row: Row, clicks: int, min_iou: float) -> str:
    """Why a row is not used for training if its first `clicks` clicks are taken; empty if it is used.

    Args:
        row: a row of a store.
        clicks: number of clicks, at most those of the row.
        min_iou: smallest IoU of the mask after those clicks; rows without a target are always used.
    """
    if not clicks and row.task != "no_target":
        return "no clicks for a target"
    if clicks and row.ious[clicks - 1] < min_iou:
        return "below min_iou"
    return ""


def existing_image(root: Path, image: str) -> Path:
    """The file of a row's image; raises GeoClickError if it is missing or outside the dataset's root."""
    path = inside(root, image)
    if not path.is_file():
        raise GeoClickError(
            f"{path} does not exist though the click store names it; give --root the folder of the dataset."
        )
    return path


def shards_of(folder: Path) -> list[Path]:
    """The shards of a complete store, in order."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    counts_by_name = {match[0]: int(match[2]) for match in map(_SHARD.fullmatch, names) if match}
    if not counts_by_name:
        raise GeoClickError(
            f"{folder} holds no click store; make one with 'geoclick synth --output {folder}'."
        )
    counts = set(counts_by_name.values())
    if len(counts) > 1:
        raise GeoClickError(
            f"{folder} holds shards of different jobs (of {' and of '.join(map(str, sorted(counts)))}); "
            "give each job its own folder."
        )
    count = counts.pop()
    if beyond := [name for name in counts_by_name if int(name[7:12]) >= count]:
        raise GeoClickError(f"{folder / min(beyond)} has a number that no shard of {count} has; remove it.")
    if special := [name for name in counts_by_name if not (folder / name).is_file()]:
        raise GeoClickError(f"{folder / min(special)} is no file; remove it and rerun its 'geoclick synth'.")
    if len(counts_by_name) < count:
        raise GeoClickError(
            f"{folder} is incomplete: {len(counts_by_name)} of {count} shards; "
            "rerun the same 'geoclick synth' command to complete it."
        )
    return [folder / name for name in sorted(counts_by_name)]


def _record(row: Row) -> dict[str, Any]:
    clicks = [{"x": x, "y": y, "positive": positive} for x, y, positive in row.clicks]
    return {**vars(row), "clicks": clicks, "schema_version": SCHEMA_VERSION}


def row_of(record: dict[str, Any], path: Path) -> Row:
    """A row, given its columns in the shard `path`; raises GeoClickError if they contradict each other."""
    _check_version(record["schema_version"], path)
    clicks = tuple(Click(click["x"], click["y"], click["positive"]) for click in record["clicks"])
    parts = tuple(record.get("parts") or ())
    if parts and (sum(parts) != len(clicks) or min(parts) < 1):
        raise GeoClickError(
            f"{path} is broken: the parts of {record['sample_id']} have {list(parts)} clicks, of {len(clicks)}; "
            "recreate the store with 'geoclick synth'."
        )
    given = record.get("given") or 0
    if not 0 <= given <= len(clicks):
        raise GeoClickError(
            f"{path} is broken: {record['sample_id']} has {given} given clicks, of {len(clicks)}; "
            "recreate the store with 'geoclick synth'."
        )
    values = {"clicks": clicks, "ious": tuple(record["ious"]), "parts": parts, "given": given}
    columns = {**record, **values}
    del columns["schema_version"]
    return Row(**columns)


def _stored_version(file: pq.ParquetFile) -> Any:
    """The schema version in a file with unknown columns."""
    if "schema_version" not in file.schema_arrow.names or not file.metadata.num_rows:
        return None
    return next(file.iter_batches(1, columns=["schema_version"])).to_pylist()[0]["schema_version"]


def _check_version(version: Any, path: Path) -> None:
    if version not in READABLE:
        readable = f"{', '.join(map(str, READABLE[:-1]))} and {READABLE[-1]}"
        raise GeoClickError(
            f"{path} has schema version {version}, but this GeoClick reads {readable}; "
            "recreate the store with 'geoclick synth'."
        )
