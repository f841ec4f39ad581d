import json
import subprocess
import sys

import pytest

from geoclick import store
from geoclick.data_synthesis.shards import progress
from geoclick.datasets import LeftOut
from geoclick.errors import GeoClickError, UsageError
from geoclick.jobs import processes
from tests.paths import REPO

SETTINGS = {"seed": 1, "bands": (1, 2)}


def finish(output, index, count):
    (output / store.shard_name(index, count)).touch()


@pytest.fixture
def opened(tmp_path):
    """An output whose job was begun, and its claims."""
    with progress.join(tmp_path, SETTINGS) as claims:
        yield tmp_path, claims


# Another process of the job: takes a shard, says so, waits to be told, and finishes it or not.
OTHER = """
import sys
from geoclick.jobs import processes
output, byte, shard = sys.argv[1:]
with open(f"{output}/progress/claims", "r+b") as claims:
    assert processes.take(claims, int(byte))
    print("taken", flush=True)
    sys.stdin.readline()
    if shard:
        open(f"{output}/{shard}", "w").close()
"""


@pytest.fixture
def other(request):
    started = []

    def start(output, byte, shard=""):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        job = subprocess.Popen([sys.executable, "-c", OTHER, output, str(byte), shard], cwd=REPO, **pipes)
        started.append(job)
        assert job.stdout.readline() == "taken\n"
        return job

    yield start
    for job in started:
        job.kill()
        job.communicate()


def test_one_process_takes_all_that_is_missing_in_order(opened):
    output, claims = opened
    finish(output, 1, 4)
    told, taken = [], []
    for index in progress.claim_shards(output, 4, claims, told.append):
        taken.append(index)
        finish(output, index, 4)
    assert (taken, told) == ([0, 2, 3], [1])


@pytest.mark.parametrize("finishes", [True, False])
def test_a_shard_that_another_process_makes_is_awaited_or_taken_over(opened, other, finishes):
    output, claims = opened
    job = other(output, 2, store.shard_name(1, 3) if finishes else "")
    told, taken = [], []
    for index in progress.claim_shards(output, 3, claims, told.append):
        taken.append(index)
        finish(output, index, 3)
        if index == 2:
            job.stdin.write("\n")
            job.stdin.flush()
    assert taken == ([0, 2] if finishes else [0, 2, 1])
    assert told == ([1] if finishes else [])


def test_a_job_is_joined_once_process_0_is_at_work(tmp_path, other, monkeypatch):
    progress.join(tmp_path, SETTINGS).close()  # an earlier job, killed
    monkeypatch.setattr(processes, "PATIENCE", 0.0)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(GeoClickError, match="Process 0 has not begun to write"):
        progress.join(tmp_path, SETTINGS)
    first = other(tmp_path, processes.LEAD)
    with pytest.raises(GeoClickError, match="Process 0 has not begun"):
        progress.join(tmp_path, SETTINGS | {"seed": 2})
    with progress.join(tmp_path, SETTINGS) as claims:
        first.communicate("\n")
        with pytest.raises(processes.Ended):
            progress.wait_until_whole(tmp_path, claims)
        store.write_manifest(tmp_path, SETTINGS)
        progress.wait_until_whole(tmp_path, claims)
    assert progress.join(tmp_path, SETTINGS) is None


def test_process_0_refuses_other_settings_and_an_output_at_work(tmp_path, other, monkeypatch):
    progress.join(tmp_path, SETTINGS).close()
    with pytest.raises(UsageError, match="was begun with seed 1, not 2"):
        progress.join(tmp_path, SETTINGS | {"seed": 2})
    other(tmp_path, processes.LEAD)
    monkeypatch.setattr(processes, "GLANCE", 0.0)
    with pytest.raises(GeoClickError, match="Another job is writing"):
        progress.join(tmp_path, SETTINGS)


def test_an_account_comes_back_as_it_was_written(tmp_path):
    left_out = [LeftOut("a", "broken mask", "It is broken."), LeftOut("b", "empty mask")]
    progress.write_account(tmp_path, 3, left_out, 1.5)
    assert progress.read_account(tmp_path, 3) == (left_out, 1.5)
    progress.end(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_settings_of_a_job_are_kept_as_json(opened):
    output, _ = opened
    assert json.loads((output / "progress/job.json").read_text()) == {"seed": 1, "bands": [1, 2]}
    assert not progress.begin(output, SETTINGS)
