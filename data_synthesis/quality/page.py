"""quality.html: one file that needs no network; every string from outside passes `html.escape`."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from geoclick.data_synthesis.quality.figures import LEVELS
from geoclick.data_synthesis.quality.flags import DUPLICATE, LOW_IOU, SLIVER
from geoclick.data_synthesis.quality.measures import CODECS, GROUPS
from geoclick.data_synthesis.quality.pictures import ALL, Gallery
from geoclick.pages.charts import MAIN, NEGATIVE, POSITIVE, bar_chart, heat_map, iou_chart

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""What a browser may load: nothing from elsewhere and no script, whatever a query may hold."""

STYLE = """
:root { color-scheme: light; --ink: #1c2429; --soft: #5d6972; --line: #dfe3e6; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1.25rem 1rem 3rem; background: #f7f8f8; color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.25rem 0 .75rem; }
h3 { font-size: 1rem; margin: 0 0 .4rem; font-weight: 600; }
p { margin: .25rem 0; color: var(--soft); overflow-wrap: anywhere; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: .6rem; margin: 1.25rem 0; }
.tile, figure, .box { background: #fff; border: 1px solid var(--line); border-radius: 6px; }
.tile { padding: .65rem .8rem; }
.tile b { display: block; font-size: 1.5rem; line-height: 1.25; font-weight: 600; }
.tile span { color: var(--soft); font-size: .85rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 26rem), 1fr)); gap: .8rem; }
.box { padding: .8rem; overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { text-align: right; padding: .3rem .6rem; border-top: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
td:first-child { white-space: normal; overflow-wrap: anywhere; min-width: 7rem; }
tr:first-child th { border-top: 0; color: var(--soft); font-weight: 500; }
svg { display: block; width: 100%; height: auto; }
.maps { display: grid; grid-template-columns: 1fr 1fr; gap: .8rem; }
.heat { display: block; width: 100%; border: 1px solid var(--line); image-rendering: pixelated; }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 21rem), 1fr)); gap: .8rem; }
figure { margin: 0; overflow: hidden; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 2px; }
.pair img { display: block; width: 100%; height: auto; }
figcaption { padding: .6rem .75rem .75rem; font-size: .9rem; overflow-wrap: anywhere; }
figcaption small { color: var(--soft); display: block; }
details { margin-top: .8rem; } summary { cursor: pointer; overflow-wrap: anywhere; }
details > * { margin-top: .8rem; }
.dot { display: inline-block; width: .7em; height: .7em; border-radius: 50%; margin: 0 .3em; }
"""


def render(
    quality: Mapping[str, Any], galleries: Mapping[Gallery, str], shown: Mapping[str, Sequence[str]]
) -> str:
    """The page.

    Args:
        quality: what quality.json holds.
        galleries: figures as HTML.
        shown: for each of GROUPS the names that get a section of their own.
    """
    whole = quality["all"]
    title = f"Click quality of {quality['store']}"
    made = quality["made_with"]
    groups = "".join(_group(quality, galleries, group, shown[group]) for group in GROUPS if shown[group])
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><h1>{escape(title)}</h1>"
        f"<p>{', '.join(f'{escape(str(k))} {escape(str(v))}' for k, v in made.items())}</p>"
        f"<p>{_stopped(quality)}</p>{_tiles(whole)}"
        f"{_charts(whole)}<h2>Tokens of an answer</h2>{_tokens(quality, whole)}"
        f"{groups}{_flagged(quality, galleries)}"
        f"<h2>Worst samples</h2>{_key()}{_gallery(galleries[ALL])}</body></html>\n"
    )


def _number(value: float | None, digits: int = 3) -> str:
    return "&ndash;" if value is None else f"{value:.{digits}f}"


def _percent(value: float | None) -> str:
    return "&ndash;" if value is None else f"{100 * value:.1f} %"


def _stopped(quality: Mapping[str, Any]) -> str:
    """What a reader must know to read NoC."""
    text = f"NoC counts a sequence that never gets there as {quality['max_clicks']} clicks."
    stop = quality["iou_target"]
    late = [f"NoC@{level}" for level in LEVELS if stop is not None and level / 100 > stop]
    if late:
        text += (
            f" Sequences were ended at IoU {stop:g}, so {' and '.join(late)} count many as never there that were "
            "not let go on."
        )
    return text


def _tiles(block: Mapping[str, Any]) -> str:
    flagged = block["flagged"]
    tiles = [
        (str(block["samples"]), f"samples, {block['no_target']} without a target"),
        (_number(block["lengths"]["mean"], 2), "clicks a sequence"),
        (_number(block["best_iou"]["mean"]), "mean best IoU"),
        *(
            (
                _number(block["noc"][str(level)]["mean"], 2),
                f"NoC@{level}, {_percent(block['noc'][str(level)]['never'])} never",
            )
            for level in LEVELS
        ),
        (str(flagged["any"]), "samples flagged"),
    ]
    return (
        '<div class="tiles">'
        + "".join(f'<div class="tile"><b>{value}</b><span>{label}</span></div>' for value, label in tiles)
        + "</div>"
    )


def _charts(block: Mapping[str, Any]) -> str:
    """All charts of the whole store or of a group."""
    if not block["sequences"]:
        return "<p>No sample has a target.</p>"
    signs, lengths, border = block["signs"], block["lengths"]["counts"], block["border_distance"]
    longest = max(map(int, lengths))
    share = [100 * (s["positive"] or 0) for s in signs]
    boxes = [
        (
            "IoU after clicks",
            iou_chart(block["iou_after_clicks"]),
            "Mean as a line; boxes hold the middle half with the median, whiskers reach from 5 to 95 %.",
        ),
        (
            "Length of the sequences",
            bar_chart(
                "Sequences by length",
                [str(k) for k in range(longest + 1)],
                [("sequences of", MAIN, [lengths.get(str(k), 0) for k in range(longest + 1)])],
                "clicks in a sequence",
            ),
            f"{block['without_clicks']} sequences have a target and yet no click.",
        ),
        (
            "Share of positive clicks",
            bar_chart(
                "Share of positive clicks by position",
                [str(s["position"]) for s in signs],
                [("positive at click", POSITIVE, share)],
                "position in the sequence",
                top=100,
                form="{:.0f} %",
            ),
            "Of the sequences that have such a click.",
        ),
        (
            "Distance to the target's border",
            bar_chart(
                "Clicks by distance to the border of the target",
                _distance_labels(border["edges"]),
                [
                    (sign, color, border[sign]["counts"])
                    for sign, color in (("positive", POSITIVE), ("negative", NEGATIVE))
                ],
                "pixels from which a bar counts, below 0 outside the target",
            ),
            _distance_words(border),
        ),
        ("Where clicks lie in the image", _maps(block["places"]), "White: none; full color: the most."),
    ]
    return (
        '<div class="charts">'
        + "".join(
            f'<div class="box"><h3>{title}</h3>{chart}<p>{words}</p></div>' for title, chart, words in boxes
        )
        + "</div>"
    )


def _distance_labels(edges: Sequence[int]) -> list[str]:
    """Below each bar where it begins, the first one where it ends."""
    return [f"<{edges[0]}", *(f"{edge}" for edge in edges[:-1]), f"\u2265{edges[-1]}"]


def _distance_words(border: Mapping[str, Any]) -> str:
    return " ".join(
        f"{sign.capitalize()}: {_percent(border[sign]['inside'])} inside, "
        f"median {_number(border[sign]['q50'], 1)} pixels."
        for sign in ("positive", "negative")
        if border[sign]["clicks"]
    )


def _maps(places: Mapping[str, Any]) -> str:
    halves = "".join(
        f"<div>{heat_map(places[sign], color)}<p>{sum(map(sum, places[sign]))} {sign}</p></div>"
        for sign, color in (("positive", POSITIVE), ("negative", NEGATIVE))
    )
    return f'<div class="maps">{halves}</div>'


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; its cells are HTML already."""
    return (
        '<div class="box"><table><tr>'
        + "".join(f"<th>{cell}</th>" for cell in head)
        + "</tr>"
        + "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
        + "</table></div>"
    )


def _tokens(quality: Mapping[str, Any], block: Mapping[str, Any]) -> str:
    rows = []
    for family, answer_format in CODECS:
        found = block["tokens"][family][answer_format]
        values = (_number(found[key], 1) for key in ("mean", "q05", "q25", "q50", "q75", "q95"))
        longest = "&ndash;" if found["max"] is None else str(found["max"])
        rows.append((family, answer_format, str(found["answers"]), *values, longest))
    head = ("family", "format", "answers", "mean", "5 %", "25 %", "50 %", "75 %", "95 %", "longest")
    note = f"<p>Counted with the tokenizer {escape(quality['tokenizer'])}, without the token that ends the turn.</p>"
    return _table(head, rows) + note


def _comparison(group: str, blocks: Mapping[str, Mapping[str, Any]], max_clicks: int) -> str:
    """A line for each name of a group."""
    head = (
        group,
        "samples",
        "clicks",
        "positive",
        "IoU after 1",
        f"after {max_clicks}",
        "best",
        *(f"NoC@{level} (never)" for level in LEVELS),
        "flagged",
    )
    rows = []
    for name, block in blocks.items():
        clicks = sum(s["clicks"] for s in block["signs"])
        positive = sum(s["clicks"] * s["positive"] for s in block["signs"]) / clicks if clicks else None
        nocs = (block["noc"][str(level)] for level in LEVELS)
        rows.append(
            (
                escape(name),
                str(block["samples"]),
                _number(block["lengths"]["mean"], 2),
                _percent(positive),
                *(_number(block["iou_after_clicks"][k]["mean"]) for k in (0, -1)),
                _number(block["best_iou"]["mean"]),
                *(f"{_number(noc['mean'], 2)} ({_percent(noc['never'])})" for noc in nocs),
                str(block["flagged"]["any"]),
            )
        )
    return _table(head, rows)


def _group(
    quality: Mapping[str, Any], galleries: Mapping[Gallery, str], group: str, shown: Sequence[str]
) -> str:
    """The comparison of a group and a section for each of its largest names."""
    blocks = quality[f"by_{group}"]
    sections = "".join(
        f"<details><summary>{escape(name)} ({blocks[name]['samples']})</summary>"
        f"{_charts(blocks[name])}{_tokens(quality, blocks[name])}{_gallery(galleries[group, name])}</details>"
        for name in shown
    )
    more = len(blocks) - len(shown)
    note = (
        f"<p>The charts of {more} smaller ones are left out; quality.json has their figures.</p>"
        if more
        else ""
    )
    return f"<h2>By {group}</h2>{_comparison(group, blocks, quality['max_clicks'])}{sections}{note}"


def _flagged(quality: Mapping[str, Any], galleries: Mapping[Gallery, str]) -> str:
    limits, flagged = quality["limits"], quality["all"]["flagged"]
    query = "the same query" if limits["duplicate_query"] == "same" else "any query"
    told = {
        LOW_IOU: f"best IoU below {limits['min_iou']:g}",
        DUPLICATE: f"mask of an IoU above {limits['duplicate_iou']:g} with an earlier one of its image, {query}",
        SLIVER: f"no disc of a radius of {limits['min_radius']:g} pixels fits into the mask",
    }
    rows = [(reason, words, str(flagged[reason])) for reason, words in told.items()]
    examples = "".join(
        f"<details><summary>Examples: {words}</summary>{_gallery(galleries[reason, ''])}</details>"
        for reason, words in (
            (SLIVER, "slivers"),
            (DUPLICATE, "near-duplicates, with the earlier mask in yellow"),
        )
        if flagged[reason]
    )
    return (
        f"<h2>Flagged samples</h2>{_table(('reason', 'what it means', 'samples'), rows)}"
        f"<p>{flagged['any']} samples have one reason or more; flags.jsonl names each.</p>{examples}"
    )


def _key() -> str:
    return (
        f'<p>Left: the target, outlined. Right: the clicks in their order, <span class="dot" '
        f'style="background:{POSITIVE}"></span>positive and <span class="dot" style="background:{NEGATIVE}">'
        "</span>negative. Below: the IoU after each click.</p>"
    )


def _gallery(figures: str) -> str:
    return f'<div class="gallery">{figures}</div>' if figures else ""
