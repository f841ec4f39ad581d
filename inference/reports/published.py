"""Published scores of the benchmarks, in percent as printed, each with the protocol by which it was computed.

The tables of PAPER also hold the scores of other methods.
"""

from dataclasses import dataclass

from geoclick.datasets.benchmarks import BENCHMARKS

PAPER = "arXiv 2602.17799"
OF_SEGEARTH_OV = "arXiv 2410.01768"


@dataclass(frozen=True)
class Protocol:
    """How a published score was computed, as far as known.

    Attributes:
        mode: the corresponding `--mode`; None if unknown.
        question: the corresponding `--question`; None if there is none, or if unknown.
        unknown: what else is unknown.
        note: other particulars.
    """

    mode: str | None = None
    question: str | None = None
    unknown: str = ""
    note: str = ""


SEGEARTH_OV = Protocol("semantic", note="images with a long side of 448, thresholds of SegEarth-OV")
SEGEARTH_OV_896 = Protocol("semantic", note="images with a long side of 896, thresholds of SegEarth-OV")
PAPER_CONTRASTIVE = Protocol("semantic", unknown="image lists and thresholds are not published")
PAPER_GENERATIVE = Protocol(unknown="mode and choice of question are not published")
THINK2SEG = Protocol("think2seg", "random", unknown="its random questions are different ones")
UNKNOWN = Protocol(unknown="protocol not available")


@dataclass(frozen=True)
class PublishedFigure:
    """One score of one method.

    Attributes:
        benchmark: a key of BENCHMARKS, or `average-multi-class` and `average-single-class`.
        split: of the benchmark; empty for an average.
        method: as its authors call it.
        metric: `miou` (also called gIoU), `oiou` (also called cIoU) or `foreground_iou`.
        value: in percent.
        protocol: by which it was computed.
        source: publication.
        secondary: whether the value is quoted from another source than that.
    """

    benchmark: str
    split: str
    method: str
    metric: str
    value: float
    protocol: Protocol
    source: str = PAPER
    secondary: bool = False


MULTI_CLASS = ("openearthmap", "loveda", "isaid", "potsdam", "vaihingen", "uavid", "udd5", "vdd")
ORACLE = "Oracle (arXiv 2602.17799, not defined there)"
CONTRASTIVE = "CLIP + SAM (arXiv 2602.17799)"
TUNED, UNTUNED = "Qwen3-VL-2B, LoRA (arXiv 2602.17799)", "GPT-5, zero-shot (arXiv 2602.17799)"

SEMANTIC = (
    ("CLIP", SEGEARTH_OV, (12.0, 12.4, 7.5, 15.6, 10.8, 10.9, 9.5, 14.2), 11.4),
    ("MaskCLIP", SEGEARTH_OV, (25.1, 27.8, 14.5, 33.9, 29.9, 28.6, 32.4, 32.9), 27.2),
    ("SCLIP", SEGEARTH_OV, (29.3, 30.4, 16.1, 39.6, 35.9, 31.4, 38.7, 37.9), 31.1),
    ("GEM", SEGEARTH_OV, (33.9, 31.6, 17.7, 39.1, 36.4, 33.4, 41.2, 39.5), 32.3),
    ("ClearCLIP", SEGEARTH_OV, (31.0, 32.4, 18.2, 42.0, 36.2, 36.2, 41.8, 39.3), 33.4),
    ("SegEarth-OV", SEGEARTH_OV, (40.3, 36.9, 21.7, 48.5, 40.0, 42.5, 50.6, 45.3), 39.2),
    (CONTRASTIVE, PAPER_CONTRASTIVE, (34.2, 38.2, 21.9, 50.2, 40.6, 44.3, 53.8, 46.8), 41.3),
    (
        ORACLE,
        PAPER_CONTRASTIVE,
        (64.4, 50.0, 36.2, 74.3, 61.2, 59.7, 56.5, 62.9),
        58.2,
    ),
)
"""mIoU of MULTI_CLASS in order, then the average as printed.

The printed averages of the first six are 0.2 to 1.8 below the means of their rows.
"""
FOREGROUND_SETS = (
    *("whu-aerial", "whu-sat2", "inria", "xbd", "chn6-cug"),
    *("deepglobe", "massachusetts", "spacenet", "wbs-si"),
)
FOREGROUND = (
    ("CLIP", SEGEARTH_OV, (17.7, 3.5, 19.6, 16.0, 7.7, 3.9, 4.9, 7.1, 18.6)),
    ("MaskCLIP", SEGEARTH_OV, (29.8, 14.0, 33.4, 29.2, 28.1, 13.2, 10.6, 20.8, 39.8)),
    ("SCLIP", SEGEARTH_OV, (33.4, 21.0, 34.9, 25.9, 21.1, 7.0, 7.4, 14.9, 32.1)),
    ("GEM", SEGEARTH_OV, (24.4, 13.6, 28.5, 20.8, 13.4, 4.7, 5.1, 11.9, 39.5)),
    ("ClearCLIP", SEGEARTH_OV, (36.6, 20.8, 39.0, 30.1, 25.5, 5.7, 6.4, 16.3, 44.9)),
    ("SegEarth-OV", SEGEARTH_OV, (49.2, 28.4, 44.6, 37.0, 35.4, 17.8, 11.5, 23.8, 60.2)),
    ("SegEarth-OV, 896 pixels", SEGEARTH_OV_896, (49.9, None, 48.9, 43.1, 32.8, 20.1, 17.2, 29.1, 57.9)),
)
"""IoU of the foreground on FOREGROUND_SETS in order, by the authors of SegEarth-OV."""
SINGLE_CLASS = {"whu-aerial": 58.8, "inria": 48.0, "chn6-cug": 36.4, "deepglobe": 15.9, "massachusetts": 12.2}
"""IoU of the foreground, by CONTRASTIVE."""
GRIDS = {"loveda": {10: 36.2, 20: 38.1}, "chn6-cug": {10: 31.0, 20: 35.6}}
"""CONTRASTIVE with other numbers of points per side than its 29."""


def _all_figures() -> list[PublishedFigure]:
    """The scores of the tables above, and those of the generative pipeline."""
    rows = []
    for method, protocol, values, average in SEMANTIC:
        for name, value in zip(MULTI_CLASS, values, strict=True):
            rows.append(PublishedFigure(name, BENCHMARKS[name].split, method, "miou", value, protocol))
        rows.append(PublishedFigure("average-multi-class", "", method, "miou", average, protocol))
    for method, protocol, of_sets in FOREGROUND:
        for name, iou in zip(FOREGROUND_SETS, of_sets, strict=True):
            if iou is not None:
                split = BENCHMARKS[name].split
                rows.append(
                    PublishedFigure(name, split, method, "foreground_iou", iou, protocol, OF_SEGEARTH_OV)
                )
    rows.append(
        PublishedFigure(
            "average-single-class", "", "SegEarth-OV", "foreground_iou", 34.2, SEGEARTH_OV, secondary=True
        )
    )
    rows.append(
        PublishedFigure(
            "average-single-class",
            "",
            CONTRASTIVE,
            "foreground_iou",
            35.1,
            PAPER_CONTRASTIVE,
            secondary=True,
        )
    )
    for name in ("loveda", *SINGLE_CLASS):
        split = BENCHMARKS[name].split
        metric = "miou" if name in MULTI_CLASS else "foreground_iou"
        for side, value in GRIDS.get(name, {}).items():
            method = f"{CONTRASTIVE}, {side} x {side} points"
            rows.append(
                PublishedFigure(name, split, method, metric, value, PAPER_CONTRASTIVE, secondary=True)
            )
        if name in SINGLE_CLASS:
            value = SINGLE_CLASS[name]
            rows.append(
                PublishedFigure(name, split, CONTRASTIVE, metric, value, PAPER_CONTRASTIVE, secondary=True)
            )
    rows += [
        PublishedFigure(name, split, method, "miou", value, PAPER_GENERATIVE, secondary=True)
        for name, split, method, value in (
            ("rrsis-d", "val", TUNED, 68.1),
            ("rrsis-d", "test", UNTUNED, 24.9),
            ("rrsis-d", "test", TUNED, 67.6),
            ("earthreason", "test", UNTUNED, 47.4),
            ("earthreason", "test", TUNED, 72.7),
        )
    ]
    return [
        *rows,
        PublishedFigure("rrsis-d", "test", "EviSAM3", "miou", 70.65, UNKNOWN, "its authors"),
        PublishedFigure("earthreason", "test", "SegEarth-R2", "miou", 73.5, UNKNOWN, "arXiv 2512.20013"),
        PublishedFigure("earthreason", "test", "Think2Seg-RS", "oiou", 75.60, THINK2SEG, "arXiv 2512.19302"),
    ]


PUBLISHED = tuple(_all_figures())
"""All scores; methods in the order in which a table shows them."""


def figures_of(benchmark: str, split: str, metric: str | None = None) -> list[PublishedFigure]:
    """The published scores of a benchmark's split, or of one metric of it."""
    return [
        row
        for row in PUBLISHED
        if (row.benchmark, row.split) == (benchmark, split) and metric in (None, row.metric)
    ]
