import json
import tracemalloc

import numpy as np
import pytest

from geoclick import masks
from geoclick.errors import GeoClickError
from geoclick.inference.evaluation import results
from geoclick.scoring import intervals, metrics, records
from tests.inference import evaluated

SIZE = (40, 50)


def square(rows, columns=50):
    mask = np.zeros(SIZE, bool)
    mask[:rows, :columns] = True
    return mask


EMPTY = square(0)


def record(name, prediction, target, mode="native", *, valid=None, status="ok", **fields):
    """A line of predictions.jsonl."""
    found = metrics.compare(prediction, target, mode, valid, parsed=status != "unparsable")
    return {
        "sample_id": name,
        "task": "referring" if target.any() else "no_target",
        "category": "",
        "query": "the ship",
        "image": f"{name}.png",
        "iou": found.iou,
        "intersection": found.intersection,
        "union": found.union,
        "boundary_iou": found.boundary_iou,
        "area": int(target.sum()),
        "size": list(SIZE),
        "status": status,
        "text": "",
        "clicks": [],
        "dropped": [],
        "mask": masks.encode_rle(prediction),
        "target": masks.encode_rle(target),
        "valid": None if valid is None else masks.encode_rle(valid),
    } | fields


def protocol(mode="native", **others):
    return {"mode": mode, "seed": 0} | others


@pytest.fixture
def entries():
    clicks = [[1, 2, True], [3, 4, False]]
    return [
        record("a", square(20), square(20), category="ship", query="the ship on the left", clicks=clicks),
        record("b", square(10), square(20), category="dam", query="the red dam", status="repaired"),
        record("c", EMPTY, square(40), category="dam", task="reasoning", status="unparsable"),
        record("d", square(1), square(1, 4), dropped=["out of the image"]),
        record("e", EMPTY, EMPTY, status="empty"),
        record("f", square(3), EMPTY),
    ]


def test_the_summary_of_a_run(entries):
    summary = results.summarize(iter(entries), protocol(dataset="d"))
    assert list(summary) == [
        "scores",
        "by_task",
        "by_category",
        "by_size",
        "by_query_kind",
        "size_bounds",
        "answers",
        "no_target",
        "mean_clicks",
        "protocol",
    ]
    scores = summary["scores"]
    pairs = [(masks.decode_rle(entry["mask"]), masks.decode_rle(entry["target"])) for entry in entries]
    alone = metrics.score(*zip(*pairs, strict=True))
    assert {key: scores[key] for key in alone} == alone
    assert set(scores) - set(alone) == {"miou_interval", "boundary_iou_interval"}
    assert scores["miou_interval"][0] < scores["miou"] < scores["miou_interval"][1]
    counted = {part: {name: block["n"] for name, block in summary[part].items()} for part in results.PARTS}
    assert counted == {
        "by_task": {"referring": 3, "reasoning": 1, "no_target": 2},
        "by_category": {"dam": 2, "ship": 1},
        "by_size": {"small": 3, "medium": 1},
        "by_query_kind": {"plain": 1, "position": 1, "color": 1, "reasoning": 1, "no_target": 2},
    }
    assert list(summary["by_query_kind"]) == ["plain", "position", "color", "reasoning", "no_target"]
    assert summary["by_category"]["dam"]["miou"] == 0.25
    assert summary["answers"] == {
        "by_status": {"empty": 1, "ok": 3, "repaired": 1, "unparsable": 1},
        "parse_rate": 4 / 6,
        "dropped": 1,
    }
    assert summary["no_target"] == {
        "n": 2,
        "accuracy": 0.5,
        "false_alarms": 1,
        "unanswered": 0,
        "targets_without_mask": 1,
    }
    assert summary["mean_clicks"] == 2 / 6
    assert summary["protocol"] == protocol(dataset="d")


def test_answers_that_were_cut_are_counted_and_said(entries, tmp_path):
    entries[0] |= {"dropped": ["repeated", records.CUT], "status": "repaired"}
    summary = results.summarize(entries, protocol(max_new_tokens=416))
    assert (summary["answers"]["cut"], summary["answers"]["dropped"]) == (1, 2)
    (line,) = results.failure_lines(tmp_path, summary)
    assert line == "cut at --max-new-tokens 416: 1 answers; give a larger limit"


def test_several_parts_are_a_kind_besides_that_of_the_words(entries):
    counts = {"true": 3, "predicted": 2, "matched": 1}
    for entry in entries[:2]:
        entry["instances"] = counts
    summary = results.summarize(entries, protocol())
    kinds = {name: block["n"] for name, block in summary["by_query_kind"].items()}
    assert kinds == {
        **{"plain": 1, "position": 1, "color": 1, "reasoning": 1, "no_target": 2},
        "several parts": 2,
    }
    assert list(kinds)[-1] == "several parts"
    assert summary["by_query_kind"]["several parts"]["miou"] == 0.75
    found = summary["instances"]
    assert (found["n"], found["recall"], found["precision"], found["f1"]) == (2, 2 / 6, 0.5, 0.4)


def test_equal_records_give_equal_bytes(entries):
    texts = [json.dumps(results.summarize(entries, protocol())) for _ in range(2)]
    assert texts[0] == texts[1]
    assert json.loads(texts[0]) == results.summarize(map(json.loads, map(json.dumps, entries)), protocol())


@pytest.mark.parametrize(
    ("area", "size"),
    [(0, None), (1, "small"), (1023, "small"), (1024, "medium"), (9215, "medium"), (9216, "large")],
)
def test_sizes_are_those_of_coco(area, size):
    assert results.size_of(area) == size


def test_records_hold_what_think2seg_needs():
    """Its precision is a share of the answered samples, and its sums leave false alarms out."""
    cases = [
        (square(20), square(20), "ok"),
        (EMPTY, square(20), "unparsable"),
        (EMPTY, EMPTY, "empty"),
        (EMPTY, EMPTY, "unparsable"),
        (square(3), EMPTY, "ok"),
    ]
    entries = [
        record(str(i), mask, target, "think2seg", status=status)
        for i, (mask, target, status) in enumerate(cases)
    ]
    scores = results.summarize(entries, protocol("think2seg"))["scores"]
    assert scores["miou"] == 2 / 5
    assert scores["oiou"] == 1 / 2
    assert scores["pr@0.5"] == 2 / 3
    for entry, (mask, target, status) in zip(entries, cases, strict=True):
        found = results.agreement(entry, bool(mask.any()))
        assert found == metrics.compare(mask, target, "think2seg", parsed=status != "unparsable")


def test_semantic_scores_the_complete_set():
    valid = square(30)
    named = [
        ("background", square(40) & ~square(10), square(40) & ~square(20)),
        ("water", square(10), square(20)),
    ]
    entries = [
        record(
            f"{i}/{name}", mask, target, "semantic", valid=valid, image=f"{i}", task="semantic", category=name
        )
        for i in range(3)
        for name, mask, target in named
    ]
    summary = results.summarize(entries, protocol("semantic"))
    assert summary["scores"]["per_class"] == {"background": 0.5, "water": 0.5}
    assert summary["scores"] | {"miou_interval": 0, "foreground_iou_interval": 0, "per_class": 0} == {
        "miou": 0.5,
        "miou_interval": 0,
        "foreground_iou": 0.5,
        "foreground_iou_interval": 0,
        "per_class": 0,
        "n": 6,
        "images": 3,
    }
    assert summary["by_category"]["water"] == {
        "n": 3,
        "iou": 0.5,
        "iou_interval": [0.5, 0.5],
        "precision": 1.0,
        "recall": 0.5,
        "pixels": 3000,
    }
    # Only its scored pixels count.
    assert summary["by_category"]["background"]["pixels"] == 3 * 10 * 50
    assert summary["by_task"] == summary["by_size"] == summary["by_query_kind"] == {}
    expected = "mIoU 0.500 (0.500 to 0.500), foreground IoU 0.500, 2 classes in 3 images\nbackground 0.500, water 0.500"
    assert results.line(summary) == expected
    absent = results.summarize([record("a", EMPTY, EMPTY, "semantic", category="ship")], protocol("semantic"))
    assert results.line(absent) == "mIoU - (-), foreground IoU -, 1 classes in 1 images\nship -"
    assert absent["no_target"]["accuracy"] == 1


def test_the_line_for_the_terminal(entries):
    line = results.line(results.summarize(entries[:2], protocol()))
    assert line == "mIoU 0.750 (0.500 to 1.000), oIoU 0.750, Pr@0.5 1.000, 2 samples"


def test_predictors_without_a_model_have_no_parse_rate(entries):
    summary = results.summarize([entry | {"status": "stored"} for entry in entries], protocol())
    assert summary["answers"]["parse_rate"] is None


def test_sampled_answers_are_counted_and_scores_are_ranked(entries):
    sampled = [{"text": "", "status": status} for status in ("ok", "empty", "unparsable", "failed")]
    ious = [entry["iou"] for entry in entries]
    given = [entry | {"sampled": sampled, "score": entry["iou"]} for entry in entries]
    summary = results.summarize(given, protocol())
    assert summary["answers"]["sampled"] == {
        "by_status": {"empty": 6, "failed": 6, "ok": 6, "unparsable": 6},
        "parse_rate": 2 / 3,
    }
    assert summary["ranking"]["score"]["spearman"] == pytest.approx(1)
    assert summary["ranking"]["score"]["random_aurc"] == pytest.approx(1 - np.mean(ious))
    assert list(summary["ranking"]) == ["score"]


def test_nothing_to_score():
    for mode in ("native", "semantic"):
        with pytest.raises(GeoClickError, match="nothing to score"):
            results.summarize([], protocol(mode))


@pytest.mark.parametrize("mode", ["native", "semantic"])
def test_records_do_not_stay_in_memory(entries, mode, monkeypatch):
    """Each further record costs a few numbers, in lists that grow by an eighth."""
    monkeypatch.setattr(intervals, "AT_ONCE", 1000)

    def peak(count):
        # As read from a file: every record is a new object of some kilobytes.
        long = json.dumps(entries[0] | {"text": "x" * 5000, "category": "ship", "image": "one"})
        tracemalloc.start()
        results.summarize((json.loads(long) for _ in range(count)), protocol(mode))
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    few, many = peak(200), peak(2000)
    assert many - few < 1800 * 250


@pytest.mark.parametrize("mode", ["native", "semantic"])
def test_intervals_resample_images_not_their_windows(mode):
    target = evaluated.square(4, 4, 8)
    masks = [target] * 6 + [evaluated.square(30, 30, 8)] * 6
    windows, images = (
        evaluated.summary(
            [
                evaluated.record(str(n), target, mask, image=name(n), category="tank", task="semantic")
                for n, mask in enumerate(masks)
            ],
            mode=mode,
        )["scores"]
        for name in (lambda n: f"test/.tiles/{n // 6}-ab/{n}-0-8x8.png", lambda n: f"{n // 6}.png")
    )
    assert windows == images
