import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from geoclick import images, masks, store
from geoclick.data_synthesis.run import SynthOptions, main, run
from geoclick.data_synthesis.shards.summary import summarize
from geoclick.errors import GeoClickError, UsageError
from tests.data_synthesis.disc_segmenter import DiscSegmenter
from tests.paths import REPO


def make_root(root, count=12):
    """`count` samples on half as many images: discs, squares and a no-target query."""
    folder = root / "train"
    (folder / "images").mkdir(parents=True)
    rng, lines = np.random.default_rng(0), []
    for index in range(count):
        name = f"images/{index // 2}.png"
        if index % 2 == 0:
            images.write_png(folder / name, rng.integers(0, 255, (40, 50, 3), dtype=np.uint8))
        mask = np.zeros((40, 50), bool)
        if index % 5 != 4:
            mask[5 + index : 20 + index, 8 : 20 + 2 * index] = True
        lines.append(
            {
                "sample_id": f"s{index:02d}",
                "task": "referring" if mask.any() else "no_target",
                "query": f"thing {index}",
                "image": name,
                "size": [40, 50],
                "mask": masks.encode_rle(mask),
            }
        )
    write_lines(root, lines)
    return root


def write_lines(root, lines):
    (root / "train/samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def read_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def settings(root, output, **changes):
    return SynthOptions(
        **{"root": str(root), "output": str(output), "split": "train", "shards": 3, "sheet": 2} | changes
    )


def store_bytes(output):
    names = ("manifest.json", "failures.jsonl", "dropped.jsonl")
    return {
        path.name: path.read_bytes() for path in [*output.glob("*.parquet"), *map(output.joinpath, names)]
    }


@pytest.fixture
def root(tmp_path):
    return make_root(tmp_path / "data")


def test_the_store_holds_every_sample_in_order(root, tmp_path):
    segmenter = DiscSegmenter()
    run(settings(root, tmp_path / "out"), segmenter)
    rows = list(store.read(tmp_path / "out"))
    assert [row.sample_id for row in rows] == [f"s{index:02d}" for index in range(12)]
    assert [bool(row.clicks) for row in rows] == [row.task != "no_target" for row in rows]
    assert all(len(row.clicks) == len(row.ious) for row in rows)
    assert all(row.clicks[0].positive for row in rows if row.clicks)
    assert {row.policy for row in rows} == {"centre+multimask-first+feedback"}
    assert (rows[0].width, rows[0].height, rows[0].image) == (50, 40, "train/images/0.png")
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    assert (metrics["samples"], metrics["no_target"], metrics["failures"]) == (12, 2, 0)
    assert len(metrics["mean_iou_after_clicks"]) == 6
    assert (tmp_path / "out/config.yaml").is_file()
    assert not (tmp_path / "out/progress").exists()
    with Image.open(tmp_path / "out/sheet.png") as sheet:
        assert sheet.size[0] > 1000


def test_each_image_is_embedded_once(root, tmp_path):
    segmenter = DiscSegmenter()
    run(settings(root, tmp_path / "out", sheet=0, batch=2, image_batch=2), segmenter)
    assert len(segmenter.embedded) == len(set(segmenter.embedded)) == 6


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_batch_and_shards_change_no_row(root, tmp_path, batch):
    run(settings(root, tmp_path / "a"), DiscSegmenter())
    run(settings(root, tmp_path / "b", batch=batch, image_batch=batch, shards=1, sheet=0), DiscSegmenter())
    assert list(store.read(tmp_path / "a")) == list(store.read(tmp_path / "b"))


RANDOM = {"policy": "random", "jitter": 2, "sequences": 2}


@pytest.mark.parametrize("options", [RANDOM, {"policy": "lookahead"}, {"policy": "robust", "seed": 7}])
def test_batch_and_shards_change_no_random_row(root, tmp_path, options):
    run(settings(root, tmp_path / "a", **options), DiscSegmenter())
    other = {"batch": 1, "image_batch": 1, "shards": 5, "sheet": 0}
    run(settings(root, tmp_path / "b", **options, **other), DiscSegmenter())
    assert list(store.read(tmp_path / "a")) == list(store.read(tmp_path / "b"))


def test_an_interrupted_random_job_continues_to_the_same_bytes(root, tmp_path, monkeypatch):
    run(settings(root, tmp_path / "whole", **RANDOM), DiscSegmenter())
    write, output = store.write_shard, tmp_path / "out"

    def killed(folder, index, count, rows):
        if index == 1:
            raise KeyboardInterrupt
        return write(folder, index, count, rows)

    with monkeypatch.context() as patch:
        patch.setattr("geoclick.store.write_shard", killed)
        with pytest.raises(KeyboardInterrupt):
            run(settings(root, output, **RANDOM), DiscSegmenter())
    assert len(list(output.glob("*.parquet"))) == 1
    run(settings(root, output, **RANDOM, batch=5), DiscSegmenter())
    assert store_bytes(output) == store_bytes(tmp_path / "whole")


def test_the_first_of_several_sequences_is_that_of_a_single_run(root, tmp_path):
    run(settings(root, tmp_path / "one", policy="robust"), DiscSegmenter())
    run(settings(root, tmp_path / "three", policy="robust", sequences=3), DiscSegmenter())
    one, three = (list(store.read(tmp_path / name)) for name in ("one", "three"))
    ids = [row.sample_id for row in three]
    # A sample without a target has nothing to vary.
    assert ids[:4] == ["s00", "s00#2", "s00#3", "s01"]
    assert len(ids) == len(set(ids)) == 3 * 10 + 2
    assert [row for row in three if "#" not in row.sample_id] == one
    first, second, third = (
        [row.clicks for row in three if row.sample_id in (f"s00{n}",)] for n in ("", "#2", "#3")
    )
    assert first != second != third != first


def test_ids_that_the_second_sequence_would_repeat_are_refused(root, tmp_path):
    lines = read_lines(root / "train/samples.jsonl")
    lines[3]["sample_id"] = "s01#2"
    write_lines(root, lines)
    with pytest.raises(UsageError, match="s01 and s01#2 are both samples"):
        run(settings(root, tmp_path / "out", **RANDOM), DiscSegmenter())
    run(settings(root, tmp_path / "out"), DiscSegmenter())


def test_rows_name_the_policy_and_the_switches(root, tmp_path):
    options = {"policy": "lookahead", "candidates": 3, "tie": "positive", "feedback": False}
    run(settings(root, tmp_path / "out", **options), DiscSegmenter())
    assert {row.policy for row in store.read(tmp_path / "out")} == {
        "lookahead-3+multimask-first+tie-positive"
    }


def test_a_sequence_whose_first_click_does_not_improve_is_dropped(root, tmp_path):
    class Deaf(DiscSegmenter):
        """Finds nothing on the third image, that of sample 4 without a target and of sample 5."""

        def embed(self, images):
            found = super().embed(images)
            places = range(len(self.embedded) - len(images), len(self.embedded))
            return [replace(e, features=e.features + (n == 2)) for e, n in zip(found, places, strict=True)]

        def _decode(self, embedding, prompt, radii):
            decoded = super()._decode(embedding, prompt, radii)
            return replace(decoded, low_res=decoded.low_res - 99 * embedding.features.mean())

    run(settings(root, tmp_path / "out", keep_improving=True), Deaf())
    ids = [row.sample_id for row in store.read(tmp_path / "out")]
    assert ids == [f"s{index:02d}" for index in range(12) if index != 5]
    assert read_lines(tmp_path / "out/dropped.jsonl") == [
        {"item": "s05", "reason": "no click improves", "count": 1}
    ]


SLOW_JOB = """
import sys
sys.path.insert(0, sys.argv[1])
from tests.data_synthesis.disc_segmenter import DiscSegmenter
from geoclick.data_synthesis.run import SynthOptions, run
run(SynthOptions(root=sys.argv[2], output=sys.argv[3], split="train", shards=6, batch=1, sheet=0),
    DiscSegmenter(delay=0.05))
"""


def test_a_killed_job_continues_to_the_same_bytes(root, tmp_path):
    lines = read_lines(root / "train/samples.jsonl")
    lines[5]["image"] = "images/missing.png"
    write_lines(root, lines)
    options = {"shards": 6, "batch": 1, "sheet": 0}
    run(settings(root, tmp_path / "whole", **options), DiscSegmenter())
    output = tmp_path / "killed"
    job = subprocess.Popen(
        [sys.executable, "-c", SLOW_JOB, REPO, root, output], env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    # Starting takes a second, or minutes on a busy machine; a job that ended early stops the wait.
    deadline = time.time() + 240
    while len(list(output.glob("*.parquet"))) < 2 and job.poll() is None and time.time() < deadline:
        time.sleep(0.005)
    job.send_signal(signal.SIGKILL)
    job.wait()
    finished = {path: path.stat().st_mtime_ns for path in output.glob("*.parquet")}
    assert 2 <= len(finished) < 6
    with pytest.raises(GeoClickError, match="incomplete"):
        list(store.read(output))
    (output / "clicks-00005-of-00006.parquet.partial").write_bytes(b"half a shard")
    run(settings(root, output, **options), DiscSegmenter())
    assert store_bytes(output) == store_bytes(tmp_path / "whole")
    assert all(path.stat().st_mtime_ns == time_ns for path, time_ns in finished.items())
    assert not list(output.glob("**/*.partial"))


def test_a_complete_store_whose_images_changed_is_refused(root, tmp_path):
    run(settings(root, tmp_path / "out"), DiscSegmenter())
    images.write_png(root / "train/images/1.png", np.zeros((40, 50, 3), np.uint8))
    with pytest.raises(UsageError, match="An image of the dataset has changed since"):
        run(settings(root, tmp_path / "out"), DiscSegmenter())


def test_other_options_on_the_same_output_are_refused(root, tmp_path, capsys):
    run(settings(root, tmp_path / "out"), DiscSegmenter())
    before = store_bytes(tmp_path / "out")
    for change in (
        {"max_clicks": 3},
        {"iou_target": 0.5},
        {"shards": 2},
        {"multimask": "never"},
        {"limit": 3},
        {"policy": "random"},
        {"candidates": 8},
        {"tie": "positive"},
        {"keep_improving": True},
        {"positive_only": True},
        {"jitter": 1},
        {"jitter": 1, "sequences": 2},
        {"seed": 1},
    ):
        with pytest.raises(UsageError, match=r"was started with .* name another --output"):
            run(settings(root, tmp_path / "out", **change), DiscSegmenter())
    lines = read_lines(root / "train/samples.jsonl")
    lines[0]["query"] = "something else"
    write_lines(root, lines)
    with pytest.raises(UsageError, match="dataset has changed since"):
        run(settings(root, tmp_path / "out"), DiscSegmenter())
    assert store_bytes(tmp_path / "out") == before


def test_a_complete_store_is_not_changed(root, tmp_path, capsys):
    run(settings(root, tmp_path / "out"), DiscSegmenter())
    segmenter = DiscSegmenter()
    run(settings(root, tmp_path / "out", batch=2), segmenter)
    assert segmenter.embedded == []
    assert "complete already" in capsys.readouterr().out


def test_the_output_of_another_command_is_refused(root, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/config.yaml").write_text("model: x\n")
    with pytest.raises(UsageError, match="was not written by 'geoclick synth'"):
        run(settings(root, tmp_path / "out"), DiscSegmenter())


def test_a_class_that_an_image_lacks_becomes_a_row_without_clicks(root, tmp_path):
    lines = read_lines(root / "train/samples.jsonl")
    lines = [line | {"task": "semantic"} for line in lines]
    write_lines(root, lines)
    run(settings(root, tmp_path / "out"), DiscSegmenter())
    rows = {row.sample_id: row for row in store.read(tmp_path / "out")}
    assert len(rows) == len(lines)
    for line in lines:
        row, empty = rows[line["sample_id"]], not masks.area(line["mask"])
        assert (row.task, bool(row.clicks)) == (("no_target", False) if empty else ("semantic", True))
        assert store.why_left_out(row, len(row.clicks), 0.0) == ""
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    assert (metrics["no_target"], metrics["dropped"], metrics["failures"]) == (2, {}, 0)


def test_failures_are_listed_and_the_others_are_processed(root, tmp_path, capsys):
    truncated = root / "train/images/1.png"
    truncated.write_bytes(truncated.read_bytes()[:200])
    lines = read_lines(root / "train/samples.jsonl")
    lines[0]["mask"] = masks.encode_rle(np.zeros((40, 50), bool))
    lines[1]["mask"] = {"size": [40, 50], "counts": "nonsense"}
    lines[4]["size"] = [41, 50]
    lines[6]["task"] = "no_target"
    lines[8]["size"], lines[8]["mask"] = [20, 25], masks.encode_rle(np.ones((20, 25), bool))
    write_lines(root, lines)
    run(settings(root, tmp_path / "out"), DiscSegmenter())
    errors = {item["item"]: item["error"] for item in read_lines(tmp_path / "out/failures.jsonl")}
    assert set(errors) == {
        *("train/samples.jsonl line 2", "train/samples.jsonl line 5"),
        *("s02", "s03", "s06", "s08"),
    }
    assert "50x40 pixels but its mask is 25x20" in errors["s08"]
    assert all("\n" not in error and error.endswith(".") for error in errors.values())
    assert read_lines(tmp_path / "out/dropped.jsonl") == [{"item": "s00", "reason": "empty mask", "count": 1}]
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    assert (metrics["samples"], metrics["failures"], metrics["dropped"]) == (5, 6, {"empty mask": 1})
    assert "warning: 6 failed" in capsys.readouterr().out


def test_only_process_0_generates_scenes_v1(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr("geoclick.jobs.processes.FIRST_TIMEOUT", 0.0)
    scenes = settings(tmp_path / "scenes", tmp_path / "out", dataset="scenes-v1", split="test")
    with pytest.raises(GeoClickError, match=r"Process 0 has not generated .*samples\.jsonl"):
        run(scenes, DiscSegmenter())
    assert not (tmp_path / "scenes").exists()
    with pytest.raises(UsageError, match="split test only"):
        run(replace(scenes, split="train"), DiscSegmenter())


def test_nothing_usable_is_a_failure(root, tmp_path):
    for path in (root / "train/images").iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(GeoClickError, match="No sample could be used"):
        run(settings(root, tmp_path / "out"), DiscSegmenter())


def test_a_broken_file_of_an_interrupted_job_is_named(root, tmp_path):
    (tmp_path / "out/progress").mkdir(parents=True)
    (tmp_path / "out/progress/job.json").write_text('{"a"')
    with pytest.raises(GeoClickError, match=r"job\.json is broken \(.*\); delete .*out and rerun"):
        run(settings(root, tmp_path / "out"), DiscSegmenter())


def test_sequences_that_ended_early_count_with_their_last_iou():
    def row(*ious):
        return type("Row", (), {"ious": ious, "parts": (len(ious),), "given": 0})

    found = summarize([row(0.95), row(0.2, 0.6), row()], max_clicks=3, iou_target=0.9)
    assert found["mean_iou_after_clicks"] == [0.575, 0.775, 0.775]
    assert (found["samples"], found["no_target"], found["sequences"]) == (3, 1, 2)
    assert (found["mean_clicks"], found["reached_target"]) == (1.5, 0.5)
    assert found["parts"] == {"1": {"sequences": 2, "mean_iou": 0.775}}


@pytest.mark.parametrize(
    "flags",
    [
        ["--max-clicks", "0"],
        ["--max-clicks", "17"],
        ["--iou-target", "2"],
        ["--batch", "0"],
        ["--clickz", "3"],
        ["--split", "no"],
        ["--policy", "centre"],
        ["--candidates", "0"],
        ["--jitter", "-1"],
        ["--sequences", "0"],
        ["--sequences", "2"],
        ["--sequences", "2", "--policy", "lookahead", "--candidates", "1"],
    ],
)
def test_wrong_usage_is_one_sentence_and_exit_code_2(root, tmp_path, flags, capsys):
    assert main(["--root", str(root), "--output", str(tmp_path / "out"), *flags]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "step",
    [
        "geoclick.data_synthesis.sheet.write_sheet",
        "geoclick.store.write_manifest",
        "geoclick.data_synthesis.shards.progress.StoreFolder.end",
    ],
)
def test_a_job_killed_at_its_end_continues_without_clicking_again(root, tmp_path, monkeypatch, step):
    def killed(*_, **__):
        raise KeyboardInterrupt

    run(settings(root, tmp_path / "whole"), DiscSegmenter())
    with monkeypatch.context() as patch:
        patch.setattr(step, killed)
        with pytest.raises(KeyboardInterrupt):
            run(settings(root, tmp_path / "out"), DiscSegmenter())
    segmenter = DiscSegmenter()
    run(settings(root, tmp_path / "out"), segmenter)
    # Only the pictures of the sheet are embedded again.
    assert len(segmenter.embedded) <= 2
    assert store_bytes(tmp_path / "out") == store_bytes(tmp_path / "whole")
    assert (tmp_path / "out/sheet.png").read_bytes() == (tmp_path / "whole/sheet.png").read_bytes()
    assert not (tmp_path / "out/progress").exists()
