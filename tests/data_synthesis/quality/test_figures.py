import json
import statistics
from itertools import pairwise

import numpy as np
import pytest

from geoclick.clicks import Click
from geoclick.data_synthesis.quality.figures import (
    EDGES,
    GRID,
    LEVELS,
    QUANTILES,
    all_figures,
    figures,
    number_of_clicks,
    spread,
)
from geoclick.data_synthesis.quality.measures import CODECS, UNCOUNTED
from tests.data_synthesis.click_rows import make_row, measure, random_rows

LONGEST = 5
SQUARE = np.ones((10, 10), bool)


def figures_of(rows, max_clicks=LONGEST):
    everything = np.ones(len(rows), bool)
    return figures(measure(rows), everything, {"any": everything}, max_clicks)


def with_ious(*sequences):
    return [make_row(SQUARE, [Click(4, 4)] * len(ious), ious) for ious in sequences]


def quantile(values, percent):
    """The textbook's linear quantile."""
    values, at = sorted(values), percent / 100 * (len(values) - 1)
    low = int(at)
    high = min(low + 1, len(values) - 1)
    return values[low] + (at - low) * (values[high] - values[low])


def check_spread(found, values):
    assert found["mean"] == pytest.approx(statistics.fmean(values), abs=1e-5)
    for percent in QUANTILES:
        assert found[f"q{percent:02d}"] == pytest.approx(quantile(values, percent), abs=1e-5)


def noc(ious, level, most):
    return next((k for k, iou in enumerate(ious[:most], start=1) if iou >= level), None)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("max_clicks", [3, LONGEST, 8])
def test_figures_agree_with_counting_row_by_row(seed, max_clicks):
    rows = random_rows(seed, 80, longest=LONGEST)
    found = figures_of(rows, max_clicks)
    targets = [row for row in rows if row.task != "no_target"]
    assert (found["samples"], found["no_target"]) == (80, 80 - len(targets))
    assert found["sequences"] == len(targets)
    assert found["without_clicks"] == sum(not row.clicks for row in targets) > 0
    check_spread(found["final_iou"], [(0, *row.ious)[-1] for row in targets])
    below = [row.ious[-1] < max(row.ious) for row in targets if row.ious]
    assert found["below_best"] == {
        "sequences": len(targets),
        "number": sum(below),
        "share": pytest.approx(sum(below) / len(targets), abs=1e-5),
    }
    later = [b < a for row in targets for a, b in pairwise(row.ious)]
    assert found["harmful_clicks"] == {
        "later_clicks": len(later),
        "number": sum(later),
        "share": pytest.approx(statistics.fmean(later), abs=1e-5),
    }
    check_spread(found["best_iou"], [max(row.ious, default=0) for row in targets])
    assert found["lengths"]["mean"] == pytest.approx(
        statistics.fmean(len(r.clicks) for r in targets), abs=1e-5
    )
    assert sum(found["lengths"]["counts"].values()) == len(targets)
    for k, block in enumerate(found["iou_after_clicks"], start=1):
        assert block["clicks"] == k
        check_spread(block, [(*row.ious[:k], 0.0)[min(k, len(row.ious)) - 1] for row in targets])
    assert len(found["iou_after_clicks"]) == max_clicks
    for level in LEVELS:
        numbers = [noc(row.ious, level / 100, max_clicks) for row in targets]
        block = found["noc"][str(level)]
        assert block["mean"] == pytest.approx(statistics.fmean(n or max_clicks for n in numbers), abs=1e-5)
        assert block["never"] == pytest.approx(numbers.count(None) / len(numbers), abs=1e-5)
    for position, block in enumerate(found["signs"]):
        signs = [row.clicks[position].positive for row in rows if len(row.clicks) > position]
        assert block == {
            "position": position + 1,
            "clicks": len(signs),
            "positive": pytest.approx(statistics.fmean(signs), abs=1e-5),
        }
    for number, (family, answer_format) in enumerate(CODECS):
        block = found["tokens"][family][answer_format]
        tokens = [10 * len(row.clicks) + number for row in rows]
        check_spread(block, tokens)
        assert (block["answers"], block["max"]) == (80, max(tokens))


@pytest.mark.parametrize("seed", range(3))
def test_maps_and_histograms_count_each_click_once(seed):
    rows = random_rows(seed, 60)
    found = figures_of(rows)
    for name, sign in (("positive", True), ("negative", False)):
        grid = np.zeros((GRID, GRID), int)
        for row in rows:
            for click in row.clicks:
                if click.positive == sign:
                    y, x = (click.y + 0.5) / row.height, (click.x + 0.5) / row.width
                    grid[min(int(y * GRID), GRID - 1), min(int(x * GRID), GRID - 1)] += 1
        assert found["places"][name] == grid.tolist()
        border = found["border_distance"][name]
        assert len(border["counts"]) == len(EDGES) + 1
        assert sum(border["counts"]) == border["clicks"] == grid.sum()
        # No distance lies at 0, so that the bars from the edge 0 on are the clicks inside.
        inside = sum(border["counts"][EDGES.index(0) + 1 :])
        assert border["inside"] == pytest.approx(inside / border["clicks"], abs=1e-5)


def test_noc_is_the_first_click_that_reaches_the_level_or_the_maximum():
    after = np.array([[0.7, 0.9, 0.6], [0.9, 0.95, 0.95], [0.1, 0.2, 0.3], [0.5, 0.5, 0.8999]])
    numbers, ever = number_of_clicks(after, 0.9)
    assert numbers.tolist() == [2, 1, 3, 3]
    assert ever.tolist() == [True, True, False, False]


def test_a_sequence_that_ended_early_counts_the_maximum():
    block = figures_of(with_ious([0.5], [0.95]), max_clicks=20)["noc"]["90"]
    assert block == {"mean": 10.5, "never": 0.5}


def test_harmful_clicks_lower_the_iou_of_their_own_sequence():
    found = figures_of(with_ious([0.5, 0.7, 0.6], [0.4], [0.3, 0.3], [0.9, 0.2, 0.8, 0.9]))
    # The first click of a sequence is not compared with the last one of the sequence before it.
    assert found["harmful_clicks"] == {
        "later_clicks": 6,
        "number": 2,
        "share": pytest.approx(1 / 3, abs=1e-5),
    }
    assert found["below_best"] == {"sequences": 4, "number": 1, "share": 0.25}
    single = figures_of(with_ious([0.4]))
    assert single["harmful_clicks"] == {"later_clicks": 0, "number": 0, "share": None}


def test_clicks_beyond_the_maximum_do_not_count():
    rows = with_ious([0.1, 0.2, 0.95])
    assert figures_of(rows, max_clicks=2)["noc"]["90"] == {"mean": 2.0, "never": 1.0}
    assert figures_of(rows, max_clicks=3)["noc"]["90"] == {"mean": 3.0, "never": 0.0}


def test_a_level_is_reached_at_exactly_its_iou():
    assert [figures_of(with_ious([level / 100]))["noc"][str(level)]["never"] for level in LEVELS] == [0, 0, 0]


def test_groups_have_the_figures_of_their_rows():
    rows = random_rows(7, 60)
    measures = measure(rows)
    flags = {"any": np.arange(60) % 3 == 0}
    found = all_figures(measures, flags, LONGEST)
    assert set(found["by_dataset"]) == {"one", "two"}
    assert set(found["by_category"]) == {"roof", "tree"}
    for name, block in found["by_dataset"].items():
        mine = [row for row in rows if row.dataset == name]
        alone = figures_of(mine)
        assert block | {"flagged": None} == alone | {"flagged": None}
        assert block["flagged"]["any"] == sum(
            f for f, row in zip(flags["any"], rows, strict=True) if row.dataset == name
        )
    assert sum(block["samples"] for block in found["by_task"].values()) == 60
    one = all_figures(measure(rows[:1]), {"any": flags["any"][:1]}, LONGEST)
    assert one["by_dataset"] == one["by_task"] == one["by_category"] == {}


def test_a_mean_of_no_values_is_none_and_figures_are_json():
    empty = figures_of([make_row(np.zeros((4, 4), bool))])
    assert empty["best_iou"] == spread(np.empty(0))
    assert empty["final_iou"] == spread(np.empty(0))
    assert empty["below_best"] == {"sequences": 0, "number": 0, "share": None}
    assert empty["noc"]["80"] == {"mean": None, "never": None}
    assert empty["signs"] == []
    assert "NaN" not in json.dumps(empty)
    json.dumps(all_figures(measure(random_rows(1, 20)), {"any": np.ones(20, bool)}, 3), allow_nan=False)


def test_answers_that_a_codec_cannot_write_are_not_counted():
    measures = measure(with_ious([0.5], [0.5]))
    measures.rows["tokens"][0, 2] = UNCOUNTED
    found = figures(measures, np.ones(2, bool), {}, 1)["tokens"]
    family, answer_format = CODECS[2]
    assert found[family][answer_format]["answers"] == 1
    assert found[family][answer_format]["mean"] == 12


def test_groups_by_the_number_of_parts():
    mask, clicks = np.ones((4, 4), bool), [Click(0, 0), Click(3, 3), Click(1, 2)]
    rows = [make_row(mask, clicks, ious) for ious in ([0.1, 0.2, 0.3], [0.2, 0.4, 0.5])]
    rows += [make_row(mask, clicks, [0.5, 0.6, 0.9], parts=(2, 1)), make_row(np.zeros((4, 4), bool))]
    found = all_figures(measure(rows), {"any": np.zeros(4, bool)}, 3)["by_parts"]
    assert {name: (block["samples"], block["final_iou"]["mean"]) for name, block in found.items()} == {
        "1 part": (2, 0.4),
        "2 parts": (1, 0.9),
    }
