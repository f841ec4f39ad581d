import json
import subprocess
import sys

import pytest

from geoclick import store
from geoclick.data_synthesis.shards import progress
from geoclick.datasets import LeftOut
from geoclick.errors import GeoClickError, UsageError
from geoclick.jobs import claims, failures, processes
from tests.paths import REPO

SETTINGS = {"seed": 1, "bands": (1, 2)}


def finish(output, index, count):
    (output / store.shard_name(index, count)).touch()


def folder(output, **changes):
    return progress.StoreFolder(output, SETTINGS | changes)


@pytest.fixture
def opened(tmp_path):
    """An output whose job was started, and its claims."""
    with folder(tmp_path).join() as held:
        yield tmp_path, held


# Another process of the job: claims a shard, prints that, waits for a line, and finishes the shard or not.
OTHER = """
import sys
from geoclick.jobs import claims
output, byte, shard = sys.argv[1:]
with open(f"{output}/progress/claims", "r+b") as held:
    assert claims.acquire(held, int(byte))
    print("held", flush=True)
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
        assert job.stdout.readline() == "held\n"
        return job

    yield start
    for job in started:
        job.kill()
        job.communicate()


def test_one_process_writes_all_missing_shards_in_order(opened):
    output, held = opened
    finish(output, 1, 4)
    reported, claimed = [], []
    for index in progress.claim_shards(output, 4, held, reported.append):
        claimed.append(index)
        finish(output, index, 4)
    assert (claimed, reported) == ([0, 2, 3], [1])


@pytest.mark.parametrize("finishes", [True, False])
def test_a_shard_of_another_process_is_awaited_or_taken_over(opened, other, finishes):
    output, held = opened
    job = other(output, 2, store.shard_name(1, 3) if finishes else "")
    reported, claimed = [], []
    for index in progress.claim_shards(output, 3, held, reported.append):
        claimed.append(index)
        finish(output, index, 3)
        if index == 2:
            job.stdin.write("\n")
            job.stdin.flush()
    assert claimed == ([0, 2] if finishes else [0, 2, 1])
    assert reported == ([1] if finishes else [])


def test_a_job_is_joined_once_process_0_has_opened_it(tmp_path, other, monkeypatch):
    folder(tmp_path).join().close()  # an earlier job, killed
    monkeypatch.setattr(processes, "FIRST_TIMEOUT", 0.0)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(GeoClickError, match="Process 0 has not started to write"):
        folder(tmp_path).join()
    first = other(tmp_path, claims.FIRST)
    with pytest.raises(GeoClickError, match="Process 0 has not started"):
        folder(tmp_path, seed=2).join()
    with folder(tmp_path).join() as held:
        first.communicate("\n")
        with pytest.raises(failures.Ended):
            folder(tmp_path).wait_until_complete(held)
        store.write_manifest(tmp_path, SETTINGS)
        folder(tmp_path).wait_until_complete(held)
    assert folder(tmp_path).join() is None


def test_process_0_refuses_other_settings_and_an_output_of_a_running_job(tmp_path, other, monkeypatch):
    folder(tmp_path).join().close()
    with pytest.raises(UsageError, match="was started with seed 1, not 2"):
        folder(tmp_path, seed=2).join()
    other(tmp_path, claims.FIRST)
    monkeypatch.setattr(processes, "POLL_SECONDS", 0.0)
    with pytest.raises(GeoClickError, match="Another job is writing"):
        folder(tmp_path).join()


@pytest.mark.parametrize("key", ["samples_read", "samples_sha256", "pixels_sha256", "segmenter_sha256"])
def test_changed_data_are_no_changed_options(tmp_path, key):
    folder(tmp_path / "out", **{key: "before"}).record()
    with pytest.raises(UsageError, match=r"has changed since .* was started; restore it") as caught:
        folder(tmp_path / "out", **{key: "now"}).check()
    assert "options" not in str(caught.value)


def test_a_store_without_a_record_of_the_pixels_is_continued(tmp_path):
    folder(tmp_path).record()
    assert folder(tmp_path, pixels_sha256="now").check()


def test_an_account_comes_back_as_it_was_written(tmp_path):
    left_out = [LeftOut("a", "broken mask", "It is broken."), LeftOut("b", "empty mask")]
    progress.write_account(tmp_path, 3, left_out, 1.5)
    assert progress.read_account(tmp_path, 3) == (left_out, 1.5)
    folder(tmp_path).end()
    assert list(tmp_path.iterdir()) == []


def test_the_settings_of_a_job_are_recorded_as_json(opened):
    output, _ = opened
    assert json.loads((output / "progress/job.json").read_text()) == {"seed": 1, "bands": [1, 2]}
    assert folder(output).check()
    assert not folder(output).is_complete()


def test_the_settings_of_a_complete_store_are_those_of_its_manifest(tmp_path):
    store.write_manifest(tmp_path, SETTINGS | {"samples": 3})
    assert folder(tmp_path).check()
    with pytest.raises(UsageError, match="was started with seed 1, not 2"):
        folder(tmp_path, seed=2).check()
