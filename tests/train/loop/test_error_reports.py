import os
import subprocess
import sys

import pytest

from geoclick.errors import GeoClickError, UsageError
from geoclick.train.loop import error_reports
from geoclick.train.loop.error_reports import ReportedError, reported_by_first, reported_once
from tests import tiny


@pytest.fixture(params=[0, 1])
def rank(request, monkeypatch):
    """A process of two; each would wait for the other a moment instead of half a minute."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", str(request.param))
    return request.param


def fail(error):
    raise error


@pytest.mark.parametrize("error", [UsageError("Wrong."), GeoClickError("Broken.")])
def test_an_error_before_the_training_is_reported_by_process_0(rank, monkeypatch, error):
    slept = []
    monkeypatch.setattr(error_reports.time, "sleep", slept.append)
    with pytest.raises(type(error)):
        reported_by_first(lambda: fail(error))
    assert slept == [error_reports.ERROR_DELAY] * rank
    with pytest.raises(ReportedError):
        reported_by_first(lambda: fail(ReportedError("Reported.")))
    assert len(slept) == rank


@pytest.mark.parametrize("error", [GeoClickError("Broken."), RuntimeError("Connection closed by peer [::1]")])
def test_an_error_of_the_training_is_reported_by_the_process_that_meets_it_first(rank, tmp_path, error):
    waits = []
    with pytest.raises(ReportedError), reported_once(tmp_path, lambda: waits.append(1)):
        raise error
    assert (tmp_path / error_reports.MARK).exists()

    def other():
        (tmp_path / error_reports.MARK).touch()

    with pytest.raises(SystemExit) as end, reported_once(tmp_path, other):
        raise error
    assert end.value.code == 1
    assert waits == [1]


def test_other_errors_have_their_traceback(rank, tmp_path):
    with pytest.raises(RuntimeError, match="shapes"), reported_once(tmp_path, lambda: None):
        raise RuntimeError("shapes do not match")


LAUNCH = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", "accelerate_configs/cpu2.yaml"]
DIVERGE = ["--optim", "sgd", "--learning_rate", "1e38", "--max_grad_norm", "1e30", "--warmup_steps", "0"]
SCRIPT = """
import os, sys
from geoclick.train import sft
from geoclick.train.loop.trainer import AdapterSavingMixin

step = AdapterSavingMixin.training_step

def fail_in_one(self, *args, **kwargs):
    loss = step(self, *args, **kwargs)
    if os.environ["RANK"] == "1" and self.state.global_step == 1:
        raise self._diverged("The loss")
    return loss

AdapterSavingMixin.training_step = fail_in_one
sys.exit(sft.main())
"""


@pytest.mark.slow
@pytest.mark.parametrize("case", ["both diverge", "one diverges", "wrong option", "used folder"])
def test_two_processes_report_an_error_once_and_end(tmp_path, case):
    base = tiny.qwen3_vl_folder(tmp_path / "vlm")
    clicks, root = tiny.click_store(tmp_path, rows=16)
    output, script = tmp_path / "run", tmp_path / "fail_in_one.py"
    script.write_text(SCRIPT)
    flags = ["--vlm", base, "--clicks", clicks, "--root", root, "--output", output, "--use_cpu", "true"]
    flags += ["--lora-r", 4, "--max_steps", 4, "--save_strategy", "steps", "--save_steps", 1]
    module, expected = ["-m", "geoclick.train.sft"], "is not finite at step"
    if case == "both diverge":
        flags += DIVERGE
    elif case == "one diverges":
        module, expected = [str(script)], f"the last good checkpoint is {output / 'checkpoint-1'}"
    elif case == "wrong option":
        flags, expected = [*flags, "--lorar", "8"], "did you mean 'lora_r'"
    else:
        (output / "checkpoint-1").mkdir(parents=True)
        expected = "already holds a run"
    done = subprocess.run(
        [*LAUNCH, "--main_process_port", "0", *module, *map(str, flags)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode != 0
    errors = [line for line in done.stderr.splitlines() if "error: " in line and "Error: " not in line]
    assert len(errors) == 1, done.stderr[-3000:]
    assert expected in errors[0]
    assert "geoclick/train/loop" not in done.stderr
