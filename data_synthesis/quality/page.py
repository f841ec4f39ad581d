"""quality.html: the figures of a click store, its flagged samples and its worst samples."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from geoclick import pages
from geoclick.data_synthesis.quality.figures import LEVELS
from geoclick.data_synthesis.quality.flags import CONTRADICTION, DUPLICATE, LOW_IOU, SLIVER
from geoclick.data_synthesis.quality.gallery import ALL, GalleryKey
from geoclick.data_synthesis.quality.measures import CODECS, GROUPS
from geoclick.pages import click_drawing
from geoclick.pages.charts import MAIN, NEGATIVE, POSITIVE, Series, bar_chart, box_plot, heat_map
from geoclick.pages.figures import Figure, Gallery, Picture

Figures = Mapping[str, Any]
"""The figures of some samples, see `figures.figures`."""


class Chart(NamedTuple):
    """A chart with its heading and a note below it."""

    heading: str
    svg: Markup
    note: str


class HeatMap(NamedTuple):
    """Where the clicks of one sign are in the image."""

    picture: Picture
    note: str


class Section(NamedTuple):
    """The charts, the tokens and the worst samples of the complete store or of a group."""

    heading: str
    charts: Sequence[Chart]
    maps: Sequence[HeatMap]
    tokens: Sequence[Sequence[str]]
    figures: Sequence[Figure]


class Group(NamedTuple):
    """The names of a group: a table of all, sections of the largest, and how many have no section."""

    name: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    sections: Sequence[Section]
    without_section: int


def render(
    quality: Mapping[str, Any],
    galleries: Mapping[GalleryKey, Sequence[Figure]],
    shown: Mapping[str, Sequence[str]],
) -> str:
    """The page as text.

    Args:
        quality: the content of quality.json.
        galleries: the figures of each gallery.
        shown: for each of GROUPS the names that have a section.
    """
    groups = [_group(quality, galleries, group, shown[group]) for group in GROUPS if shown[group]]
    return pages.render(
        "quality_report.html",
        title=f"Click quality of {quality['store']}",
        quality=quality,
        noc_note=_noc_note(quality),
        harm_note=_harm_note(quality["all"]),
        contradiction_note=_contradiction_note(quality["contradictions"]),
        tiles=_tiles(quality["all"], quality["contradictions"]),
        store=_section("", quality["all"], galleries[ALL]),
        groups=groups,
        reasons=_reasons(quality),
        examples=_examples(quality, galleries),
        colors=click_drawing.COLORS,
    )


def _noc_note(quality: Mapping[str, Any]) -> str:
    """How NoC is counted."""
    note = f"NoC counts {quality['max_clicks']} clicks for a sequence that never reaches the IoU."
    stop = quality["iou_target"]
    higher = [f"NoC@{level}" for level in LEVELS if stop is not None and level / 100 > stop]
    if higher:
        note += (
            f" Sequences were stopped at IoU {stop:g}, so {' and '.join(higher)} count sequences as failures that "
            "were not continued."
        )
    return note


def _harm_note(figures: Figures) -> str:
    """How much the clicks after the first do."""
    harmful, below = figures["harmful_clicks"], figures["below_best"]
    return (
        f"{harmful['number']} of {harmful['later_clicks']} clicks after the first lower the IoU, and "
        f"{below['number']} of {below['sequences']} sequences end below their best IoU, whose mean is "
        f"{pages.number(figures['best_iou']['mean'])}.{_given_note(figures['given'])}"
    )


def _given_note(given: Mapping[str, float | None]) -> str:
    """What the clicks of a model reach at the beginning of sequences; empty if it made none."""
    if not given["sequences"]:
        return ""
    return (
        f" {given['sequences']} sequences begin with {given['clicks']} clicks that a model made itself, which are not "
        f"taught: mean IoU {pages.number(given['given_iou'])} after them, {pages.number(given['final_iou'])} at the "
        f"end; {given['ended']} end with them."
    )


def _contradiction_note(contradictions: Mapping[str, Any]) -> str:
    """What the contradictions mean for training; empty if there are none."""
    if not contradictions["contradicting"]:
        return ""
    return (
        f"{contradictions['contradicting']} samples contradict others: they are about {contradictions['questions']} "
        "questions (image and query) with several targets. A model that gives one answer to each question, always the "
        "best of its targets, reaches a mean IoU of at most "
        f"{pages.number(contradictions['ceiling'])}, even with perfect masks."
    )


def _tiles(figures: Figures, contradictions: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The most important values, each with what it is."""
    tiles = [
        (str(figures["samples"]), f"samples, {figures['no_target']} without a target"),
        (pages.number(figures["lengths"]["mean"], 2), "clicks per sequence"),
        (pages.number(figures["final_iou"]["mean"]), "mean IoU after the last click"),
        (pages.percent(figures["harmful_clicks"]["share"]), "of the later clicks lower the IoU"),
        (pages.percent(figures["below_best"]["share"]), "of the sequences end below their best"),
        (pages.percent(contradictions["share"]), "of the samples contradict others"),
    ]
    for level in LEVELS:
        noc = figures["noc"][str(level)]
        tiles.append((pages.number(noc["mean"], 2), f"NoC@{level}, {pages.percent(noc['never'])} never"))
    return [*tiles, (str(figures["flagged"]["any"]), "samples flagged")]


def _section(heading: str, figures: Figures, worst: Sequence[Figure]) -> Section:
    has_target = bool(figures["sequences"])
    charts, maps = (_charts(figures), _maps(figures["places"])) if has_target else ([], [])
    return Section(heading, charts, maps, _token_rows(figures), worst)


def _charts(figures: Figures) -> list[Chart]:
    """All charts but the maps."""
    lengths, border = figures["lengths"]["counts"], figures["border_distance"]
    longest = range(max(map(int, lengths)) + 1)
    sequences = Series("sequences of", MAIN, [lengths.get(str(length), 0) for length in longest])
    positive = [100 * (position["positive"] or 0) for position in figures["signs"]]
    colors = {"positive": POSITIVE, "negative": NEGATIVE}
    return [
        Chart(
            "IoU after clicks",
            box_plot(
                "IoU after each number of clicks",
                "clicks",
                {str(after["clicks"]): after for after in figures["iou_after_clicks"]},
            ),
            "Line: mean. Boxes: the middle half and the median. Whiskers: 5 to 95\u00a0%.",
        ),
        Chart(
            "Length of the sequences",
            bar_chart("Sequences by length", [str(n) for n in longest], [sequences], "clicks in a sequence"),
            f"{figures['without_clicks']} sequences have a target but no click.",
        ),
        Chart(
            "Share of positive clicks",
            bar_chart(
                "Share of positive clicks by position",
                [str(position["position"]) for position in figures["signs"]],
                [Series("positive at click", POSITIVE, positive)],
                "position in the sequence",
                top=100,
                form="{:.0f} %",
            ),
            "Of the sequences that have a click at this position.",
        ),
        Chart(
            "Distance to the target's border",
            bar_chart(
                "Clicks by distance to the target's border",
                _distance_labels(border["edges"]),
                [Series(sign, color, border[sign]["counts"]) for sign, color in colors.items()],
                "lower edge of the bin in pixels, negative outside the target",
            ),
            _distance_note(border),
        ),
    ]


def _distance_labels(edges: Sequence[int]) -> list[str]:
    """Labels of bars: the start of each, the end of the first."""
    return [f"<{edges[0]}", *(f"{edge}" for edge in edges[:-1]), f"\u2265{edges[-1]}"]


def _distance_note(border: Mapping[str, Any]) -> str:
    return " ".join(
        f"{sign.capitalize()}: {pages.percent(border[sign]['inside'])} inside, "
        f"median {pages.number(border[sign]['q50'], 1)} pixels."
        for sign in ("positive", "negative")
        if border[sign]["clicks"]
    )


def _maps(places: Mapping[str, Any]) -> list[HeatMap]:
    return [
        HeatMap(heat_map(places[sign], color), f"{sum(map(sum, places[sign]))} {sign}")
        for sign, color in (("positive", POSITIVE), ("negative", NEGATIVE))
    ]


def _token_rows(figures: Figures) -> list[list[str]]:
    """Tokens of answers, a row for each codec."""
    rows = []
    for family, answer_format in CODECS:
        tokens = figures["tokens"][family][answer_format]
        values = (pages.number(tokens[key], 1) for key in ("mean", "q05", "q25", "q50", "q75", "q95"))
        longest = pages.number(tokens["max"], 0)
        rows.append([family, answer_format, str(tokens["answers"]), *values, longest])
    return rows


def _group(
    quality: Mapping[str, Any],
    galleries: Mapping[GalleryKey, Sequence[Figure]],
    group: str,
    shown: Sequence[str],
) -> Group:
    figures_of = quality[f"by_{group}"]
    head = [
        group,
        "samples",
        "clicks",
        "positive",
        "IoU after 1",
        "final IoU",
        "harmful clicks",
        "below best",
    ]
    head += [*(f"NoC@{level} (never)" for level in LEVELS), "flagged"]
    sections = [
        _section(f"{name} ({figures_of[name]['samples']})", figures_of[name], galleries[group, name])
        for name in shown
    ]
    rows = [_group_row(name, figures) for name, figures in figures_of.items()]
    return Group(group, head, rows, sections, len(figures_of) - len(shown))


def _group_row(name: str, figures: Figures) -> list[str]:
    clicks = sum(position["clicks"] for position in figures["signs"])
    positive = sum(position["clicks"] * position["positive"] for position in figures["signs"])
    nocs = (figures["noc"][str(level)] for level in LEVELS)
    return [
        name,
        str(figures["samples"]),
        pages.number(figures["lengths"]["mean"], 2),
        pages.percent(positive / clicks if clicks else None),
        pages.number(figures["iou_after_clicks"][0]["mean"]),
        pages.number(figures["final_iou"]["mean"]),
        *(pages.percent(figures[key]["share"]) for key in ("harmful_clicks", "below_best")),
        *(f"{pages.number(noc['mean'], 2)} ({pages.percent(noc['never'])})" for noc in nocs),
        str(figures["flagged"]["any"]),
    ]


def _reasons(quality: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Each reason for a flag: its name, its meaning, how many samples have it."""
    limits, flagged = quality["limits"], quality["all"]["flagged"]
    query = "the same query" if limits["duplicate_query"] == "same" else "any query"
    meanings = {
        LOW_IOU: f"IoU after the last click below {limits['min_iou']:g}",
        DUPLICATE: f"IoU above {limits['duplicate_iou']:g} with an earlier mask of the same image and {query}",
        SLIVER: f"the largest disc inside the mask has a radius below {limits['min_radius']:g} pixels",
        CONTRADICTION: "the same image and query, and another target",
    }
    return [(reason, meaning, str(flagged[reason])) for reason, meaning in meanings.items()]


def _examples(quality: Mapping[str, Any], galleries: Mapping[GalleryKey, Sequence[Figure]]) -> list[Gallery]:
    """Examples of flagged samples."""
    headings = {SLIVER: "slivers", DUPLICATE: "near-duplicates"}
    return [
        Gallery(f"Examples: {heading}", galleries[reason, ""])
        for reason, heading in headings.items()
        if quality["all"]["flagged"][reason]
    ]
