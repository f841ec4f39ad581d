import re

import numpy as np
import pytest

from geoclick import images
from geoclick.inference.reports import evaluation_report
from geoclick.pages import DASH
from tests.inference import evaluated
from tests.inference.pages import check_self_contained

HOSTILE = '<script>alert("x")</script> & the <b1>road</b1>'
EMPTY = np.zeros(evaluated.SIZE, bool)


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for i in range(3):
        images.write_png(folder / f"{i}.png", np.full((*evaluated.SIZE, 3), 60 * i, np.uint8))
    return folder


def answers():
    """A correct tank, a road with a poor mask and a hostile query, a false alarm, and a harbor correctly left out."""
    tank, road = evaluated.square(4, 4, 8), evaluated.square(10, 20, 32)
    return [
        evaluated.record("s0", tank, tank, category="tank", text="+(1,2)", clicks=[[8.0, 8.0, True]]),
        evaluated.record(
            "s1", road, evaluated.square(10, 20, 24), category="road", query=HOSTILE, text=HOSTILE
        ),
        evaluated.record("s2", EMPTY, tank, query="the largest ship", image="2.png"),
        evaluated.record("s3", EMPTY, EMPTY, query="the harbor", status="empty", text="none", image="2.png"),
    ]


def page_of(tmp_path, root, records, *, count=2, **protocol):
    folder = evaluated.write(tmp_path / "run", records, root=str(root), **protocol)
    summary = evaluated.summary(records, root=str(root), **protocol)
    evaluation_report.write(folder, summary, folder / "predictions.jsonl", count=count)
    return (folder / "report.html").read_text(encoding="utf-8")


def section(page, title):
    return page.split(f"<h2>{title}</h2>", 1)[1].split("<h2>")[0]


def test_the_report_is_self_contained_and_escapes_text(tmp_path, root):
    page = page_of(tmp_path, root, answers())
    names = check_self_contained(page)
    # Best, median and worst of the two with a target, and one false alarm, of two pictures each.
    assert len(names.addresses) == 2 * 7
    assert page.count("&lt;script&gt;") >= 6
    assert "<title>run: embedded on folder test</title>" in page
    assert "cannot" not in page


def test_the_report_shows_how_well_scores_rank_and_how_many_samples_could_be_read(tmp_path, root):
    sampled = [{"text": "", "status": status} for status in ("ok", "ok", "empty", "unparsable")]
    scored = [
        record | {"sampled": sampled, "confidence": 0.1 * i, "score": 0.5}
        for i, record in enumerate(answers())
    ]
    page = page_of(tmp_path, root, scored)
    ranked = section(page, "How well scores order the samples")
    assert "<td>predicted IoU</td><td>4</td><td>" + DASH in ranked
    assert "<td>confidence</td>" in ranked
    assert "agreement of votes" not in ranked
    assert "0.750" in page
    assert "of the sampled answers in the requested format" in page
    assert "How well scores" not in page_of(tmp_path, root, answers())


def test_the_report_shows_every_score(tmp_path, root):
    page = page_of(tmp_path, root, answers())
    assert f"<b>{(1 + 576 / 1024 + 0 + 1) / 4:.3f}</b><span>mIoU (gIoU), 95 % interval" in page
    assert "<b>0.500</b><span>boundary IoU</span>" in page
    assert "no-target accuracy, false alarms: 1 of 2" in page
    assert "Answers by status: empty 1, ok 3." in page
    assert "<td>no_target</td><td>2</td><td>0.500</td>" in section(page, "By task")
    assert "<td>small</td><td>1</td><td>1.000</td>" in section(page, "By target size")
    assert "<td>medium</td><td>1</td><td>0.562</td>" in section(page, "By target size")
    assert "boundary IoU" in section(page, "By target size")
    assert "Medium from 1,024 pixels, large from 9,216." in section(page, "By target size")
    assert "<td>no_target</td><td>2</td>" in section(page, "By kind of query")
    assert "<td>road</td><td>1</td>" in section(page, "By category")
    assert "By class" not in page
    assert "Published scores" not in page
    assert '<td>samples_sha256</td><td class="wrap">5a</td>' in section(page, "Protocol")


def test_many_groups_are_folded_away(tmp_path, root):
    tank = evaluated.square(4, 4, 8)
    records = [evaluated.record(f"s{i}", tank, tank, category=f"c{i:02}") for i in range(13)]
    found = section(page_of(tmp_path, root, records), "By category")
    assert found.strip().startswith("<details><summary>13 groups</summary>")


def test_an_empty_gallery_has_no_pictures(tmp_path, root):
    page = page_of(tmp_path, root, answers(), count=0)
    assert "<img" not in page
    assert "predicted mask" not in page


def test_missing_images_are_shown_as_grey(tmp_path, root):
    (root / "0.png").unlink()
    images.write_png(root / "2.png", np.zeros((7, 9, 3), np.uint8))
    page = page_of(tmp_path, root, answers())
    assert "0.png does not exist" in page
    assert "2.png is 9x7 pixels but its mask is 64x48" in page
    assert len(check_self_contained(page).addresses) == 2 * 7


def test_a_run_of_a_benchmark_is_shown_below_the_published_scores(tmp_path, root):
    found = section(page_of(tmp_path, root, answers(), dataset="rrsis-d"), "Published scores")
    lines = re.findall("<tr.*?</tr>", found)
    assert "EviSAM3</td><td>70.65</td>" in lines[-2]
    assert '<tr class="own"><td>this run (generative)</td><td>64.1</td>' in lines[-1]
    # One remark for the two figures of one protocol.
    assert 'rowspan="2">different protocol: 3,481 samples, here 4;' in lines[1]
    assert "rowspan" not in lines[2]
    assert "Quoted from a secondary source" in found


def classes():
    """Two images with three classes; in the second, road is missed and water is a false alarm."""
    road, water = evaluated.square(0, 0, 32), evaluated.square(32, 32, 16)
    made = [("0", "road", road, road), ("0", "water", water, water), ("0", "barren", EMPTY, EMPTY)]
    made += [("1", "road", road, EMPTY), ("1", "water", EMPTY, water), ("1", "barren", EMPTY, EMPTY)]
    return [
        evaluated.record(
            f"{i}/{name}", target, mask, image=f"{i}.png", category=name, query=name, task="semantic"
        )
        for i, name, target, mask in made
    ]


def test_a_semantic_run_has_a_score_for_each_class(tmp_path, root):
    page = page_of(
        tmp_path, root, classes(), dataset="loveda", split="val", mode="semantic", predictor="noisy"
    )
    found = section(page, "By class, over all scored images")
    assert "<td>road</td><td>0.500</td><td>0.000 to 1.000</td>" in found
    assert '<i style="width:50.0%"></i>' in found
    assert f"<td>barren</td><td>{DASH}</td><td>{DASH}</td>" in found
    assert "<b>0.500</b><span>mIoU, 95 % interval" in page
    assert "<b>3</b><span>classes</span>" in page
    assert "<b>2</b><span>images</span>" in page
    assert "By task" not in page
    assert "By category" not in page
    assert "true masks with noise on LoveDA val" in page
    svg = section(page, "Samples by IoU, where the class is present")
    assert sum(int(n) for n in re.findall(r": (\d+)</title>", svg)) == 3
    assert "1/water" in section(page, "False alarms (a mask, but no target)")
    assert "uses the ground truth: a reference, not a result" in section(page, "Published scores")


def test_a_single_class_has_a_foreground_iou(tmp_path, root):
    building = [r | {"category": "building"} for r in classes() if r["category"] == "road"]
    page = page_of(tmp_path, root, building, dataset="inria", split="test", mode="semantic")
    assert "<b>0.500</b><span>foreground IoU, the score published for this dataset</span>" in page
    found = section(page, "Published scores")
    assert "<th>foreground IoU</th>" in found
    assert "<td>48.0</td>" in found


def test_without_any_target_or_mask_there_is_no_score(tmp_path, root):
    nothing = [r for r in classes() if r["category"] == "barren"]
    page = page_of(tmp_path, root, nothing, dataset="inria", split="test", mode="semantic")
    assert f"<b>{DASH}</b><span>mIoU, 95 % interval {DASH}</span>" in page
