"""report.html of an evaluation, made from its metrics.json and predictions.jsonl."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from geoclick import pages
from geoclick.datasets.benchmarks import BENCHMARKS
from geoclick.files import write_whole
from geoclick.geo.reading import DEFAULT, PixelOptions, recorded_rule
from geoclick.inference.evaluation.ranking import Ranking
from geoclick.inference.reports import class_maps, gallery, gallery_selection, published_table
from geoclick.pages import charts, click_drawing
from geoclick.pages.figures import Figure, Gallery
from geoclick.scoring.instances import Instances
from geoclick.scoring.model_index import METRICS
from geoclick.scoring.query_kinds import SEVERAL_PARTS
from geoclick.scoring.records import Record

NAME = "report.html"
PREDICTOR_NAMES = {
    "oracle": "upper bound (synthetic clicks)",
    "box": "boxes of the true masks",
    "center-point": "centers of the true masks",
    "noisy": "true masks with noise",
    "oracle-proposals": "true classes of proposals",
}
"""Predictors without a model, in titles."""
COLUMNS = {"miou": "mIoU", "miou_interval": "95 % interval", "oiou": "oIoU"} | {
    key: METRICS[key] for key in ("pr@0.5", "pr@0.7", "pr@0.9", "boundary_iou")
}
"""Scores in a table of groups, where the groups have them."""
RANKED = {
    "score": "predicted IoU",
    "probability": "token probability",
    "agreement": "agreement of votes",
    "confidence": "confidence",
}
"""Scores of single predictions, by their names in a record."""
GROUPS = {
    "task": "by_task",
    "target size": "by_size",
    "kind of query": "by_query_kind",
    "category": "by_category",
}
"""Groupings in a summary, by what one of their groups is."""

Tile = tuple[str, str]
"""A value, and what it is."""


def write(folder: Path, summary: Mapping[str, Any], records: Path, *, count: int) -> None:
    """Write report.html into a run's folder; arguments as in `render`."""
    write_whole(folder / NAME, render(folder.name, summary, records, count=count))


def render(name: str, summary: Mapping[str, Any], records: Path, *, count: int) -> str:
    """The page as text.

    Args:
        name: of the run.
        summary: the content of its metrics.json.
        records: its complete predictions.jsonl.
        count: records in each gallery.
    """
    protocol = summary["protocol"]
    semantic, classes = protocol["mode"] == "semantic", protocol.get("classes", {})
    index = gallery_selection.index_records(records, count)
    return pages.render(
        "evaluation_report.html",
        title=title(name, protocol),
        summary=summary,
        semantic=semantic,
        tiles=_tiles(summary),
        published=_published(summary),
        ranking=_ranking(summary.get("ranking", {})),
        instances=_instances(summary.get("instances")),
        groups=[] if semantic else _groups(summary),
        histogram=charts.iou_histogram(index.ious[index.targets] if semantic else index.ious),
        galleries=_galleries(records, index, Path(protocol["root"]), recorded_rule(protocol), count),
        colors=click_drawing.COLORS,
        protocol=protocol | {"classes": class_maps.listed(classes)} if classes else protocol,
        maps=class_maps.of_run(
            classes,
            summary.get("confusion"),
            records,
            Path(protocol["root"]),
            recorded_rule(protocol),
            count=count,
        ),
    )


def title(name: str, protocol: Mapping[str, Any]) -> str:
    """The name of a run, its model or predictor, and its dataset."""
    dataset, predictor = protocol["dataset"], protocol["predictor"]
    on = BENCHMARKS[dataset].title if dataset in BENCHMARKS else dataset
    who = PREDICTOR_NAMES.get(predictor) or protocol.get("adapter") or protocol.get("vlm") or predictor
    # Of a path on this machine the end.
    who = Path(who).name if Path(who).is_absolute() else who
    return f"{name}: {who} on {on} {protocol['split']}"


def _tiles(summary: Mapping[str, Any]) -> list[Tile]:
    """The most important values."""
    scores, answers = summary["scores"], summary["answers"]
    tiles = _semantic_tiles(scores) if summary["protocol"]["mode"] == "semantic" else _sample_tiles(summary)
    if scores.get("boundary_iou") is not None:
        tiles.append((pages.number(scores["boundary_iou"]), "boundary IoU"))
    if "confusion" in summary:
        tiles.append((pages.percent(summary["confusion"]["accuracy"]), "of the pixels with their true class"))
    if covered := summary.get("coverage"):
        number = pages.number(covered["proposals_per_image"], 1)
        tiles.append((pages.percent(covered["mean"]), f"covered by proposals, {number} per image"))
    if answers["parse_rate"] is not None:
        tiles.append((pages.number(answers["parse_rate"]), "of the answers in the requested format"))
        tiles.append((pages.number(summary["mean_clicks"], 1), "clicks per answer"))
    if sampled := answers.get("sampled"):
        tiles.append((pages.number(sampled["parse_rate"]), "of the sampled answers in the requested format"))
    return [*tiles, (str(scores["n"]), "samples")]


def _ranking(rankings: Mapping[str, Ranking]) -> list[list[str]]:
    """The rows of the table of how well scores order samples."""
    return [
        [
            RANKED[name],
            str(found["n"]),
            *map(pages.number, (found["spearman"], found["aurc"], found["random_aurc"], found["best_aurc"])),
        ]
        for name, found in rankings.items()
    ]


def _instances(found: Instances | None) -> list[list[str]]:
    """The row of the table of instances; none without samples whose targets have several."""
    if found is None:
        return []
    counts = (found["n"], found["true"], found["predicted"], found["matched"])
    scores = (found["precision"], found["recall"], found["f1"], found["count_right"])
    return [[*map(str, counts), *map(pages.number, scores)]]


def _semantic_tiles(scores: Mapping[str, Any]) -> list[Tile]:
    tiles = [(pages.number(scores["miou"]), f"mIoU, 95 % interval {pages.interval(scores['miou_interval'])}")]
    if "foreground_iou" in scores:
        tiles.append(
            (pages.number(scores["foreground_iou"]), "foreground IoU, the score published for this dataset")
        )
    return [*tiles, (str(len(scores["per_class"])), "classes"), (str(scores["images"]), "images")]


def _sample_tiles(summary: Mapping[str, Any]) -> list[Tile]:
    scores, no_target = summary["scores"], summary["no_target"]
    miou, interval = pages.number(scores["miou"]), pages.interval(scores["miou_interval"])
    return [
        (miou, f"mIoU (gIoU), 95 % interval {interval}"),
        (pages.number(scores["oiou"]), "oIoU (cIoU)"),
        (pages.number(scores["pr@0.5"]), "of the samples with IoU 0.5 or more"),
        (
            pages.number(no_target["accuracy"]),
            f"no-target accuracy, false alarms: {no_target['false_alarms']} of {no_target['n']}"
            + (f", without a readable answer: {no_target['unanswered']}" if no_target["unanswered"] else ""),
        ),
    ]


def _published(summary: Mapping[str, Any]) -> dict[str, Any]:
    """The table of published scores; empty if there are none."""
    rows = published_table.rows(summary)
    if not rows:
        return {}
    metrics = published_table.metrics(rows)
    cells = [[published_table.percent(row, metric) for metric in metrics] for row in rows]
    notes = groupby(zip(rows, cells, strict=True), key=lambda pair: pair[0].note)
    return {
        "metrics": [METRICS[metric] for metric in metrics],
        # A note that applies to consecutive rows is shown once.
        "notes": [(note, list(pairs)) for note, pairs in notes],
        "tuned": published_table.TUNED,
        "secondary": any(row.secondary for row in rows),
    }


def _groups(summary: Mapping[str, Any]) -> list[tuple[str, list[str], list[list[str]], str]]:
    """The name, the head, the rows and a note of the table of each grouping."""
    notes = {"by_size": "Medium from {:,} pixels, large from {:,}.".format(*summary["size_bounds"])}
    if SEVERAL_PARTS in summary["by_query_kind"]:
        notes["by_query_kind"] = f"Samples of “{SEVERAL_PARTS}” are of another kind as well."
    return [
        (name, *_group_table(summary[part], name), notes.get(part, ""))
        for name, part in GROUPS.items()
        if summary[part]
    ]


def _group_table(groups: Mapping[str, Mapping[str, Any]], name: str) -> tuple[list[str], list[list[str]]]:
    """The head and the rows of the scores of groups of samples."""
    keys = [key for key in COLUMNS if any(scores.get(key) is not None for scores in groups.values())]
    rows = []
    for group, scores in groups.items():
        # Without targets there is no intersection to sum.
        values = {**scores, "oiou": None} if group == "no_target" else scores
        cells = [
            pages.interval(values.get(key)) if key == "miou_interval" else pages.number(values.get(key))
            for key in keys
        ]
        rows.append([group, str(scores["n"]), *cells])
    return [name, "n", *(COLUMNS[key] for key in keys)], rows


def _galleries(
    records: Path, index: gallery_selection.RecordIndex, root: Path, pixels: PixelOptions, count: int
) -> Sequence[Gallery]:
    """The galleries that have a record."""
    return [
        Gallery(
            heading,
            [
                figure(record, root, pixels)
                for record in gallery_selection.read_at(records, index.offsets, positions)
            ],
        )
        for heading, positions in gallery_selection.select(index, count).items()
        if positions
    ]


def figure(record: Record, root: Path, pixels: PixelOptions = DEFAULT) -> Figure:
    """A record: its target on the complete image, and the predicted mask with the clicks in a window around both."""
    image, error = gallery.read_complete(record, root, pixels)
    window = gallery.window_of([record])
    return Figure(
        [
            gallery.target_picture(image, record, window),
            gallery.answer_picture(image, record, window, label="prediction"),
        ],
        record["query"],
        score=pages.number(record["iou"]),
        notes=[note for note in (gallery.details(record, record["status"]), error) if note],
        answers=gallery.answer(record["text"]),
    )
