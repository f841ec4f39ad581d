import pytest

from geoclick.inference.reports import published, published_table
from geoclick.inference.reports.published import Protocol


def summary(dataset="rrsis-d", split="test", mode="native", n=3481, images=3000, **scores):
    protocol = {"dataset": dataset, "split": split, "mode": mode, "n": n, "images": images}
    protocol |= {"question": "all", "predictor": "generative"}
    return {"protocol": protocol, "scores": {"miou": 0.66123, "oiou": 0.7} | scores}


def remark(protocol, **changes):
    return published_table.remark(protocol, summary()["protocol"] | changes)


def test_a_protocol_is_like_another_only_where_all_that_is_known_is():
    same = Protocol("rmsin")
    assert remark(same, mode="rmsin") == "like for like, as far as it is known"
    assert remark(same) == "another protocol: mode rmsin, here native"
    first = Protocol("rmsin", "first")
    assert remark(first, mode="rmsin", question="first") == "like for like, as far as it is known"
    assert remark(first, mode="rmsin") == "another protocol: one first question, here all"
    assert remark(same, mode="rmsin", n=10) == "another protocol: 3,481 samples, here 10"
    assert remark(Protocol(unknown="x is secret")) == "not known to be like for like: x is secret"
    assert remark(Protocol("rmsin", unknown="x is secret", note="at 2 m")) == (
        "another protocol: mode rmsin, here native; x is secret (at 2 m)"
    )


def test_sets_of_classes_are_counted_by_images():
    loveda = {"dataset": "loveda", "split": "val", "mode": "semantic", "n": 1669 * 7}
    ov = published.SEGEARTH_OV
    assert remark(ov, **loveda, images=1669).startswith("like for like")
    assert remark(ov, **loveda, images=4).startswith("another protocol: 1,669 images, here 4")


def test_another_split_has_another_list():
    assert "samples" not in remark(Protocol(), split="val", n=1740)


def test_the_run_stands_last_in_per_cent():
    *others, own = published_table.beside(summary())
    assert [line.method for line in others] == [published.UNTUNED, published.TUNED, "EviSAM3"]
    assert own.method == "this run (generative)"
    assert own.values == {"miou": 66.1}
    assert own.source == ""
    assert own.remark == "mode native, questions: all"
    assert all(line.source for line in others)
    assert [line.second_hand for line in others] == [True, True, False]


def test_every_metric_that_someone_published_is_shown():
    lines = published_table.beside(summary("earthreason", n=1928))
    assert lines[-1].values == {"miou": 66.1, "oiou": 70.0}
    (think,) = (line for line in lines if line.method == "Think2Seg-RS")
    assert think.values == {"oiou": 75.6}


def test_a_run_without_the_score_has_no_value():
    found = published_table.beside(summary("whu-aerial", "val", "semantic", images=1036, foreground_iou=None))
    assert found[-1].values == {}


@pytest.mark.parametrize("predictor", published_table.FROM_TRUTH)
def test_reference_lines_are_called_so(predictor):
    run = summary()
    run["protocol"]["predictor"] = predictor
    assert "a line of reference, no result" in published_table.beside(run)[-1].remark


def test_the_table_lines_up_and_has_a_note_for_every_remark():
    lines = published_table.text(summary("earthreason", n=1928)).split("\n")
    assert lines[0].split() == ["EarthReason", "test,", "per", "cent", "mIoU", "oIoU"]
    rows = [line for line in lines[1:] if line[0] not in "[*"]
    assert len(rows) == 5
    ends = {row.rindex("[") for row in rows}
    assert ends == {len(lines[0]) + 2}
    assert "47.4" in rows[0]
    assert "66.1" in rows[-1]
    notes = {row[row.rindex("[") :] for row in rows}
    assert notes == {line.split()[0] for line in lines if line[0] == "["}
    assert lines[-1].startswith("* read in a listing")


@pytest.mark.parametrize(
    ("dataset", "split"), [("folder", "test"), ("rrsis-d", "train"), ("risbench", "test")]
)
def test_nothing_is_said_where_nothing_is_published(dataset, split):
    assert published_table.beside(summary(dataset, split)) == []
    assert published_table.text(summary(dataset, split)) == ""


@pytest.mark.parametrize(("value", "shown"), [(24.9, "24.9"), (70.65, "70.65"), (50.0, "50.0"), (7.5, "7.5")])
def test_figures_have_the_digits_that_were_printed(value, shown):
    assert published_table.number(value) == shown
