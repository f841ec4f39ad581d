import pytest

from geoclick.datasets.benchmarks import BENCHMARKS
from geoclick.inference.reports import published
from geoclick.inference.reports.published import PUBLISHED
from geoclick.scoring.metrics import MODES


def value(benchmark, split, method, metric="miou"):
    (row,) = (r for r in published.figures_of(benchmark, split, metric) if method in r.method)
    return row.value


def test_figures_are_those_of_the_tables_in_percent():
    assert value("openearthmap", "val", "SegEarth-OV") == 40.3
    assert value("vdd", "test", "MaskCLIP") == 32.9
    assert value("udd5", "val", published.ORACLE) == 56.5
    assert value("whu-aerial", "val", "CLIP + SAM", "foreground_iou") == 58.8
    assert value("chn6-cug", "val", "10 x 10", "foreground_iou") == 31.0
    assert value("rrsis-d", "val", "LoRA") == 68.1
    assert value("rrsis-d", "test", "EviSAM3") == 70.65
    assert value("earthreason", "test", "Think2Seg-RS", "oiou") == 75.6
    assert published.figures_of("earthreason", "val") == []
    assert published.figures_of("folder", "test") == []


def test_every_figure_has_a_benchmark_and_a_metric_of_geoclick():
    for row in PUBLISHED:
        assert 1 < row.value < 100
        assert row.protocol.mode in (None, *MODES)
        if row.benchmark.startswith("average"):
            assert row.split == ""
            continue
        benchmark = BENCHMARKS[row.benchmark]
        semantic = benchmark.task == "semantic"
        assert row.split == benchmark.split or row.benchmark == "rrsis-d"
        assert (row.protocol.mode == "semantic") == semantic
        single = benchmark.foreground is not None
        assert row.metric in (("foreground_iou",) if single else ("miou", "oiou"))
    keys = [(r.benchmark, r.split, r.method, r.metric) for r in PUBLISHED]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    ("method", "average"),
    [
        ("CLIP", 11.0),
        ("MaskCLIP", 24.3),
        ("SCLIP", 22.0),
        ("GEM", 18.0),
        ("ClearCLIP", 25.0),
        ("SegEarth-OV", 34.2),
    ],
)
def test_foreground_ious_have_the_known_averages(method, average):
    rows = [row for row in PUBLISHED if row.method == method and row.metric == "foreground_iou" and row.split]
    assert [row.benchmark for row in rows] == list(published.FOREGROUND_SETS)
    assert sum(row.value for row in rows) / 9 == pytest.approx(average, abs=0.051)


def test_values_from_secondary_sources_are_marked():
    secondary_values = {(r.benchmark, r.method) for r in PUBLISHED if r.secondary}
    assert ("rrsis-d", published.TUNED) in secondary_values
    assert ("whu-aerial", published.CONTRASTIVE) in secondary_values
    assert ("loveda", published.CONTRASTIVE) not in secondary_values
    assert ("loveda", "SegEarth-OV") not in secondary_values


@pytest.mark.parametrize("row", published.SEMANTIC, ids=lambda row: row[0])
def test_printed_averages_match_the_rows_of_the_paper_only(row):
    method, _, values, average = row
    mean = sum(values) / len(values)
    if method in (published.CONTRASTIVE, published.ORACLE):
        assert average == pytest.approx(mean, abs=0.051)
    else:
        assert 0.2 <= mean - average < 1.9
