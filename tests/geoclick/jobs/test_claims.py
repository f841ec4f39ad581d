import subprocess
import sys

import pytest

from geoclick.jobs import claims, processes
from tests.paths import REPO

HOLDER = """
import sys
from geoclick.jobs import claims
with open(sys.argv[1], "a+b") as held:
    assert claims.acquire(held, 5)
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds byte 5 of the claims."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    job = subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path / "claims"], cwd=REPO, **pipes)
    assert job.stdout.readline() == "held\n"
    yield job
    job.kill()
    job.communicate()


@pytest.mark.parametrize("end", ["kill", "terminate"])
def test_a_claim_ends_with_its_holder(tmp_path, holder, end):
    with (tmp_path / "claims").open("r+b") as held:
        assert claims.is_held(held, 5)
        assert not claims.acquire(held, 5)
        assert claims.acquire(held, 4)
        assert not claims.is_held(held, 6)
        getattr(holder, end)()
        claims.wait_until_released(held, 5)
        holder.wait()
        assert claims.acquire(held, 5)


def test_claims_that_another_job_removes_are_created_again(tmp_path, monkeypatch):
    """A lock on a removed file would not keep a third job out."""
    path, acquire = tmp_path / "work" / "claims", claims.acquire

    def remove_once(held, byte):
        if not (tmp_path / "removed").exists():
            (tmp_path / "removed").touch()
            path.unlink()
            path.parent.rmdir()
        return acquire(held, byte)

    monkeypatch.setattr(claims, "acquire", remove_once)
    monkeypatch.setattr(processes, "POLL_SECONDS", 0.0)
    with claims.open_as_first(path) as held:
        assert path.exists()
        assert claims._is_at(path, held)
