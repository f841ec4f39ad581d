import json

import numpy as np
import pytest

from geoclick.errors import GeoClickError
from geoclick.inference import compare
from geoclick.inference.reports import comparison
from tests.inference import evaluated

EMPTY = np.zeros(evaluated.SIZE, bool)
KINDS = ["the tank", "the red tank", "the largest tank", "the tank on the left"]


def samples(seed, *, better=0, semantic=False, count=24):
    """Records whose masks are targets with wrong pixels, fewer where `better`; the seed does not change the targets."""
    places, rng = np.random.default_rng(9), np.random.default_rng(seed)
    made = []
    for i in range(count):
        target = evaluated.square(*places.integers(0, 20, 2), 8 + i) if i % 6 else EMPTY
        wrong = rng.random(evaluated.SIZE) < 0.2 - better
        mask = EMPTY if not i % 12 else target ^ wrong
        fields = {"category": f"c{i % 3}", "query": KINDS[i % 4], "image": f"{i}.png"}
        if semantic:
            fields |= {"task": "semantic", "query": f"c{i % 3}", "image": f"{i // 3}.png"}
        made.append(evaluated.record(f"s{i}", target, mask, **fields))
    return made


@pytest.fixture
def runs(tmp_path):
    return [
        evaluated.write(tmp_path / "a", samples(0), vlm="base"),
        evaluated.write(tmp_path / "b", samples(1, better=0.1), vlm="base", adapter="runs/lora"),
    ]


def compared(a, b, output, **options):
    return compare.compare(a, b, output, **{"gallery": 2, "seed": 0} | options)


def test_the_scores_equal_those_of_the_runs(runs, tmp_path):
    result = compared(*runs, tmp_path / "out")
    assert json.loads((tmp_path / "out/compare.json").read_text()) == result
    assert (tmp_path / "out/compare.html").is_file()
    summaries = [json.loads((run / "metrics.json").read_text()) for run in runs]
    for score in ("miou", "oiou", "boundary_iou"):
        for letter, summary in zip("ab", summaries, strict=True):
            assert result[score][letter] == pytest.approx(summary["scores"][score], abs=1e-12)
        assert result[score]["difference"] == pytest.approx(
            result[score]["b"] - result[score]["a"], abs=1e-12
        )
    for part in ("by_task", "by_category", "by_size", "by_query_kind"):
        assert list(result[part]) == list(summaries[0][part])
        for name, found in result[part].items():
            assert found["n"] == summaries[0][part][name]["n"]
            assert found["a"] == pytest.approx(summaries[0][part][name]["miou"], abs=1e-12)
            assert found["b"] == pytest.approx(summaries[1][part][name]["miou"], abs=1e-12)
    total = sum(found["n"] * found["difference"] for found in result["by_category"].values())
    assert total / result["n"] == pytest.approx(result["miou"]["difference"])
    assert result["verdict"] == "B is better"
    assert result["miou"]["interval"][0] > 0
    assert result["miou"]["p_value"] < 0.01
    ious = [[json.loads(line)["iou"] for line in (run / "predictions.jsonl").open()] for run in runs]
    assert result["wins"] == sum(b > a for a, b in zip(*ious, strict=True))
    assert result["losses"] == sum(b < a for a, b in zip(*ious, strict=True))
    assert result["wins"] + result["losses"] + result["ties"] == result["n"] == 24
    assert result["ties"] >= 2
    assert result["protocol"] == {"adapter": [None, "runs/lora"]}


def test_exchanging_the_runs_exchanges_the_result(runs, tmp_path):
    forward, backward = compared(*runs, tmp_path / "x"), compared(*reversed(runs), tmp_path / "y")
    assert backward["miou"]["difference"] == -forward["miou"]["difference"]
    assert backward["miou"]["interval"] == pytest.approx(
        [-end for end in reversed(forward["miou"]["interval"])]
    )
    assert backward["miou"]["p_value"] == pytest.approx(forward["miou"]["p_value"], abs=1e-3)
    assert (backward["wins"], backward["losses"]) == (forward["losses"], forward["wins"])
    assert backward["verdict"] == "A is better"


def test_a_run_does_not_differ_from_itself(runs, tmp_path):
    result = compared(runs[0], runs[0], tmp_path / "out")
    assert result["miou"]["interval"] == [0, 0]
    assert result["miou"]["p_value"] == 1
    assert result["verdict"] == "no difference that these samples show"
    assert result["ties"] == 24
    assert result["protocol"] == {}
    page = (tmp_path / "out/compare.html").read_text()
    assert "The protocols are the same." in page
    assert "No sample changed." in page


def test_few_samples_are_not_significant(tmp_path):
    runs = [
        evaluated.write(tmp_path / letter, samples(seed, better=better, count=6)[1:4])
        for letter, seed, better in (("a", 0, 0), ("b", 1, 0.1))
    ]
    result = compared(*runs, tmp_path / "out")
    assert result["miou"]["interval"][0] > 0
    assert result["miou"]["p_value"] >= 0.2
    assert result["verdict"] == "no difference that these samples show"


def test_the_same_seed_gives_the_same_files(runs, tmp_path):
    compared(*runs, tmp_path / "x", seed=5)
    compared(*runs, tmp_path / "y", seed=5)
    for name in ("compare.json", "compare.html"):
        assert (tmp_path / "x" / name).read_bytes() == (tmp_path / "y" / name).read_bytes()


def test_semantic_runs_are_compared_by_class_and_image(tmp_path):
    options = {"mode": "semantic", "dataset": "loveda", "split": "val", "predictor": "noisy"}
    a = evaluated.write(tmp_path / "a", samples(0, semantic=True), noise=0.2, **options)
    b = evaluated.write(tmp_path / "b", samples(1, better=0.1, semantic=True), noise=0.1, **options)
    result = compared(a, b, tmp_path / "out")
    summaries = [json.loads((run / "metrics.json").read_text()) for run in (a, b)]
    for letter, summary in zip("ab", summaries, strict=True):
        assert result["miou"][letter] == pytest.approx(summary["scores"]["miou"], abs=1e-12)
        for name, iou in summary["scores"]["per_class"].items():
            assert result["by_category"][name][letter] == pytest.approx(iou, abs=1e-12)
    assert set(result["by_category"]) == {"c0", "c1", "c2"}
    assert result["by_category"]["c0"]["n"] == 8
    assert not {"oiou", "foreground_iou", "by_task", "by_size"} & result.keys()
    assert result["protocol"] == {"noise": [0.2, 0.1]}
    assert result["verdict"] == "B is better"
    assert bootstrap_one_by_one(a, b) == pytest.approx(result["miou"]["interval"], abs=0.012)
    assert "B is better" in comparison.summary_text(result)


def bootstrap_one_by_one(a, b):
    """The interval of the difference of mIoU, resampling one image at a time."""
    tables = []
    for run in (a, b):
        table = np.zeros((8, 3, 2))
        for line in (run / "predictions.jsonl").open():
            r = json.loads(line)
            table[int(r["image"][:-4]), int(r["category"][1:])] += r["intersection"], r["union"]
        tables.append(table)
    rng, found = np.random.default_rng(77), []
    for _ in range(2000):
        drawn = rng.integers(8, size=8)
        one, other = (table[drawn].sum(axis=0) for table in tables)
        found.append(np.mean(other[:, 0] / other[:, 1]) - np.mean(one[:, 0] / one[:, 1]))
    return np.quantile(found, [0.025, 0.975]).tolist()


def test_a_single_class_has_a_foreground_iou(tmp_path):
    options = {"mode": "semantic", "dataset": "inria"}
    records = [[r for r in samples(seed, semantic=True) if r["category"] == "c1"] for seed in (0, 1)]
    runs = [
        evaluated.write(tmp_path / name, found, **options) for name, found in zip("ab", records, strict=True)
    ]
    result = compared(*runs, tmp_path / "out")
    shared = {key: value for key, value in result["miou"].items() if key != "p_value"}
    assert result["foreground_iou"] == shared
    nothing = [r | {"intersection": 0, "union": 0} for r in records[0]]
    empty = evaluated.write(tmp_path / "empty", nothing, **options)
    result = compared(empty, empty, tmp_path / "none")
    assert result["miou"]["difference"] is None
    assert result["miou"]["p_value"] is None
    assert "no mIoU to compare" in comparison.summary_text(result)


def test_different_modes_or_samples_are_errors(runs, tmp_path):
    other = evaluated.write(tmp_path / "c", samples(0), mode="rmsin")
    with pytest.raises(
        GeoClickError, match=r"in mode native and .* in mode rmsin; evaluate both in one --mode"
    ):
        compared(runs[0], other, tmp_path / "out")
    fewer = evaluated.write(tmp_path / "d", samples(0, count=23))
    with pytest.raises(GeoClickError, match="fewer samples"):
        compared(runs[0], fewer, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "fields",
    [{"clicks": [[1]]}, {"clicks": 3}, {"text": 5}],
)
def test_records_that_cannot_be_shown_are_one_error_sentence(runs, tmp_path, fields):
    path = runs[1] / "predictions.jsonl"
    path.write_text("".join(json.dumps(json.loads(line) | fields) + "\n" for line in path.open()))
    with pytest.raises(GeoClickError, match=r"evaluate (both )?again|was not written by") as caught:
        compared(*runs, tmp_path / "out")
    assert "\n" not in str(caught.value)


def test_the_summary_text_has_two_lines(runs, tmp_path):
    first, second = comparison.summary_text(compared(*runs, tmp_path / "out")).split("\n")
    assert first.startswith("mIoU of A 0.")
    assert first.endswith(": B is better")
    assert "p = 0.0" in first
    assert second.startswith("of 24 samples ")


def test_samples_of_one_image_are_no_independent_observations(tmp_path):
    """Each sample 40 times on its image: neither interval nor p-value changes; on images of their own both shrink."""

    def compared_runs(name, images):
        runs = []
        for letter, better in (("a", 0), ("b", 0.03)):
            lines = [
                line | {"sample_id": f"{line['sample_id']}-{copy}", "image": images(line, copy)}
                for line in samples(letter == "b", better=better, count=8)
                for copy in range(40)
            ]
            runs.append(evaluated.write(tmp_path / name / letter, lines))
        summary = json.loads((runs[0] / "metrics.json").read_text())["scores"]
        return summary["miou_interval"], compared(*runs, tmp_path / name / "out")

    once = [
        evaluated.write(tmp_path / "once" / letter, samples(letter == "b", better=better, count=8))
        for letter, better in (("a", 0), ("b", 0.03))
    ]
    alone = compared(*once, tmp_path / "once/out")
    interval = json.loads((once[0] / "metrics.json").read_text())["scores"]["miou_interval"]
    clustered_interval, clustered = compared_runs("clustered", lambda line, copy: line["image"])
    separate_interval, separate = compared_runs("separate", lambda line, copy: f"{copy}-{line['image']}")
    assert (clustered["n"], clustered["images"], separate["images"]) == (320, 8, 320)
    assert clustered_interval == pytest.approx(interval)
    for score in ("miou", "oiou", "boundary_iou"):
        assert clustered[score]["interval"] == pytest.approx(alone[score]["interval"])
    assert clustered["miou"]["p_value"] == pytest.approx(alone["miou"]["p_value"])
    assert np.ptp(separate_interval) < np.ptp(interval) / 3
    assert separate["miou"]["p_value"] < alone["miou"]["p_value"]


def test_the_answers_of_both_runs_are_counted(tmp_path):
    def written(name, *statuses, **fields):
        made = [one | {"status": status} | fields for one, status in zip(samples(0), statuses, strict=False)]
        return evaluated.write(tmp_path / name, made, vlm="base")

    free = written("free", "ok", "unparsable", "repaired", "empty")
    sampled = [{"text": "", "status": "ok"}, {"text": "", "status": "unparsable"}]
    enforced = written("enforced", "ok", "ok", "ok", "empty", sampled=sampled)
    result = compared(free, enforced, tmp_path / "out")
    assert result["answers"] == {
        "parse_rate": [0.5, 1.0],
        "sampled_parse_rate": [None, 0.5],
        "empty": [1, 1],
        "ok": [1, 3],
        "repaired": [1, 0],
        "unparsable": [1, 0],
    }
    page = (tmp_path / "out/compare.html").read_text()
    assert "<td>in the requested format</td><td>0.500</td><td>1.000</td>" in page
    assert "<td>unparsable</td><td>1</td><td>0</td>" in page
    stored = written("stored", *["stored"] * 4)
    assert compared(stored, stored, tmp_path / "none")["answers"] == {}
    assert "Answers" not in (tmp_path / "none/compare.html").read_text()
