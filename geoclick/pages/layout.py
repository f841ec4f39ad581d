"""What the pages of inference share: one file each that needs no network, readable on a phone.

Every string that came from outside (queries, model texts, names, paths) passes `html.escape`.
"""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""What a browser may load: nothing from elsewhere and no script, whatever a query may hold."""
DASH = "&ndash;"

STYLE = """
:root { color-scheme: light; --ink: #1c2429; --soft: #5d6972; --line: #dfe3e6; --paper: #f7f8f8; --bar: #33658a; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 68rem; padding: 1.25rem 1rem 3rem;
  background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 2.25rem 0 .75rem; }
p { margin: .25rem 0; color: var(--soft); overflow-wrap: anywhere; }
.box + p { margin-top: .5rem; font-size: .9rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(7.4rem, 1fr));
  gap: .6rem; margin-top: 1.25rem; }
.tile, figure, .box { background: #fff; border: 1px solid var(--line); border-radius: 6px; }
.tile { padding: .65rem .8rem; }
.tile b { display: block; font-size: 1.5rem; line-height: 1.25; font-weight: 600; }
.tile > span { color: var(--soft); font-size: .85rem; }
.box { padding: .8rem; overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .92rem; }
th, td { text-align: right; padding: .3rem .6rem; border-top: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
td:first-child { white-space: normal; overflow-wrap: anywhere; min-width: 8.5rem; }
tr:first-child th { border-top: 0; color: var(--soft); font-weight: 500; }
td.wrap, th.wrap { text-align: left; white-space: normal; overflow-wrap: anywhere; }
td.soft { color: var(--soft); font-size: .85rem; min-width: 11rem; vertical-align: top; }
tr.own td { background: #eef4f8; }
tr.own td:not(.soft) { font-weight: 600; }
tr.own td:first-child { box-shadow: -.8rem 0 #eef4f8; }
td.meter { width: 45%; min-width: 6rem; }
td.meter i { display: block; height: .7rem; border-radius: 2px; background: var(--bar); min-width: 1px; }
svg { display: block; width: 100%; height: auto; }
.chart { max-width: 42rem; }
.key { margin-top: 2.25rem; }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 24rem), 1fr));
  gap: .8rem; }
figure { margin: 0; overflow: hidden; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 2px; }
.pair > div { position: relative; }
.pair img { display: block; width: 100%; height: auto; }
.pair span { position: absolute; left: .4rem; top: .4rem; padding: 0 .4rem; border-radius: 4px;
  background: rgb(255 255 255 / .85); font-size: .8rem; line-height: 1.5; }
figcaption { padding: .6rem .75rem .75rem; font-size: .9rem; overflow-wrap: anywhere; }
figcaption small { color: var(--soft); display: block; }
code { display: block; margin-top: .35rem; overflow-wrap: anywhere;
  font: .82rem/1.4 ui-monospace, "DejaVu Sans Mono", monospace; }
code b { font-family: system-ui, "DejaVu Sans", sans-serif; font-weight: 600; }
.dot { display: inline-block; width: .7em; height: .7em; border-radius: 50%; margin: 0 .3em; }
.up { color: #16793a; } .down { color: #b3212f; }
summary { cursor: pointer; color: var(--soft); }
details > * { margin-top: .8rem; }
@media (max-width: 30rem) { table { font-size: .85rem; } th, td { padding: .3rem .4rem; }
  td:first-child { min-width: 6.5rem; } }
"""


def document(title: str, body: str) -> str:
    """A page; the title is escaped here and stands as the heading, the body is HTML already."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>"
        f"<h1>{escape(title)}</h1>{body}</body></html>\n"
    )


def number(value: float | None, digits: int = 3) -> str:
    """A number of so many digits, a dash where there is none."""
    return DASH if value is None else f"{value:.{digits}f}"


def interval(pair: Sequence[float] | None, digits: int = 3) -> str:
    """Both ends of an interval."""
    return DASH if pair is None else f"{pair[0]:.{digits}f} to {pair[1]:.{digits}f}"


def tiles(items: Iterable[tuple[str, str]]) -> str:
    """Large values with what they are below; both are HTML already."""
    cells = "".join(f'<div class="tile"><b>{value}</b><span>{label}</span></div>' for value, label in items)
    return f'<div class="tiles">{cells}</div>'


def table(head: Sequence[str], rows: Iterable[Sequence[Any]], *, words: bool = False) -> str:
    """A table of cells that are HTML already.

    Args:
        head: of the columns; empty for none.
        rows: the cells.
        words: whether the cells after the first are words, which stand to the left and break, not numbers.
    """
    kind = ' class="wrap"' if words else ""

    def row(tag: str, cells: Sequence[Any]) -> str:
        return f"<tr>{''.join(f'<{tag}{kind if i else str()}>{cell}</{tag}>' for i, cell in enumerate(cells))}</tr>"

    lines = [row("th", head)] if head else []
    return box("".join([*lines, *(row("td", cells) for cells in rows)]))


def box(rows: str) -> str:
    """A table of rows that are HTML already."""
    return f'<div class="box"><table>{rows}</table></div>'


def section(title: str, content: str) -> str:
    """A heading, which is escaped, and what stands below it; nothing where there is nothing."""
    return f"<h2>{escape(title)}</h2>{content}" if content else ""


def folded(summary: str, content: str) -> str:
    """Content that opens when its summary, which is escaped, is chosen."""
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def dot(color: tuple[int, int, int]) -> str:
    """A spot of color in a line of text."""
    return f'<span class="dot" style="background:rgb{color}"></span>'
