"""compare.html: the scores of two runs, how their protocols differ, and the samples that changed most."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from geoclick import pages
from geoclick.geo.reading import DEFAULT, PixelOptions, recorded_rule
from geoclick.inference.reports import evaluation_report, gallery
from geoclick.inference.reports.comparison import Comparison
from geoclick.inference.reports.record_pairs import ChangedPair, RecordPairs
from geoclick.pages import click_drawing
from geoclick.pages.figures import Figure, Gallery
from geoclick.scoring.records import Record

SCORES = {"miou": "mIoU", "foreground_iou": "foreground IoU", "oiou": "oIoU", "boundary_iou": "boundary IoU"}


def render(result: Comparison, protocols: Sequence[Mapping[str, Any]], pairs: RecordPairs) -> str:
    """The page as text.

    Args:
        result: the content of compare.json.
        protocols: of A and of B; the images are read below the root of A's.
        pairs: the samples that changed most.
    """
    semantic, root = result["mode"] == "semantic", Path(protocols[0]["root"])
    folders = str(result["a"]), str(result["b"])
    values: Mapping[str, Any] = result
    groups = [
        (name, [((group, scores["n"]), scores) for group, scores in values[part].items()])
        for name, part in evaluation_report.GROUPS.items()
        if values.get(part)
    ]
    galleries = [
        Gallery(heading, _figures(changed, root, recorded_rule(protocols[0]), semantic=semantic))
        for heading, changed in (("Largest gains", pairs.gained), ("Largest losses", pairs.lost))
        if changed
    ]
    return pages.render(
        "comparison.html",
        title=f"{Path(folders[1]).name} compared with {Path(folders[0]).name}",
        runs=[evaluation_report.title(*run) for run in zip(folders, protocols, strict=True)],
        result=result,
        semantic=semantic,
        scores=[((title,), values[key]) for key, title in SCORES.items() if key in values],
        answers=_answers(result),
        groups=groups,
        galleries=galleries,
        colors=click_drawing.COLORS,
    )


def _answers(result: Comparison) -> list[list[str]]:
    """The rows of the table of answers."""
    names = {
        "parse_rate": "in the requested format",
        "sampled_parse_rate": "sampled answers in the requested format",
    }
    return [
        [names[key], *map(pages.number, values)] if key in names else [key, *map(str, values)]
        for key, values in result["answers"].items()
    ]


def _figures(
    changed: Sequence[ChangedPair], root: Path, pixels: PixelOptions, *, semantic: bool
) -> list[Figure]:
    """The figures of a heap of changed pairs, the largest change first."""
    ordered = sorted(changed, key=lambda pair: pair[:2], reverse=True)
    return [figure(a, b, root, pixels, semantic=semantic) for _, _, a, b in ordered]


def figure(a: Record, b: Record, root: Path, pixels: PixelOptions = DEFAULT, *, semantic: bool) -> Figure:
    """A sample: the image, its target, both predictions with their clicks, and both answers."""
    image, error = gallery.read_complete(a, root, pixels)
    window = gallery.window_of([a, b])
    pictures = [
        gallery.picture(gallery.resized(image), "image"),
        gallery.target_picture(image, a, window),
        gallery.answer_picture(image, a, window, label=f"A {a['iou']:.3f}"),
        gallery.answer_picture(image, b, window, label=f"B {b['iou']:.3f}"),
    ]
    more = []
    if semantic:
        count = a["size"][0] * a["size"][1]
        shares = [100 * (record["union"] - record["intersection"]) / count for record in (a, b)]
        more.append(f"wrong pixels {shares[0]:.1f} % in A, {shares[1]:.1f} % in B")
    gain = b["iou"] - a["iou"]
    return Figure(
        pictures,
        a["query"],
        score=pages.signed(gain),
        trend="up" if gain > 0 else "down" if gain < 0 else "",
        notes=[note for note in (gallery.details(a, *more), error) if note],
        answers=[*gallery.answer(a["text"], "A"), *gallery.answer(b["text"], "B")],
    )
