import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from geoclick.data_synthesis.run import main, run
from geoclick.errors import GeoClickError
from geoclick.scenes.run import ScenesOptions
from geoclick.scenes.run import run as draw
from tests.data_synthesis.disc_segmenter import DiscSegmenter
from tests.data_synthesis.job_process import start, wait_until
from tests.data_synthesis.test_run import make_root, settings, store_bytes
from tests.paths import REPO

OPTIONS = {"shards": 6, "batch": 1, "sheet": 0}
ENDED = "because one of its 2 processes died or was stopped"
# Each process waits in its first shard until the other one has one too.
MEET = """
import time
(output.parent / f"met-{rank}").touch()
while not (output.parent / f"met-{1 - rank}").exists(): time.sleep(0.005)
"""
FAIL = (
    MEET
    + """
from geoclick.errors import GeoClickError
if rank == 1: raise GeoClickError("The device is on fire; put it out.")
time.sleep(600)
"""
)
HANG = MEET + "time.sleep(600)"


@pytest.fixture
def root(tmp_path):
    return make_root(tmp_path / "data")


@pytest.fixture
def expected(root, tmp_path):
    """The store of one uninterrupted process."""
    run(settings(root, tmp_path / "whole", **OPTIONS), DiscSegmenter())
    return store_bytes(tmp_path / "whole")


@pytest.fixture
def jobs():
    """Processes to be ended with the test."""
    found = []
    yield found
    for job in found:
        job.kill()
        job.communicate()


def both(jobs, root, output, **changes):
    jobs += [start(root, output, rank, 2, **changes) for rank in (0, 1)]
    return jobs


def met(output):
    return all((output.parent / f"met-{rank}").exists() for rank in (0, 1))


def check_that_it_continues(root, output, expected):
    """The same command as one process ends with the same bytes."""
    run(settings(root, output, **OPTIONS), DiscSegmenter())
    assert store_bytes(output) == expected
    assert not (output / "progress").exists()


def test_two_processes_share_the_work_and_give_the_bytes_of_one(root, expected, jobs, tmp_path):
    output = tmp_path / "out"
    (out, err), (other_out, other_err) = (j.communicate() for j in both(jobs, root, output, at_embed=MEET))
    assert [job.returncode for job in jobs] == [0, 0]
    assert (other_out, other_err, err) == ("", "", "")
    assert f"12 rows in {output}" in out
    assert store_bytes(output) == expected
    assert not (output / "progress").exists()
    embedded = [int((tmp_path / f"out.embedded-{rank}").read_text()) for rank in (0, 1)]
    assert min(embedded) >= 1
    assert sum(embedded) == 6  # no image twice


@pytest.mark.slow
def test_two_killed_processes_continue_as_one_to_the_same_bytes(root, expected, jobs, tmp_path):
    output = tmp_path / "out"
    both(jobs, root, output, at_embed=MEET, delay=0.1)
    wait_until(lambda: len(list(output.glob("*.parquet"))) >= 2, *jobs)
    for job in jobs:
        job.kill()
        job.wait()
    finished = {path: path.stat().st_mtime_ns for path in output.glob("*.parquet")}
    assert 2 <= len(finished) < 6
    check_that_it_continues(root, output, expected)
    assert all(path.stat().st_mtime_ns == time_ns for path, time_ns in finished.items())


@pytest.mark.slow
def test_the_process_that_fails_reports_its_error_and_the_other_ends_silently(root, expected, jobs, tmp_path):
    output = tmp_path / "out"
    first, failing = both(jobs, root, output, at_embed=FAIL)
    assert failing.communicate() == ("", "error: The device is on fire; put it out.\n")
    first.terminate()  # as a launcher does then
    assert first.communicate()[1] == ""
    assert (first.returncode, failing.returncode) == (1, 1)
    check_that_it_continues(root, output, expected)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_when_a_process_is_killed_the_other_reports_it_in_one_sentence(
    root, expected, jobs, tmp_path, victim
):
    output = tmp_path / "out"
    both(jobs, root, output, at_embed=HANG)
    wait_until(lambda: met(output), *jobs)
    jobs[victim].kill()
    jobs[1 - victim].terminate()  # as a launcher does then
    error = jobs[1 - victim].communicate()[1]
    assert jobs[1 - victim].returncode == 1
    assert error.startswith("error: ")
    assert ENDED in error
    assert error.count("\n") == 1
    check_that_it_continues(root, output, expected)


@pytest.mark.slow
def test_without_a_launcher_the_shards_of_a_dead_process_are_taken_over(root, expected, jobs, tmp_path):
    output = tmp_path / "out"
    survive = MEET + "if rank == 0: time.sleep(600)"
    first, other = both(jobs, root, output, at_embed=survive)
    wait_until(lambda: len(list(output.glob("*.parquet"))) == 5, first, other)
    first.kill()
    error = other.communicate()[1]
    # It wrote the sixth, but only process 0 finishes a store.
    assert len(list(output.glob("*.parquet"))) == 6
    assert (other.returncode, ENDED in error) == (1, True)
    check_that_it_continues(root, output, expected)


@pytest.mark.slow
def test_two_jobs_on_one_output_are_refused(root, expected, jobs, tmp_path):
    output = tmp_path / "out"
    jobs.append(
        start(
            root, output, 0, 1, at_embed="(output.parent / 'at-work').touch(); import time; time.sleep(600)"
        )
    )
    wait_until((tmp_path / "at-work").exists, *jobs)
    with pytest.raises(GeoClickError, match=r"Another geoclick synth is writing .*out"):
        run(settings(root, output, **OPTIONS), DiscSegmenter())
    jobs[0].kill()
    jobs[0].wait()
    check_that_it_continues(root, output, expected)


@pytest.mark.slow
def test_kills_at_random_moments_and_other_numbers_of_processes_change_no_byte(root, expected, tmp_path):
    output, rng, kills = tmp_path / "out", random.Random(0), 0
    for world in (2, 1, 3, 2, 3, 1, 2):
        ranks = [start(root, output, rank, world, delay=0.2) for rank in range(world)]
        begin, before = time.time(), len(list(output.glob("*.parquet")))
        while len(list(output.glob("*.parquet"))) == before and ranks[0].poll() is None:
            time.sleep(0.005)
            assert time.time() < begin + 240
        time.sleep(rng.uniform(0, 0.3))
        for job in rng.sample(ranks, world):
            kills += job.poll() is None
            job.kill()
        for job in ranks:
            job.communicate()
    assert kills >= 6
    check_that_it_continues(root, output, expected)


@pytest.mark.slow
def test_the_launcher_of_accelerate(tmp_path):
    """The embedded segmenter on scenes: the bytes of one process, also after one of two was killed."""
    draw(ScenesOptions(output=str(tmp_path / "data"), count=48, split="train", workers=1))
    words = [
        "--root",
        str(tmp_path / "data"),
        "--shards",
        "8",
        "--max-clicks",
        "2",
        "--device",
        "cpu",
        "--sheet",
        "2",
    ]
    assert main([*words, "--output", str(tmp_path / "whole")]) == 0
    launch = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--config_file",
        "accelerate_configs/cpu2.yaml",
    ]
    output = tmp_path / "out"
    command = [*launch, "-m", "geoclick.data_synthesis.run", *words, "--output", str(output)]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, cwd=REPO, env=environment, **streams) as job:
        wait_until(lambda: list(output.glob("*.parquet")), job)
        children = Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()
        ranks = {number: Path(f"/proc/{number}/environ").read_text() for number in children}
        (victim,) = [int(number) for number, found in ranks.items() if "\0RANK=1\0" in found]
        os.kill(victim, signal.SIGKILL)
        err = job.communicate()[1]
    assert job.returncode != 0
    assert err.count(ENDED) == 1
    assert not (output / "manifest.json").exists()
    done = subprocess.run(command, cwd=REPO, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert store_bytes(output) == store_bytes(tmp_path / "whole")
    assert done.stdout.count("48 rows in") == 1
