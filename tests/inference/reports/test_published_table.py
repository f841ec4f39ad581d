import pytest

from geoclick.inference.reports import published, published_table
from geoclick.inference.reports.published import Protocol
from geoclick.inference.reports.published_table import TableRow


def summary(dataset="rrsis-d", split="test", mode="native", n=3481, images=3000, **scores):
    protocol = {"dataset": dataset, "split": split, "mode": mode, "n": n, "images": images}
    protocol |= {"question": "all", "predictor": "generative"}
    return {"protocol": protocol, "scores": {"miou": 0.66123, "oiou": 0.7} | scores}


def comparability(protocol, **changes):
    return published_table.comparability(protocol, summary()["protocol"] | changes)


def test_protocols_are_comparable_where_everything_known_is_equal():
    same = Protocol("rmsin")
    assert comparability(same, mode="rmsin") == "comparable, as far as known"
    assert comparability(same) == "different protocol: mode rmsin, here native"
    first = Protocol("rmsin", "first")
    assert comparability(first, mode="rmsin", question="first") == "comparable, as far as known"
    assert comparability(first, mode="rmsin") == "different protocol: question first, here all"
    assert comparability(same, mode="rmsin", n=10) == "different protocol: 3,481 samples, here 10"
    assert comparability(Protocol(unknown="x is secret")) == "comparability unknown: x is secret"
    assert comparability(Protocol("rmsin", unknown="x is secret", note="at 2 m")) == (
        "different protocol: mode rmsin, here native; x is secret (at 2 m)"
    )


def test_semantic_datasets_are_counted_by_images():
    loveda = {"dataset": "loveda", "split": "val", "mode": "semantic", "n": 1669 * 7}
    ov = published.SEGEARTH_OV
    assert comparability(ov, **loveda, images=1669).startswith("comparable, as far as known")
    assert comparability(ov, **loveda, images=4).startswith("different protocol: 1,669 images, here 4")


def test_sample_counts_are_compared_on_the_published_split_only():
    assert "samples" not in comparability(Protocol(), split="val", n=1740)


def test_the_run_is_the_last_row_in_percent():
    *others, own = published_table.rows(summary())
    assert [line.method for line in others] == [published.UNTUNED, published.TUNED, "EviSAM3"]
    assert own.method == "this run (generative)"
    assert own.values == {"miou": 66.1}
    assert own.source == ""
    assert own.note == "mode native, questions: all"
    assert all(line.source for line in others)
    assert [line.secondary for line in others] == [True, True, False]


def test_every_published_metric_is_shown():
    lines = published_table.rows(summary("earthreason", n=1928))
    assert lines[-1].values == {"miou": 66.1, "oiou": 70.0}
    (think,) = (line for line in lines if line.method == "Think2Seg-RS")
    assert think.values == {"oiou": 75.6}


def test_a_run_without_the_metric_has_no_value():
    found = published_table.rows(summary("whu-aerial", "val", "semantic", images=1036, foreground_iou=None))
    assert found[-1].values == {}


@pytest.mark.parametrize("predictor", published_table.GROUND_TRUTH_PREDICTORS)
def test_predictors_with_ground_truth_are_marked(predictor):
    run = summary()
    run["protocol"]["predictor"] = predictor
    assert "uses the ground truth: a reference, not a result" in published_table.rows(run)[-1].note


def test_the_table_is_aligned_and_has_every_note():
    lines = published_table.text(summary("earthreason", n=1928)).split("\n")
    assert lines[0].split() == ["EarthReason", "test,", "percent", "mIoU", "oIoU"]
    rows = [line for line in lines[1:] if line[0] not in "[*"]
    assert len(rows) == 5
    ends = {row.rindex("[") for row in rows}
    assert ends == {len(lines[0]) + 2}
    assert "47.4" in rows[0]
    assert "66.1" in rows[-1]
    notes = {row[row.rindex("[") :] for row in rows}
    assert notes == {line.split()[0] for line in lines if line[0] == "["}
    assert lines[-1].startswith("* quoted from a secondary source")


@pytest.mark.parametrize(
    ("dataset", "split"), [("folder", "test"), ("rrsis-d", "train"), ("risbench", "test")]
)
def test_no_table_where_nothing_is_published(dataset, split):
    assert published_table.rows(summary(dataset, split)) == []
    assert published_table.text(summary(dataset, split)) == ""


@pytest.mark.parametrize(("value", "shown"), [(24.9, "24.9"), (70.65, "70.65"), (50.0, "50.0"), (7.5, "7.5")])
def test_values_have_the_printed_digits(value, shown):
    assert published_table.percent(TableRow("", {"miou": value}), "miou") == shown
