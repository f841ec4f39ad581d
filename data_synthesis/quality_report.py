"""`geoclick quality`: how good the clicks of a store are, in figures and pictures, and which samples are suspect.

    geoclick quality runs/synth --root data/scenes --output runs/quality

Writes quality.html (a self-contained page), quality.json with the same figures, flags.jsonl with a line for each
suspect sample, config.yaml, and with `--drop` a click store without the suspect samples in clean/.
"""

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoclick import output_folder
from geoclick.command import Command, print_next
from geoclick.config import option
from geoclick.errors import GeoClickError, UsageError
from geoclick.files import whole, write_whole
from geoclick.progress_bar import progress

if TYPE_CHECKING:
    import numpy as np

    from geoclick.data_synthesis.quality.flags import Duplicates
    from geoclick.data_synthesis.quality.measures import Measures
    from geoclick.geo.reading import PixelOptions
    from geoclick.store import Row

EXAMPLE = "geoclick quality runs/synth --root data/scenes --output runs/quality"
SHARD_SAMPLES = 2000
"""Samples in a shard of the clean store."""

MADE_WITH = ("dataset", "split", "segmenter", "policy")
"""Keys of the manifest that the report shows."""


@dataclass(frozen=True)
class QualityOptions:
    """Options of `geoclick quality`."""

    store: str = option(help="click store of geoclick synth", positional=True)
    output: str = option(help="folder for the report; an existing report is replaced")
    root: str | None = option(
        None, help="folder of the dataset; scenes-v1 and scenes-v2 are generated in runs/ if it is omitted"
    )
    min_iou: float = option(0.5, help="flag samples whose IoU after the last click is below", minimum=0)
    duplicate_iou: float = option(
        0.95,
        help="flag masks whose IoU with an earlier mask of the same image is above; 1 flags none",
        minimum=0,
    )
    duplicate_query: str = option(
        "any",
        choices=("any", "same"),
        help="same: only masks with the same query are duplicates",
    )
    min_radius: float = option(
        2.0, help="flag masks whose largest inner disc has a radius below, in pixels", minimum=0
    )
    drop: bool = option(False, help="write the samples without a flag as a click store in OUTPUT/clean")
    max_clicks: int | None = option(
        None,
        help="clicks that NoC counts for a sequence that never reaches the IoU (default: the store's limit)",
        minimum=1,
    )
    tokenizer: str = option(
        "embedded", help="embedded, or a folder with tokenizer.json; counts the tokens of answers"
    )
    worst: int = option(
        12, help="largest number of worst samples, and of examples of each flag, on the page", minimum=0
    )
    worst_per_group: int = option(
        3, help="largest number of worst samples of each dataset, task and category on the page", minimum=0
    )
    seed: int = option(0, help="random seed (examples of flags)", minimum=0)


def check(options: QualityOptions) -> None:
    """Raise UsageError for invalid options."""
    for name in ("min_iou", "duplicate_iou"):
        if getattr(options, name) > 1:
            raise UsageError(f"--{name.replace('_', '-')} must be 0 to 1, not {getattr(options, name)}.")
    output = Path(options.output)
    output_folder.check(output, "quality")
    if options.drop and (output / "clean").exists():
        raise UsageError(f"{output / 'clean'} exists already; remove it or name another --output.")


def run(options: QualityOptions) -> None:
    """Measure a store, flag samples, write the report, and the clean store with `--drop`."""
    check(options)
    from geoclick import store
    from geoclick.geo.reading import recorded_rule

    if next(store.read(options.store), None) is None:
        raise GeoClickError(f"{options.store} holds no rows; make it again with 'geoclick synth'.")
    manifest, output = store.read_manifest(options.store), Path(options.output)
    root = _dataset_root(options, manifest)
    options = replace(options, root=str(root))
    with output_folder.opened(output, "quality"):
        analysis = _analyze(options, manifest, root)
        # First, so that a folder whose disk was full is known as its own.
        output_folder.write_config(options, output, "quality")
        _write_flags(output / "flags.jsonl", store.read(options.store), analysis)
        write_whole(output / "quality.json", json.dumps(analysis.quality, indent=1) + "\n")
        _write_page(options, root, analysis, recorded_rule(manifest))
        if options.drop:
            with progress("Filtering", len(analysis.measures.rows)) as bar:
                _write_clean(options, manifest, analysis, bar.advance)
    print(_summary(analysis.quality, output, options.drop))
    clicks = output / "clean" if options.drop else options.store
    recipe = ["--config", "sft/embedded"]
    print_next("train", "sft", *recipe, "--clicks", clicks, "--root", root, "--output", "runs/lora")


def _dataset_root(options: QualityOptions, manifest: Mapping[str, Any]) -> Path:
    """The folder of the store's dataset; raises UsageError if it does not exist."""
    from geoclick import datasets

    root = Path(datasets.root_of(str(manifest.get("dataset", "")), options.root))
    if not root.is_dir():
        raise UsageError(f"Dataset root {root} is not a folder; give --root an existing one.")
    return root


@dataclass(frozen=True)
class Analysis:
    """A measured store.

    Attributes:
        measures: the store in numbers.
        duplicates: its near-duplicate masks.
        reasons: flagged rows by reason, bool [N] each.
        suspect: rows with at least one reason, bool [N].
        quality: the content of quality.json.
    """

    measures: "Measures"
    duplicates: "Duplicates"
    reasons: "dict[str, np.ndarray]"
    suspect: "np.ndarray"
    quality: dict[str, Any]


def _analyze(options: QualityOptions, manifest: Mapping[str, Any], root: Path) -> Analysis:
    """Measure the store, compare its masks, flag its rows and compute the figures."""
    from geoclick import store
    from geoclick.data_synthesis.quality import figures, flags, tokens
    from geoclick.data_synthesis.quality.measures import measure
    from geoclick.segmenters import visibility

    count_tokens = tokens.token_counter(tokens.load_tokenizer(options.tokenizer))
    limits = flags.Limits(
        options.min_iou, options.min_radius, options.duplicate_iou, options.duplicate_query == "same"
    )
    with progress("Measuring", _positive(manifest, "samples")) as bar:
        rows = with_images(store.read(options.store), root)
        measures = measure(rows, count_tokens, bar.advance, sequences=_positive(manifest, "sequences") or 1)
    with progress("Comparing", len(measures.rows)) as bar:
        duplicates = flags.find_duplicates(measures, lambda: store.read(options.store), limits, bar.advance)
    reasons = flags.flag(measures, duplicates, limits)
    suspect = flags.flagged(reasons)
    longest = max(1, int(measures.rows["clicks"].max()))
    max_clicks = options.max_clicks or _positive(manifest, "clicks") or longest
    quality = {
        "store": options.store,
        "made_with": {key: manifest[key] for key in MADE_WITH if key in manifest},
        "iou_target": manifest.get("iou_target"),
        "max_clicks": max_clicks,
        "tokenizer": options.tokenizer,
        "limits": _limits(options),
        "small_targets": visibility.count(
            (row.mask for row in store.read(options.store)), str(manifest.get("segmenter", ""))
        ),
        "contradictions": contradiction_figures(measures, lambda: store.read(options.store)),
        **figures.all_figures(measures, {**reasons, "any": suspect}, max_clicks),
    }
    return Analysis(measures, duplicates, reasons, suspect, quality)


def contradiction_figures(
    measures: "Measures", rows: "Callable[[], Iterable[Row]]"
) -> dict[str, float | int]:
    """The contradictions of a store, and the `ceiling`: the mean IoU of one answer to each question.

    Args:
        measures: the store in numbers.
        rows: reads the store again; called if there are contradictions.

    Returns:
        `contradicting` rows, their `share`, the number of `questions` that they ask, and `ceiling`.
    """
    from geoclick import contradictions

    hashes = measures.rows["question"], measures.rows["mask"]
    found = contradictions.count(*hashes)
    ceiling = contradictions.ceiling(*hashes, (row.mask for row in rows())) if found.contradicting else 1.0
    return {
        "contradicting": found.contradicting,
        "share": round(found.share, 6),
        "questions": found.questions,
        "ceiling": round(ceiling, 6),
    }


def with_images(rows: "Iterable[Row]", root: Path) -> "Iterator[Row]":
    """The same rows; raises GeoClickError at the first whose image is not in `root`."""
    from geoclick.store import existing_image

    check_image = lru_cache(maxsize=4096)(existing_image)
    for row in rows:
        check_image(root, row.image)
        yield row


def _positive(manifest: Mapping[str, Any], key: str) -> int | None:
    """A positive integer of a manifest; None if it has none."""
    value = manifest.get(key)
    return value if isinstance(value, int) and value > 0 else None


def _limits(options: QualityOptions) -> dict[str, Any]:
    """The options that decide which samples are flagged."""
    names = ("min_iou", "duplicate_iou", "duplicate_query", "min_radius")
    return {name: getattr(options, name) for name in names}


def _write_flags(path: Path, rows: "Iterable[Row]", analysis: Analysis) -> None:
    """Write a line for each flagged sample, in the store's order; the file is complete or absent."""
    duplicates = analysis.duplicates
    repeated = set(duplicates.of[duplicates.of >= 0].tolist())
    ids: dict[int, str] = {}
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as partial, partial.open("w", encoding="utf-8") as file:
        for index, row in enumerate(rows):
            if index in repeated:
                ids[index] = row.sample_id
            if analysis.suspect[index]:
                file.write(json.dumps(_flag_line(analysis, index, row, ids)) + "\n")


def _flag_line(analysis: Analysis, index: int, row: "Row", ids: Mapping[int, str]) -> dict[str, Any]:
    """The line of one flagged sample; `ids` are those of earlier rows that are repeated."""
    import numpy as np

    rows, duplicates = analysis.measures.rows, analysis.duplicates
    numbers, repeated = rows[index], int(duplicates.of[index])
    line = {
        **{key: getattr(row, key) for key in ("sample_id", "dataset", "split", "image", "query")},
        "reasons": [reason for reason, flags in analysis.reasons.items() if flags[index]],
        **{key: round(float(numbers[key]), 6) for key in ("final_iou", "best_iou")},
        "clicks": int(numbers["clicks"]),
        "radius": round(float(numbers["radius"]), 6),
        "area": int(numbers["area"]),
    }
    if repeated >= 0:
        line |= {
            "duplicate_of": ids[repeated],
            "duplicate_iou": round(float(duplicates.iou[index]), 6),
            "same_query": bool(np.equal(*rows["query"][[index, repeated]])),
        }
    return line


def _write_page(options: QualityOptions, root: Path, analysis: Analysis, pixels: "PixelOptions") -> None:
    """Draw the selected samples and write quality.html."""
    from geoclick import store
    from geoclick.data_synthesis.quality import gallery, page
    from geoclick.data_synthesis.quality.measures import GROUPS

    sizes = gallery.GallerySizes(options.worst, options.worst_per_group, options.seed)
    galleries = gallery.select(analysis.measures, analysis.reasons, sizes)
    required = gallery.required_rows(galleries, analysis.duplicates)
    rows = {index: row for index, row in enumerate(store.read(options.store)) if index in required}
    with progress("Drawing", sum(map(len, galleries.values()))) as bar:
        drawn = gallery.draw_galleries(galleries, rows, root, analysis.duplicates, bar.advance, pixels)
    shown = {group: gallery.largest_groups(analysis.measures, group) for group in GROUPS}
    write_whole(Path(options.output) / "quality.html", page.render(analysis.quality, drawn, shown))


def _write_clean(
    options: QualityOptions, manifest: dict[str, Any], analysis: Analysis, advance: Callable[[], None]
) -> None:
    """Write the store without the flagged samples; the folder gets its name when it is complete."""
    from geoclick import store

    suspect = analysis.suspect

    def unflagged() -> "Iterator[Row]":
        for row, is_suspect in zip(store.read(options.store), suspect.tolist(), strict=True):
            advance()
            if not is_suspect:
                yield row

    clean = Path(options.output) / "clean"
    partial = clean.with_name("clean.partial")
    # An interrupted run may have left it.
    shutil.rmtree(partial, ignore_errors=True)
    remaining = int((~suspect).sum())
    shards, stream = max(1, -(-remaining // SHARD_SAMPLES)), unflagged()
    for index in range(shards):
        store.write_shard(partial, index, shards, islice(stream, SHARD_SAMPLES))
    # Reads the flagged rows at the end of the store too, so that the progress bar is full.
    next(stream, None)
    counts = dict(analysis.quality["all"]["flagged"])
    source = (Path(options.store) / "manifest.json").read_bytes()
    filtered = {
        "store": options.store,
        "manifest_sha256": hashlib.sha256(source).hexdigest(),
        "samples": len(suspect),
        "dropped": counts.pop("any"),
        "dropped_by_reason": counts,
        "limits": _limits(options),
    }
    store.write_manifest(
        partial, manifest | {"samples": remaining, "shards": shards, "filtered_from": filtered}
    )
    partial.replace(clean)


def _summary(quality: Mapping[str, Any], output: Path, dropped: bool) -> str:
    """The final lines for the terminal."""
    from geoclick import pages
    from geoclick.segmenters import visibility

    figures = quality["all"]
    flagged = dict(figures["flagged"])
    count = flagged.pop("any")
    lines = []
    if figures["sequences"]:
        noc = ", ".join(f"NoC@{level} {noc['mean']:.2f}" for level, noc in figures["noc"].items())
        lines.append(
            f"{figures['samples']} samples: mean IoU {figures['final_iou']['mean']:.3f} after the last click (best of "
            f"each sequence: {figures['best_iou']['mean']:.3f}), {figures['lengths']['mean']:.2f} clicks per sequence, "
            f"{noc}"
        )
        lines.append(
            f"{pages.percent(figures['harmful_clicks']['share'])} of the clicks after the first lower the IoU; "
            f"{pages.percent(figures['below_best']['share'])} of the sequences end below their best"
        )
    contradictions = quality["contradictions"]
    if contradictions["contradicting"]:
        lines.append(
            f"{contradictions['contradicting']} samples contradict others (same image and query, another target): one "
            f"answer to each question reaches a mean IoU of at most {contradictions['ceiling']:.3f}"
        )
    if small := visibility.text(quality["small_targets"]):
        lines.append(small)
    reasons = ", ".join(f"{n} {reason}" for reason, n in flagged.items())
    lines.append(f"{count} flagged ({reasons}); see {output / 'flags.jsonl'}")
    if dropped:
        lines.append(f"{figures['samples'] - count} samples in {output / 'clean'}")
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
