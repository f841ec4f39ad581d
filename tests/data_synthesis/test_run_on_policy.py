"""Stores whose sequences begin with the clicks of a model."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from geoclick import masks, store
from geoclick.data_synthesis.export import ExportOptions
from geoclick.data_synthesis.export import run as export
from geoclick.data_synthesis.quality_report import QualityOptions
from geoclick.data_synthesis.quality_report import run as report
from geoclick.data_synthesis.run import run
from geoclick.data_synthesis.shards.corrections import LEFT_OUT, NO_OWN_CLICK
from geoclick.data_synthesis.shards.sequences import NO_GAIN
from geoclick.errors import GeoClickError, UsageError
from tests.data_synthesis.disc_segmenter import DiscSegmenter
from tests.data_synthesis.job_process import start
from tests.data_synthesis.pointing_student import PointingStudent, three_places
from tests.data_synthesis.test_run import make_root, read_lines, settings, store_bytes, write_lines

OPTIONS = {"policy": "on-policy", "adapter": "runs/lora"}


@pytest.fixture
def root(tmp_path):
    return make_root(tmp_path / "data")


def make(root, output, *, student=None, **changes):
    student = student or PointingStudent(three_places)
    run(settings(root, output, **OPTIONS | changes), DiscSegmenter(), student)
    return list(store.read(output)), student


def test_rows_begin_with_the_clicks_of_the_model(root, tmp_path, capsys):
    rows, student = make(root, tmp_path / "out")
    plain = tmp_path / "plain"
    run(settings(root, plain), DiscSegmenter())
    assert [row.sample_id for row in rows] == [row.sample_id for row in store.read(plain)]
    assert sorted(student.queries) == sorted(row.query for row in rows if row.task != "no_target")
    assert {row.policy for row in rows} == {"on-policy-best+centre+multimask-first+feedback"}
    given = [row for row in rows if row.given]
    assert given
    for row, other in zip(rows, store.read(plain), strict=True):
        own = [click for part in three_places(row.query) for click in part]
        assert list(row.clicks[: row.given]) == own[: row.given]
        if row.given:
            assert max(row.ious) == row.ious[-1] >= row.ious[row.given - 1] > 0
        else:
            assert replace(row, policy=other.policy) == other
    figures = json.loads((tmp_path / "out/metrics.json").read_text())
    assert figures["on_policy"]["sequences"] == len(given)
    assert figures["on_policy"]["own_iou"] < figures["on_policy"]["iou"]
    assert figures["on_policy"]["ended"] == sum(row.given == len(row.clicks) for row in given)
    assert f"{len(given)} sequences begin with the model's clicks: mean IoU 0." in capsys.readouterr().out
    counts = {line["reason"] for line in read_lines(tmp_path / "out/dropped.jsonl")}
    assert NO_OWN_CLICK in counts
    assert counts <= {NO_OWN_CLICK, LEFT_OUT, NO_GAIN}
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert (manifest["policy"], manifest["expert"], manifest["own_clicks"]) == ("on-policy", "center", "best")
    assert manifest["vlm"] == "pointing"
    with Image.open(tmp_path / "out/sheet.png") as sheet:
        assert sheet.size[0] > 1000


@pytest.mark.parametrize(
    "options", [{"expert": "lookahead", "parts": "auto"}, {"own_clicks": "random", "sequences": 2}]
)
def test_batch_and_shards_change_no_row(root, tmp_path, options):
    one, student = make(root, tmp_path / "a", **options)
    other, _ = make(root, tmp_path / "b", batch=1, image_batch=1, shards=1, **options)
    assert one == other
    # Every query is asked once, whatever the number of sequences.
    assert len(student.queries) == len(set(student.queries))


def test_a_killed_job_continues_and_another_model_is_refused(root, tmp_path):
    expected, _ = make(root, tmp_path / "whole", sheet=0)
    output = tmp_path / "out"

    class Dying(PointingStudent):
        def answer(self, images, queries):
            if len(self.queries) > 5:
                raise KeyboardInterrupt
            return super().answer(images, queries)

    with pytest.raises(KeyboardInterrupt):
        make(root, output, student=Dying(three_places), sheet=0)
    assert 0 < len(list(output.glob("*.parquet"))) < 3

    class Other(PointingStudent):
        def describe(self):
            return {"vlm": "pointing", "adapter_sha256": "1"}

    with pytest.raises(UsageError, match="The adapter of the model that clicks first has changed"):
        make(root, output, student=Other(three_places), sheet=0)
    rows, student = make(root, output, sheet=0)
    assert rows == expected
    assert store_bytes(output) == store_bytes(tmp_path / "whole")
    assert len(student.queries) < 10


@pytest.mark.slow
def test_two_processes_give_the_bytes_of_one(root, tmp_path):
    make(root, tmp_path / "whole", sheet=0, shards=6, batch=1, adapter="-")
    jobs = [start(root, tmp_path / "out", rank, 2, policy="on-policy") for rank in (0, 1)]
    for job in jobs:
        job.communicate()
    assert [job.returncode for job in jobs] == [0, 0]
    assert store_bytes(tmp_path / "out") == store_bytes(tmp_path / "whole")


def test_an_image_that_the_model_cannot_take_is_listed(root, tmp_path):
    class Picky(PointingStudent):
        def refusal(self, size):
            return "The image is too narrow for a Qwen-VL; cut it." if size == (40, 50) else ""

    target = np.zeros((40, 60), bool)
    target[5:20, 5:20] = True
    Image.new("RGB", (60, 40)).save(root / "train/images/wide.png")
    line = {"sample_id": "wide", "task": "referring", "query": "thing 1", "image": "images/wide.png"}
    line |= {"size": [40, 60], "mask": masks.encode_rle(target)}
    write_lines(root, [*read_lines(root / "train/samples.jsonl"), line])
    rows, _ = make(root, tmp_path / "out", student=Picky(three_places))
    assert [row.sample_id for row in rows if row.task != "no_target"] == ["wide"]
    failed = read_lines(tmp_path / "out/failures.jsonl")
    assert len(failed) == 10
    assert {line["error"] for line in failed} == {"The image is too narrow for a Qwen-VL; cut it."}


def test_other_trainers_get_no_given_clicks(root, tmp_path):
    make(root, tmp_path / "out")
    options = ExportOptions(
        store=str(tmp_path / "out"), root=str(root), layout="ms-swift", output=str(tmp_path / "export")
    )
    with pytest.raises(
        GeoClickError, match=r"such as s\d\d; ms-swift would teach these, too. Train on the store"
    ):
        export(options)
    assert not (tmp_path / "export/manifest.json").exists()


def test_the_quality_report_names_the_clicks_of_the_model(root, tmp_path):
    rows, _ = make(root, tmp_path / "out")
    output = tmp_path / "quality"
    report(QualityOptions(store=str(tmp_path / "out"), root=str(root), output=str(output)))
    given = json.loads((output / "quality.json").read_text())["all"]["given"]
    own = [row for row in rows if row.given]
    assert (given["sequences"], given["clicks"]) == (len(own), sum(row.given for row in own))
    assert given["final_iou"] == pytest.approx(np.mean([row.ious[-1] for row in own]), abs=1e-6)
    page = (output / "quality.html").read_text()
    assert f"{len(own)} sequences begin with {given['clicks']} clicks that a model made itself" in page
    assert "by the model&#39;s own clicks, then" in page
