import pytest

from geoclick.errors import UsageError
from geoclick.jobs import failures


def test_an_error_in_the_options_is_reported_by_process_0_first(monkeypatch):
    slept = []

    def fail():
        raise UsageError("Unknown flag.")

    monkeypatch.setattr(failures.time, "sleep", slept.append)
    for rank in "01":
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.setenv("RANK", rank)
        with pytest.raises(UsageError):
            failures.reported_by_first(fail)
    assert slept == [failures.ERROR_DELAY]


def run_in_job(folder, body):
    with failures.single_error(folder, folder):
        body()


def test_only_the_first_error_is_reported(tmp_path):
    mark = tmp_path / failures.MARK

    def fail():
        raise ValueError("the first")

    def interrupt_a_later_start():
        assert not mark.exists()
        raise KeyboardInterrupt

    def be_ended_by_another():
        mark.touch()
        raise failures.Ended

    with pytest.raises(ValueError, match="the first"):
        run_in_job(tmp_path, fail)
    assert mark.exists()
    with pytest.raises(KeyboardInterrupt):
        run_in_job(tmp_path, interrupt_a_later_start)
    with pytest.raises(SystemExit) as ending:
        run_in_job(tmp_path, be_ended_by_another)
    assert ending.value.code == 1
