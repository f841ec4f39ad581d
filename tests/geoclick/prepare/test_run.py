"""A job that is stopped, resumed, checked, refused."""

import contextlib
import errno
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from geoclick import output_folder
from geoclick.output_folder import LOCK
from geoclick.prepare import progress, run, tile_writer
from tests.paths import REPO

TILES = ("2_13", "2_14", "3_13", "3_14")
LAST = "top_potsdam_3_14_RGB.tif"


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Potsdam of small pictures: two tiles each, so 4 files an image."""
    root, rng = tmp_path_factory.mktemp("raw"), np.random.default_rng(0)
    for name in TILES:
        picture = rng.integers(0, 256, (64, 75, 3), np.uint8).repeat(8, 0).repeat(8, 1)
        label = rng.choice(np.array([[0, 0, 0], [255, 255, 255], [0, 0, 255]], np.uint8), (512, 600))
        Image.fromarray(picture).save(root / f"top_potsdam_{name}_RGB.tif")
        Image.fromarray(label).save(root / f"top_potsdam_{name}_label_noBoundary.tif")
    return root


def words(raw, output, *more):
    return ["potsdam", "--root", str(raw), "--output", str(output), "--only", *TILES, *more]


def contents(folder):
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "config.yaml")
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def complete(raw, tmp_path_factory):
    """What a job that ran through writes."""
    output = tmp_path_factory.mktemp("complete") / "output"
    assert run.main(words(raw, output, "--workers", "1")) == 0
    made = contents(output)
    assert len(made) == 4 * len(TILES) + 1
    assert not (output / tile_writer.FOLDER).exists()
    return made


def error_of(capsys):
    text = capsys.readouterr().err.strip()
    assert text.startswith("error: ")
    assert len(text.splitlines()) == 1
    return text


def test_processes_change_no_byte(raw, complete, tmp_path):
    assert run.main(words(raw, tmp_path, "--workers", "2")) == 0
    assert contents(tmp_path) == complete


class Stopped(BaseException):
    pass


@pytest.mark.parametrize("after", [0, 2, 5, 6, 7, 19, 22])
def test_a_job_that_stops_after_any_file_is_resumed(raw, complete, tmp_path, monkeypatch, after):
    """A stop within a file leaves a part of it; accounts, and the manifest as the last one, are files too."""
    count, replace = [0], Path.replace

    def stopping(self, target):
        if count[0] == after:
            raise Stopped
        count[0] += 1
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", stopping)
    monkeypatch.setattr(Path, "unlink", lambda self, missing_ok=False: None)  # a killed job removes nothing
    with pytest.raises(Stopped):
        run.main(words(raw, tmp_path, "--workers", "1"))
    monkeypatch.undo()
    assert not (tmp_path / "prepared.json").exists()
    done = len(list(tmp_path.rglob("progress/images/*.json")))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.png")}
    assert run.main(words(raw, tmp_path, "--workers", "1")) == 0
    assert contents(tmp_path) == complete
    kept = sum(path.stat().st_mtime_ns == when for path, when in before.items())
    assert kept == 4 * done


WAITING = """
import sys
from geoclick import cli, files
files.refuse_special = lambda path: None
sys.exit(cli.main())
"""
"""The program, which reads pipes."""


@pytest.fixture
def blocked(raw, tmp_path):
    """The same files but one, a pipe into which nobody writes: a job stands still before it."""
    root = tmp_path / "blocked"
    shutil.copytree(raw, root)
    (root / LAST).unlink()
    os.mkfifo(root / LAST)
    return root


@pytest.fixture
def start():
    """Starts a job in two processes; none outlives the test."""
    jobs = []

    def started(raw, output):
        jobs.append(
            subprocess.Popen(
                [sys.executable, "-c", WAITING, "prepare", *words(raw, output, "--workers", "2")],
                cwd=REPO,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
                # A shell that starts the tests in the background lets them, and what they start, ignore it.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )
        )
        return jobs[-1]

    yield started
    for job in jobs:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(job.pid, signal.SIGKILL)
        job.wait()


def wait_for_the_last(job, output):
    while len(list(output.rglob("progress/images/*.json"))) < len(TILES) - 1:
        assert job.poll() is None, job.stderr.read()
        time.sleep(0.01)


def kill(job):
    """SIGKILL to the first process only; its workers must end by themselves."""
    workers = psutil.Process(job.pid).children(recursive=True)
    job.kill()
    job.wait()
    _, alive = psutil.wait_procs(workers, timeout=5)
    assert not alive


def test_a_killed_job_ends_its_workers_and_is_resumed(raw, blocked, complete, start, tmp_path):
    output = tmp_path / "output"
    job = start(blocked, output)
    wait_for_the_last(job, output)
    kill(job)
    assert run.main(words(raw, output, "--workers", "2")) == 0
    assert contents(output) == complete


@pytest.mark.slow
def test_ten_kills_at_random_moments(raw, complete, start, tmp_path):
    rng, kills = random.Random(1), 0
    while kills < 10:
        job = start(raw, tmp_path)
        before = len(list(tmp_path.rglob("*.png")))
        while job.poll() is None and len(list(tmp_path.rglob("*.png"))) == before:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.2))
        if job.poll() is None:
            kill(job)
            kills += 1
        if rng.random() < 0.3 or kills == 10 or (tmp_path / "prepared.json").exists():
            assert run.main(words(raw, tmp_path, "--workers", "2")) == 0
            assert contents(tmp_path) == complete
            shutil.rmtree(tmp_path)


@pytest.mark.parametrize("left", ["progress", LOCK])
def test_a_job_that_was_killed_after_its_manifest_leaves_nothing(raw, complete, tmp_path, monkeypatch, left):
    if left == "progress":
        monkeypatch.setattr(progress.PreparedFolder, "end", lambda self: None)
    assert run.main(words(raw, tmp_path, "--workers", "1")) == 0
    monkeypatch.undo()
    if left == LOCK:
        (tmp_path / LOCK).touch()
    assert (tmp_path / left).exists()
    assert run.main(words(raw, tmp_path, "--workers", "1")) == 0
    assert contents(tmp_path) == complete
    assert not (tmp_path / left).exists()


def test_a_removed_file_is_written_again(raw, complete, tmp_path, monkeypatch):
    monkeypatch.setattr(progress.PreparedFolder, "finish", lambda *_: (_ for _ in ()).throw(Stopped))
    with pytest.raises(Stopped):
        run.main(words(raw, tmp_path, "--workers", "1"))
    monkeypatch.undo()
    next((tmp_path / "ann_dir/val").iterdir()).unlink()
    assert run.main(words(raw, tmp_path, "--workers", "1")) == 0
    assert contents(tmp_path) == complete


def test_verify_finds_a_changed_a_missing_and_a_strange_file(raw, complete, tmp_path, capsys):
    assert run.main(words(raw, tmp_path, "--workers", "1")) == 0
    check = ["potsdam", "--output", str(tmp_path), "--verify"]
    assert run.main(check) == 0
    assert "16 files" in capsys.readouterr().out
    path = tmp_path / "ann_dir/val/2_13_0_0_512_512.png"
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    assert run.main(check) == 1
    assert "in 1 files: ann_dir/val/2_13_0_0_512_512.png was changed; delete" in error_of(capsys)
    path.unlink()
    (tmp_path / "img_dir/val/more.png").touch()
    assert run.main(check) == 1
    error = error_of(capsys)
    assert "in 2 files: ann_dir/val/2_13_0_0_512_512.png is missing, " in error
    assert "more.png does not belong to it" in error
    assert run.main(["inria", *check[1:]]) == 2
    assert "was prepared by the job potsdam, not by inria" in error_of(capsys)


def test_verify_leads_nowhere_else(tmp_path, capsys):
    (tmp_path / "secret").write_text("x")
    output = tmp_path / "output"
    output.mkdir()
    for content in ({"job": "potsdam", "files": {"../secret": "0"}}, {"job": "potsdam", "files": 3}, []):
        (output / "prepared.json").write_text(json.dumps(content))
        assert run.main(["potsdam", "--output", str(output), "--verify"]) == 1
        assert "leads out of" in (error := error_of(capsys)) or "prepared.json is broken" in error
    (output / "prepared.json").unlink()
    assert run.main(["potsdam", "--output", str(output), "--verify"]) == 2
    assert "holds no prepared.json" in error_of(capsys)


def test_an_output_is_of_one_job(raw, complete, tmp_path, capsys):
    assert run.main(words(raw, tmp_path, "--workers", "1")) == 0
    capsys.readouterr()
    assert run.main(words(raw, tmp_path)) == 0
    assert "complete already" in capsys.readouterr().out
    assert run.main(words(raw, tmp_path)[:-1]) == 2
    assert "was started with other raw images; restore the raw images" in error_of(capsys)
    assert contents(tmp_path) == complete
    (tmp_path / "prepared.json").unlink()
    assert run.main(words(raw, tmp_path)) == 2
    assert "img_dir/val holds files of another origin; name another --output" in error_of(capsys)
    assert not (tmp_path / tile_writer.FOLDER).exists()


def test_bad_words_are_one_sentence(raw, tmp_path, capsys):
    for more, expected in (
        (["nonsense", "--output", "x"], "job must be one of potsdam, vaihingen"),
        (["potsdam", "--output", str(tmp_path)], "Missing --root"),
        (
            ["potsdam", "--root", str(raw), "--output", str(tmp_path), "--split", "test"],
            "must be one of val, train",
        ),
        (["potsdam", "--root", str(raw / "x"), "--output", str(tmp_path)], "is no folder"),
    ):
        assert run.main(more) == 2
        assert expected in error_of(capsys)
    assert run.main(["potsdam", "--root", str(raw), "--output", str(tmp_path)]) == 1
    assert "10 raw files of Potsdam's val are missing: 4_13 (" in error_of(capsys)
    assert list(tmp_path.iterdir()) == []


def single(root, picture, label):
    root.mkdir(exist_ok=True)
    Image.fromarray(picture).save(root / "top_potsdam_2_13_RGB.tif")
    Image.fromarray(label).save(root / "top_potsdam_2_13_label_noBoundary.tif")
    return ["potsdam", "--root", str(root), "--only", "2_13", "--workers", "2", "--output", str(root / "out")]


def test_broken_raw_files_are_one_sentence(tmp_path, capsys):
    black = np.zeros((600, 600, 3), np.uint8)
    argv = single(tmp_path, black, black[:599])
    assert run.main(argv) == 1
    assert "_RGB.tif is 600x600 pixels but its mask is 600x599; make them the same size" in error_of(capsys)
    argv = single(tmp_path, black, black)
    path = tmp_path / "top_potsdam_2_13_RGB.tif"
    path.write_bytes(path.read_bytes()[:5000])
    assert run.main(argv) == 1
    assert "top_potsdam_2_13_RGB.tif cannot be read as an image" in error_of(capsys)
    single(tmp_path, black, black)
    assert run.main(argv) == 0


def test_a_large_image_is_no_reason_to_warn(raw, tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200_000)
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        assert run.main(words(raw, tmp_path, "--workers", "1")) == 0


def test_an_image_below_a_tile_is_refused_where_nothing_can_be_ignored(tmp_path, capsys):
    for folder in ("images", "gt"):
        (tmp_path / folder).mkdir()
    Image.fromarray(np.zeros((900, 1200, 3), np.uint8)).save(tmp_path / "images/austin1.tif")
    Image.fromarray(np.zeros((900, 1200), np.uint8)).save(tmp_path / "gt/austin1.tif")
    argv = ["inria", "--root", str(tmp_path), "--only", "austin1", "--output", str(tmp_path / "out")]
    assert run.main(argv) == 1
    assert "austin1.tif is 1200x900 pixels, smaller than a tile of 1000x1000" in error_of(capsys)


def test_nothing_is_written_through_a_link_out_of_the_output(raw, tmp_path, capsys):
    outside, output = tmp_path / "outside", tmp_path / "output"
    outside.mkdir()
    output.mkdir()
    (output / "img_dir").symlink_to(outside)
    assert run.main(words(raw, output, "--workers", "1")) == 1
    assert "leads out of" in error_of(capsys)
    assert list(outside.iterdir()) == []


def test_a_full_disk_is_one_sentence_and_the_job_is_resumed(raw, complete, tmp_path, capsys, monkeypatch):
    write, count = Path.write_bytes, [0]

    def full(self, content):
        count[0] += 1
        if count[0] > 9:
            write(self, content[:1000])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))
        return write(self, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    assert run.main(words(raw, tmp_path, "--workers", "1")) == 1
    assert "No space left on device" in (error := error_of(capsys))
    assert error.endswith("free space or fix the path and rerun the command.")
    monkeypatch.undo()
    assert len(list(tmp_path.rglob("*.png"))) == 9
    assert not list(tmp_path.rglob("*.partial"))
    assert run.main(words(raw, tmp_path, "--workers", "1")) == 0
    assert contents(tmp_path) == complete


def test_a_file_that_may_not_grow_is_one_sentence_from_a_worker_too(raw, tmp_path):
    """The kernel refuses files above a size, as it refuses them on a full disk."""
    done = subprocess.run(
        [sys.executable, "-m", "geoclick.cli", "prepare", *words(raw, tmp_path, "--workers", "2")],
        cwd=REPO,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, 5_000)),
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: File too large")
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.rglob("*.partial"))
    assert not [path for path in tmp_path.rglob("*.png") if path.stat().st_size == 5_000]


def test_two_jobs_do_not_write_one_output(raw, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(run, "PATIENCE", 0.0)
    with output_folder.opened(tmp_path, "prepare"):
        assert run.main(words(raw, tmp_path, "--workers", "1")) == 2
    assert f"Another geoclick prepare is writing {tmp_path}; wait until" in error_of(capsys)
    assert run.main(words(raw, tmp_path, "--workers", "1")) == 0


def release(fifo, job):
    """End the waiting of a worker for a FIFO, which it opens more than once."""
    while job.poll() is None:
        with contextlib.suppress(OSError):  # nobody reads it now
            os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
        time.sleep(0.01)


def test_an_interruption_is_one_sentence(raw, blocked, complete, start, tmp_path):
    output = tmp_path / "output"
    job = start(blocked, output)
    wait_for_the_last(job, output)
    os.killpg(job.pid, signal.SIGINT)
    time.sleep(2)  # the first process handles the signal before the worker's result arrives
    release(blocked / LAST, job)  # the worker finishes its image
    error = job.communicate()[1]
    assert job.returncode == 1
    assert error == "error: Interrupted; rerun the same command to continue.\n"
    assert run.main(words(raw, output, "--workers", "1")) == 0
    assert contents(output) == complete
