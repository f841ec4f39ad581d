"""Every launcher gives the loss curve of one process; a run that is killed at a random time resumes to the same result.

On CPU processes with the embedded model. What accelerate's files say of GPUs is overridden on the command line: the
precision, and `--use_cpu`.
"""

import json
import os
import random
import socket
import subprocess
import sys
import time

import psutil
import pytest
import torch
from safetensors.torch import load_file

from geoclick import store, vlms
from geoclick.geo import reading
from geoclick.train import sft
from geoclick.train.loop import checkpoints
from geoclick.vlms.generation.answers import generate
from tests import tiny

pytestmark = pytest.mark.slow

STEPS = 12
BATCHES = {
    "padded": {1: ["--per_device_train_batch_size", "4"], 2: ["--per_device_train_batch_size", "2"]},
    "packed": {1: ["--gradient_accumulation_steps", "2"], 2: []},
}
"""The batches of one process, and the same batches for two."""
PROCESSES = {"single_gpu": 1, "multi_gpu": 2, "cpu2": 2, "zero2": 2, "zero3": 2, "fsdp2": 2}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A click store of 40 rows, and its root."""
    return tiny.click_store(tmp_path_factory.mktemp("data"), rows=40)


@pytest.fixture(scope="module", params=list(BATCHES))
def way(request):
    return request.param


@pytest.fixture(scope="module")
def flags(data, way):
    """The flags of every run; the epochs end during the run."""
    clicks, root = data
    words = ["--vlm", "embedded", "--clicks", clicks, "--root", root, "--lora-r", 4, "--max_steps", STEPS]
    words += ["--learning_rate", 0.001, "--logging_steps", 1, "--save_strategy", "steps", "--save_steps", 2]
    words += ["--use_cpu", "true", "--save_total_limit", 3, "--feature-memory-gb", 0, "--seed", 7]
    words += ["--packing-tokens", 400] if way == "packed" else []
    return [str(word) for word in words]


@pytest.fixture(scope="module")
def single(flags, way, tmp_path_factory):
    """The run of one process."""
    output = tmp_path_factory.mktemp("single") / "run"
    assert sft.main([*flags, *BATCHES[way][1], "--output", str(output)]) == 0
    return output


def command(file, *more):
    """`accelerate launch` with one of our files, on CPU processes."""
    launch = [sys.executable, "-m", "accelerate.commands.launch"]
    launch += ["--config_file", f"accelerate_configs/{file}.yaml", "--mixed_precision", "no"]
    return [*launch, *more, "-m", "tests.train.fsdp_on_cpu" if file == "fsdp2" else "geoclick.train.sft"]


def start(words, log):
    """Start a launcher in the repository's root; its output goes to a file."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with log.open("ab") as out:
        return subprocess.Popen(words, env=environment, stdout=out, stderr=out)


def finish(words, log):
    """Run a launcher, which must succeed."""
    code = start(words, log).wait(timeout=900)
    assert code == 0, log.read_text(errors="replace")[-3000:]


def metrics(output):
    return json.loads((output / "metrics.json").read_text())


def losses(output):
    return [entry["loss"] for entry in metrics(output)["loss"]]


def weights(output):
    return load_file(output / "adapter_model.safetensors")


def answers(output, data):
    """The answers of one process with this adapter to the first queries of the store."""
    clicks, root = data
    rows = list(store.read(clicks))[:6]
    pictures = [reading.read_image(root / row.image) for row in rows]
    vlm = vlms.load("embedded", adapter=output, device="cpu")
    queries = [row.query for row in rows]
    written = generate(vlm, pictures, queries, answer_format="compact", max_new_tokens=24)
    return [answer.text for answer in written]


def check_equals(one, two, data):
    """Two folders hold the same run, up to rounding: losses, weights, answers."""
    assert losses(two) == pytest.approx(losses(one), rel=1e-4)
    first, second = weights(one), weights(two)
    assert first.keys() == second.keys()
    for key in first:
        torch.testing.assert_close(second[key], first[key], rtol=1e-3, atol=1e-4)
    assert answers(two, data) == answers(one, data)


def kill_tree(process):
    """Send SIGKILL to a launcher and all its processes, as when the machine fails."""
    family = [process, *psutil.Process(process.pid).children(recursive=True)]
    for member in family:
        member.kill()
    process.wait()


def wait_for(path, process):
    """Wait until a path exists while the launcher runs."""
    until = time.monotonic() + 600
    while not path.exists():
        assert process.poll() is None, "the run ended before it was killed"
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.parametrize("file", list(PROCESSES))
def test_a_launcher_gives_the_curve_of_one_process_and_survives_a_kill(
    file, flags, way, single, data, tmp_path
):
    processes = PROCESSES[file]
    launch = command(file, "--num_processes", str(processes), "--main_process_port", "0")
    whole, killed, log = tmp_path / "whole", tmp_path / "killed", tmp_path / "log"
    words = [*launch, *flags, *BATCHES[way][processes]]
    finish([*words, "--output", str(whole)], log)
    assert metrics(whole)["processes"] == processes
    assert metrics(whole)["trainable_parameters"] == metrics(single)["trainable_parameters"]
    check_equals(single, whole, data)

    step, delay = random.choice([2, 4, 6]), random.uniform(0, 1)
    process = start([*words, "--output", str(killed)], log)
    wait_for(killed / f"checkpoint-{step}" / "trainer_state.json", process)
    time.sleep(delay)
    kill_tree(process)
    assert not (killed / "metrics.json").exists(), f"killed {delay:.3f} s after step {step}: too late"
    last = checkpoints.last_complete(killed)
    finish([*words, "--output", str(killed), "--resume"], log)
    assert f"from {last.name}" in log.read_text(errors="replace")
    assert losses(killed) == losses(whole), (
        f"killed {delay:.3f} s after step {step}, resumed from {last.name}"
    )
    first, second = weights(whole), weights(killed)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("way", ["padded"], indirect=True)
def test_fsdp_on_cpu_processes_is_refused(flags, way, tmp_path):
    """accelerate would train with DDP."""
    log = tmp_path / "log"
    launch = command("fsdp2", "--num_processes", "2", "--main_process_port", "0")[:-1]
    words = [*launch, "geoclick.train.sft", *flags, *BATCHES[way][2], "--output", str(tmp_path / "run")]
    assert start(words, log).wait(timeout=300) != 0
    errors = [line for line in log.read_text().splitlines() if line.startswith("error: ")]
    assert errors == [
        "error: accelerate has no FSDP for CPUs and would train with DDP; launch with accelerate_configs/cpu2.yaml, or "
        "on GPUs."
    ]


def test_two_machines_are_one_run(flags, way, single, data, tmp_path):
    """Two launchers with one process each, which know each other's address only."""
    output, logs = tmp_path / "run", [tmp_path / "0", tmp_path / "1"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    machines = ["--num_machines", "2", "--num_processes", "2", "--main_process_ip", "127.0.0.1"]
    processes = []
    for rank, log in enumerate(logs):
        launch = command("multi_gpu", *machines, "--main_process_port", port, "--machine_rank", str(rank))
        words = [*launch, *flags, *BATCHES[way][2], "--output", str(output)]
        processes.append(start(words, log))
    for process, log in zip(processes, logs, strict=True):
        assert process.wait(timeout=600) == 0, log.read_text(errors="replace")[-3000:]
    assert metrics(output)["processes"] == 2
    check_equals(single, output, data)


def test_a_launcher_ends_with_an_error_when_one_of_its_processes_is_killed(flags, way, tmp_path):
    """As when memory runs out: nothing may hang, and the run can be resumed."""
    output, log = tmp_path / "run", tmp_path / "log"
    words = [*command("cpu2", "--main_process_port", "0"), *flags, *BATCHES[way][2], "--output", str(output)]
    process = start(words, log)
    wait_for(output / "checkpoint-4" / "trainer_state.json", process)
    ranks = psutil.Process(process.pid).children()
    assert len(ranks) == 2
    random.choice(ranks).kill()
    assert process.wait(timeout=120) != 0
    psutil.wait_procs(ranks, timeout=60)
    assert not any(rank.is_running() for rank in ranks)
    finish([*words, "--resume"], log)
    assert metrics(output)["steps"] == STEPS
