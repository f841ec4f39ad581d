"""Start-up of a supervised run on a large click store, and the speed of reading its rows.

    python -m benchmarks.reading_rows --output runs/rows --rows 20000 --baseline ../other-checkout
    python -m benchmarks.reading_rows --output runs/rows-1m --rows 1000000

Makes a simulated store: rows on images of 64 pixels, ten an image. Then `geoclick train sft` takes one packed step on
it, once with an empty cache folder and once more: seconds of the complete command, CPU seconds and peak memory. With
--baseline, all rows are read once in random order, in batches and in packs, by this checkout and by the other one, each
in a process of its own. Writes rows.json.
"""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import measured_command
from geoclick import config, files, images, masks, store
from geoclick.clicks import Click
from geoclick.command import Command
from geoclick.config import option
from geoclick.store import Row

REPO = Path(__file__).parents[1]
SHARD = 2000
ROWS_AN_IMAGE = 10
SIDE = 64
LINKS = 10_000
"""Names of one file: file systems limit their number."""
WAYS = ("batches", "packs")


@dataclass(frozen=True)
class RowsOptions:
    """Options of `python -m benchmarks.reading_rows`."""

    output: str = option(help="folder for the store, the runs and rows.json")
    rows: int = option(20_000, help="rows of the store, a multiple of 2,000", minimum=SHARD)
    baseline: str | None = option(None, help="another checkout, whose reading of rows is measured, too")
    start: bool = option(True, help="measure the start of a run")
    seed: int = option(0, help="random seed (clicks)")


def template(seed: int) -> pa.Table:
    """The rows of one shard; those of the others differ in ids, images and queries.

    They have schema version 2, which earlier checkouts read, too.
    """
    random = np.random.default_rng(seed)
    found = []
    for number in range(SHARD):
        clicks = tuple(
            Click(float(x), float(y), place == 0)
            for place, (x, y) in enumerate(random.integers(0, SIDE, (1 + number % 6, 2)))
        )
        mask = np.zeros((SIDE, SIDE), bool)
        left, top = random.integers(0, SIDE // 2, 2)
        mask[top : top + 20, left : left + 20] = True
        found.append(
            Row(
                sample_id="",
                image="",
                query="",
                width=SIDE,
                height=SIDE,
                mask=masks.encode_rle(mask),
                clicks=clicks,
                ious=tuple(np.sort(random.random(len(clicks))).tolist()),
                segmenter_sha256="0" * 64,
                policy="center",
                seed=seed,
                dataset="simulated",
                split="train",
                task="referring",
                segmenter="none",
            )
        )
    records = [
        {
            **vars(row),
            "clicks": [click._asdict() for click in row.clicks],
            "schema_version": 2,
        }
        for row in found
    ]
    return pa.Table.from_pylist(records, schema=store.SECOND_SCHEMA)


def make(folder: Path, rows: int, seed: int) -> None:
    """Write a simulated store and its images, unless they are there."""
    clicks, root = folder / "clicks", folder / "data"
    if (clicks / "manifest.json").is_file():
        return
    (root / "images").mkdir(parents=True, exist_ok=True)
    clicks.mkdir(exist_ok=True)
    random = np.random.default_rng(seed)
    for number in range(rows // ROWS_AN_IMAGE):
        path, source = root / image_name(number), root / image_name(number // LINKS * LINKS)
        if number % LINKS == 0:
            images.write_png(path, random.integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8))
        else:
            os.link(source, path)
    table, shards = template(seed), rows // SHARD
    for shard in range(shards):
        numbers = range(shard * SHARD, (shard + 1) * SHARD)
        changed = {
            "sample_id": [f"s{number}" for number in numbers],
            "image": [image_name(number // ROWS_AN_IMAGE) for number in numbers],
            "query": [f"the building number {number % ROWS_AN_IMAGE} from the road" for number in numbers],
        }
        for name, values in changed.items():
            table = table.set_column(
                table.schema.get_field_index(name), table.schema.field(name), pa.array(values)
            )
        pq.write_table(table, clicks / store.shard_name(shard, shards), compression="zstd")
    store.write_manifest(clicks, {"rows": rows})


def image_name(number: int) -> str:
    """The name of an image, relative to the root."""
    return f"images/{number:06d}.png"


def start(folder: Path, output: Path) -> dict[str, float]:
    """One packed step of a supervised run on the store: seconds, CPU seconds and peak memory of the command."""
    shutil.rmtree(output, ignore_errors=True)
    words = [
        "--config",
        REPO / "configs/sft/embedded.yaml",
        "--clicks",
        folder / "clicks",
        "--root",
        folder / "data",
    ]
    words += ["--packing-tokens", 2048, "--per_device_train_batch_size", 1, "--feature-memory-gb", 0]
    words += ["--max_steps", 1, "--save_strategy", "no", "--use_cpu", "true", "--output", output]
    return asdict(measured_command.measure("geoclick.train.sft", *words))


def read(checkout: Path, folder: Path, way: str) -> dict[str, float]:
    """What reading all rows takes in a checkout; see `reading_process`."""
    script = Path(__file__).with_name("reading_process.py")
    words = [checkout, folder / "clicks", folder / "data", way]
    done = subprocess.run(
        [sys.executable, script, *map(str, words)], check=True, stdout=subprocess.PIPE, text=True
    )
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def run(options: RowsOptions) -> None:
    """Make the store, measure, and print and write the figures."""
    folder = Path(options.output)
    make(folder, options.rows, options.seed)
    cache = folder / "cache"
    os.environ["GEOCLICK_CACHE"] = str(cache.resolve())
    figures: dict[str, dict[str, float]] = {}

    def add(name: str, values: dict[str, float]) -> None:
        figures[name] = values
        shown = ", ".join(f"{key} {value:,.1f}" for key, value in values.items())
        print(f"{name}: {shown}", flush=True)
        files.write_whole(folder / "rows.json", json.dumps(figures, indent=1) + "\n")

    if options.start:
        shutil.rmtree(cache, ignore_errors=True)
        add("start, cold", start(folder, folder / "cold"))
        add("start, warm", start(folder, folder / "warm"))
        size = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file())
        add("cache folder", {"mb": size / 1e6})
    if options.baseline:
        for way in WAYS:
            shutil.rmtree(cache, ignore_errors=True)
            add(f"{way}, here, cold", read(REPO, folder, way))
            add(f"{way}, here, warm", read(REPO, folder, way))
            add(f"{way}, baseline", read(Path(options.baseline).resolve(), folder, way))
    config.write_config(options, folder)


main = Command(
    prog="python -m benchmarks.reading_rows",
    options=RowsOptions,
    run=run,
    description="Measure the start of a supervised run on a large click store, and the reading of its rows.",
    example="python -m benchmarks.reading_rows --output runs/rows --rows 20000",
)


if __name__ == "__main__":
    sys.exit(main())
