"""`geoclick quality`: how good the clicks of a store are, in figures and pictures, and which samples are suspect.

    geoclick quality runs/synth --root data/scenes --output runs/quality

The output is quality.html (one file, no network), quality.json with the same figures, flags.jsonl with a line for each
suspect sample, config.yaml, and with `--drop` a click store without the suspect samples in clean/.
"""

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoclick import config
from geoclick.command import Command
from geoclick.config import option
from geoclick.errors import GeoClickError, UsageError
from geoclick.files import whole, write_whole

if TYPE_CHECKING:
    import numpy as np
    from rich.progress import Progress

    from geoclick.data_synthesis.quality.flags import Duplicates
    from geoclick.data_synthesis.quality.measures import Measures
    from geoclick.store import Row

EXAMPLE = "geoclick quality runs/synth --root data/scenes --output runs/quality"
SHARD_SAMPLES = 2000
"""Samples in a file of the clean store."""

MADE_WITH = ("dataset", "split", "segmenter", "policy")


@dataclass(frozen=True)
class QualityOptions:
    """What `geoclick quality` takes."""

    store: str = option(help="click store of geoclick synth", positional=True)
    output: str = option(help="folder for the report; the same command on it writes it anew")
    root: str | None = option(None, help="the dataset's folder; scenes-v1 draws itself in runs when none")
    min_iou: float = option(0.5, help="flag samples whose best IoU is below", minimum=0)
    duplicate_iou: float = option(
        0.95,
        help="flag masks whose IoU with an earlier one of the same image is above; 1 for none",
        minimum=0,
    )
    duplicate_query: str = option(
        "any",
        choices=("any", "same"),
        help="same: a mask that answers another query is no duplicate",
    )
    min_radius: float = option(
        2.0, help="flag masks in which the largest disc has a radius below, in pixels", minimum=0
    )
    drop: bool = option(False, help="write the samples that are not flagged as a click store in OUTPUT/clean")
    max_clicks: int | None = option(
        None,
        help="clicks that NoC counts for a sequence that never gets there; none takes what the store was made with",
        minimum=1,
    )
    tokenizer: str = option("embedded", help="embedded, or a folder with tokenizer.json, to count answers")
    worst: int = option(12, help="worst samples, and examples of each flag, drawn at most", minimum=0)
    worst_per_group: int = option(
        3, help="worst samples of each dataset, task and category drawn at most", minimum=0
    )
    seed: int = option(0, help="picks the examples of flags", minimum=0)


def check(options: QualityOptions) -> None:
    """Raise UsageError for options that cannot be."""
    for name in ("min_iou", "duplicate_iou"):
        if getattr(options, name) > 1:
            raise UsageError(f"--{name.replace('_', '-')} must be 0 to 1, not {getattr(options, name)}.")
    output = Path(options.output)
    other = (output / "config.yaml").exists() and not (output / "quality.json").exists()
    if other or any(output.glob("clicks-*.parquet")):
        raise UsageError(f"{output} holds another run; name another --output.")
    if options.drop and (output / "clean").exists():
        raise UsageError(f"{output / 'clean'} is there already; remove it or name another --output.")


def run(options: QualityOptions) -> None:
    """Measure a store, flag, report, and filter it when asked to."""
    check(options)
    from geoclick import datasets, store
    from geoclick.data_synthesis.quality import figures, flags, measures, tokens

    if next(store.read(options.store), None) is None:
        raise GeoClickError(f"{options.store} holds no rows; make it again with 'geoclick synth'.")
    manifest = store.read_manifest(options.store)
    root = Path(datasets.root_of(str(manifest.get("dataset", "")), options.root))
    if not root.is_dir():
        raise UsageError(f"Dataset root {root} is not a folder; give --root an existing one.")
    options, output = replace(options, root=str(root)), Path(options.output)
    tokenizer = tokens.load_tokenizer(options.tokenizer)
    limits = flags.Limits(
        options.min_iou, options.min_radius, options.duplicate_iou, options.duplicate_query == "same"
    )

    def rows() -> "Iterator[Row]":
        return store.read(options.store)

    with _progress() as bar:
        with _line(bar, "Measuring", _stated(manifest, "samples")) as advance:
            measures = measures.measure(
                with_images(rows(), root),
                tokens.token_counter(tokenizer),
                advance,
                sequences=_stated(manifest, "sequences") or 1,
            )
        count = len(measures.rows)
        with _line(bar, "Comparing", count) as advance:
            duplicates = flags.find_duplicates(measures, rows, limits, advance)
        reasons = flags.flag(measures, duplicates, limits)
        suspect = flags.flagged(reasons)
        max_clicks = options.max_clicks or _made_with_clicks(manifest, measures)
        quality = {
            "store": options.store,
            "made_with": {key: manifest[key] for key in MADE_WITH if key in manifest},
            "iou_target": manifest.get("iou_target"),
            "max_clicks": max_clicks,
            "tokenizer": options.tokenizer,
            "limits": _limits(options),
            **figures.all_figures(measures, {**reasons, "any": suspect}, max_clicks),
        }
        _write_flags(output / "flags.jsonl", rows(), measures, duplicates, reasons)
        write_whole(output / "quality.json", json.dumps(quality, indent=1) + "\n")
        config.write_config(options, output)
        _write_page(options, quality, measures, duplicates, reasons, rows, bar)
        if options.drop:
            with _line(bar, "Filtering", count) as advance:
                _write_clean(options, manifest, quality, rows(), suspect, advance)
    print(_told(quality, output, options.drop))


@contextmanager
def _progress() -> "Iterator[Progress]":
    """The bars of the passes over the store, on the error stream."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        yield bar


@contextmanager
def _line(bar: "Progress", words: str, total: int | None) -> Iterator[Callable[[], None]]:
    """One bar, full when its block ends well; gives the function that moves it by one."""
    task = bar.add_task(words, total=total)
    yield lambda: bar.advance(task)
    full = bar.tasks[task].total or bar.tasks[task].completed or 1
    bar.update(task, total=full, completed=full)


def with_images(rows: "Iterable[Row]", root: Path) -> "Iterator[Row]":
    """The same rows; raises GeoClickError at the first whose image is not in `root`, before time is spent."""
    from geoclick.store import existing_image

    find = lru_cache(maxsize=4096)(existing_image)
    for row in rows:
        find(root, row.image)
        yield row


def _made_with_clicks(manifest: Mapping[str, Any], measures: "Measures") -> int:
    """The clicks that a sequence of the store may have; its longest where the manifest does not say."""
    return _stated(manifest, "clicks") or max(1, int(measures.rows["clicks"].max()))


def _stated(manifest: Mapping[str, Any], key: str) -> int | None:
    """A whole number above 0 in a manifest, None where it has no such."""
    value = manifest.get(key)
    return value if isinstance(value, int) and value > 0 else None


def _limits(options: QualityOptions) -> dict[str, Any]:
    """What decided which samples are flagged."""
    names = ("min_iou", "duplicate_iou", "duplicate_query", "min_radius")
    return {name: getattr(options, name) for name in names}


def _write_flags(
    path: Path,
    rows: "Iterable[Row]",
    measures: "Measures",
    duplicates: "Duplicates",
    reasons: "Mapping[str, np.ndarray]",
) -> None:
    """Write a line for each flagged sample, in the store's order, whole or not at all."""
    import numpy as np

    earlier = set(duplicates.of[duplicates.of >= 0].tolist())
    ids: dict[int, str] = {}
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as partial, partial.open("w", encoding="utf-8") as file:
        for place, row in enumerate(rows):
            if place in earlier:
                ids[place] = row.sample_id
            found = [reason for reason, flags in reasons.items() if flags[place]]
            if not found:
                continue
            numbers, of = measures.rows[place], int(duplicates.of[place])
            line = {
                **{k: getattr(row, k) for k in ("sample_id", "dataset", "split", "image", "query")},
                "reasons": found,
                "best_iou": round(float(numbers["best_iou"]), 6),
                "clicks": int(numbers["clicks"]),
                "radius": round(float(numbers["radius"]), 6),
                "area": int(numbers["area"]),
            }
            if of >= 0:
                line |= {
                    "duplicate_of": ids[of],
                    "duplicate_iou": round(float(duplicates.iou[place]), 6),
                    "same_query": bool(np.equal(*measures.rows["query"][[place, of]])),
                }
            file.write(json.dumps(line) + "\n")


def _write_page(
    options: QualityOptions,
    quality: dict[str, Any],
    measures: "Measures",
    duplicates: "Duplicates",
    reasons: "Mapping[str, np.ndarray]",
    rows: "Callable[[], Iterable[Row]]",
    bar: "Progress",
) -> None:
    """Draw the chosen samples and write quality.html."""
    from geoclick.data_synthesis.quality import page, pictures
    from geoclick.data_synthesis.quality.measures import GROUPS

    choice = pictures.Choice(options.worst, options.worst_per_group, options.seed)
    galleries = pictures.choose(measures, reasons, choice)
    wanted = pictures.wanted_rows(galleries, duplicates)
    kept = {place: row for place, row in enumerate(rows()) if place in wanted}
    with _line(bar, "Drawing", sum(map(len, galleries.values()))) as advance:
        drawn = pictures.draw_galleries(galleries, kept, Path(options.root), duplicates, advance)
    shown = {group: pictures.largest_groups(measures, group) for group in GROUPS}
    write_whole(Path(options.output) / "quality.html", page.render(quality, drawn, shown))


def _write_clean(
    options: QualityOptions,
    manifest: dict[str, Any],
    quality: dict[str, Any],
    rows: "Iterable[Row]",
    suspect: "np.ndarray",
    advance: Callable[[], None],
) -> None:
    """Write the store without the flagged samples; the folder has its name only when it is whole."""
    from geoclick import store

    def kept() -> "Iterator[Row]":
        for row, is_suspect in zip(rows, suspect.tolist(), strict=True):
            advance()
            if not is_suspect:
                yield row

    clean = Path(options.output) / "clean"
    partial = clean.with_name("clean.partial")
    # What a killed run left there is of no use.
    shutil.rmtree(partial, ignore_errors=True)
    left = int((~suspect).sum())
    shards, stream = max(1, -(-left // SHARD_SAMPLES)), kept()
    for index in range(shards):
        store.write_shard(partial, index, shards, islice(stream, SHARD_SAMPLES))
    # The last flagged rows have nothing kept behind them that would have them read.
    next(stream, None)
    counts = dict(quality["all"]["flagged"])
    source = (Path(options.store) / "manifest.json").read_bytes()
    filtered = {
        "store": options.store,
        "manifest_sha256": hashlib.sha256(source).hexdigest(),
        "samples": len(suspect),
        "dropped": counts.pop("any"),
        "dropped_by_reason": counts,
        "limits": _limits(options),
    }
    store.write_manifest(partial, manifest | {"samples": left, "shards": shards, "filtered_from": filtered})
    partial.replace(clean)


def _told(quality: Mapping[str, Any], output: Path, dropped: bool) -> str:
    """The final lines."""
    block = quality["all"]
    flagged = dict(block["flagged"])
    count = flagged.pop("any")
    lines = []
    if block["sequences"]:
        noc = ", ".join(f"NoC@{level} {found['mean']:.2f}" for level, found in block["noc"].items())
        lines.append(
            f"{block['samples']} samples: mean best IoU {block['best_iou']['mean']:.3f}, "
            f"{block['lengths']['mean']:.2f} clicks a sequence, {noc}"
        )
    reasons = ", ".join(f"{n} {reason}" for reason, n in flagged.items())
    lines.append(f"{count} flagged ({reasons}); see {output / 'flags.jsonl'}")
    if dropped:
        lines.append(f"{block['samples'] - count} kept in {output / 'clean'}")
    return "\n".join([*lines, f"report: {output / 'quality.html'}"])


main = Command(
    prog="geoclick quality",
    options=QualityOptions,
    run=run,
    description="Report how good the clicks of a store are, and flag its suspect samples.",
    example=EXAMPLE,
)


if __name__ == "__main__":
    sys.exit(main())
