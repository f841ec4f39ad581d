"""compare.html: what two runs scored, how their protocols differ, and the samples that changed most."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from geoclick.inference.reports import evaluation_report, gallery
from geoclick.inference.reports.record_pairs import Pairs
from geoclick.pages import click_drawing, layout

SCORES = {"miou": "mIoU", "foreground_iou": "foreground IoU", "oiou": "oIoU", "boundary_iou": "boundary IoU"}
HEAD = ("A", "B", "B less A", "95 % interval")


def signed(value: float | None) -> str:
    """A difference with its sign, in the color of better or worse."""
    if value is None:
        return layout.DASH
    kind = "up" if value > 0 else "down" if value < 0 else ""
    return f'<span class="{kind}">{value:+.3f}</span>'


def cells(block: Mapping[str, Any]) -> tuple[str, ...]:
    """What HEAD names of a block."""
    ends = block["interval"]
    between = layout.DASH if ends is None else f"{ends[0]:+.3f} to {ends[1]:+.3f}"
    return layout.number(block["a"]), layout.number(block["b"]), signed(block["difference"]), between


def _tiles(result: Mapping[str, Any]) -> str:
    miou = result["miou"]
    ends = miou["interval"]
    between = layout.DASH if ends is None else f"{ends[0]:+.3f} to {ends[1]:+.3f}"
    return layout.tiles(
        [
            (layout.number(miou["a"]), "mIoU of A"),
            (layout.number(miou["b"]), "mIoU of B"),
            (signed(miou["difference"]), f"B less A, 95 % interval {between}"),
            (layout.number(miou["p_value"], 4), "p-value, if the runs were exchangeable"),
            (str(result["wins"]), f"of {result['n']} samples have a higher IoU in B"),
            (str(result["losses"]), f"have a lower one, {result['ties']} the same"),
        ]
    )


def _protocol(differing: Mapping[str, Sequence[Any]]) -> str:
    if not differing:
        return "<p>The protocols are the same.</p>"
    rows = [
        (escape(key), *(layout.DASH if value is None else escape(str(value)) for value in values))
        for key, values in differing.items()
    ]
    return layout.table(("", "A", "B"), rows, words=True) + "<p>All else in the protocols is the same.</p>"


def figure(a: Mapping[str, Any], b: Mapping[str, Any], root: Path, *, semantic: bool) -> str:
    """A sample: the image, its target, both predictions with their clicks, and both texts."""
    image, missing = gallery.image_of(a, root)
    pictures = [
        gallery.picture(image, a, "", label="image"),
        gallery.picture(image, a, "target", label="target", color=click_drawing.TARGET_COLOR),
        gallery.picture(image, a, "mask", label=f"A {a['iou']:.3f}"),
        gallery.picture(image, b, "mask", label=f"B {b['iou']:.3f}"),
    ]
    told = [a[key] for key in ("sample_id", "category", "task")]
    if semantic:
        pixels = a["size"][0] * a["size"][1]
        shares = [f"{100 * (r['union'] - r['intersection']) / pixels:.1f} %" for r in (a, b)]
        told.append(f"wrong pixels {shares[0]}, then {shares[1]}")
    small = " &middot; ".join(escape(word) for word in told if word not in ("", a["query"]))
    caption = (
        f"<b>{signed(b['iou'] - a['iou'])}</b> &nbsp;{escape(a['query'])}<small>{small}</small>"
        f"{gallery.text(a['text'], 'A')}{gallery.text(b['text'], 'B')}"
    )
    return gallery.figure(pictures, caption, missing)


def render(result: Mapping[str, Any], protocols: Sequence[Mapping[str, Any]], pairs: Pairs) -> str:
    """The whole page as text.

    Args:
        result: what compare.json holds.
        protocols: of A and of B; the images are read below the root of A's.
        pairs: the samples that changed most.
    """
    semantic, root = result["mode"] == "semantic", Path(protocols[0]["root"])
    runs = "".join(
        f"<p>{letter}: {escape(evaluation_report.title(str(result[letter.lower()]), protocol))}</p>"
        for letter, protocol in zip("AB", protocols, strict=True)
    )
    scores = [(title, *cells(result[key])) for key, title in SCORES.items() if key in result]
    tables = ""
    for heading, part in evaluation_report.GROUPS.items():
        rows = [(escape(name), found["n"], *cells(found)) for name, found in result.get(part, {}).items()]
        content = layout.table(("class" if semantic else heading, "images" if semantic else "n", *HEAD), rows)
        if len(rows) > evaluation_report.MANY:
            content = layout.folded(f"{len(rows)} groups", content)
        tables += layout.section(
            evaluation_report.CLASSES if semantic else f"By {heading}", content if rows else ""
        )
    galleries = ""
    for heading, heap in (("Gained most", pairs.gained), ("Lost most", pairs.lost)):
        chosen = sorted(heap, key=lambda entry: entry[:2], reverse=True)
        figures = [figure(a, b, root, semantic=semantic) for _, _, a, b in chosen]
        galleries += gallery.gallery(heading, figures)
    key = gallery.key(
        f"Samples are ordered by the change of their {'share of wrong pixels' if semantic else 'IoU'}; the number "
        "before a query is that of its IoU."
    )
    units = "images" if semantic else "samples"
    body = (
        f"{runs}{_tiles(result)}"
        + f"<p>By interval and p-value of the mIoU: {escape(result['verdict'])}.</p>"
        + layout.section("Scores", layout.table(("", *HEAD), scores))
        + f"<p>Mode {escape(result['mode'])}. Intervals: paired bootstrap over {units}. The p-value: {units} exchanged "
        "between the runs at random, both sides.</p>"
        + layout.section("What differs between the protocols", _protocol(result["protocol"]))
        + tables
        + (key if galleries else "<p>No sample changed.</p>")
        + galleries
    )
    return layout.document(f"{Path(result['b']).name} against {Path(result['a']).name}", body)
