"""Mixtures with chats under each launcher: the losses and weights of one process, also from an adapter.

Batches without images are frequent here: in one process's batch of a single row, and in its packs.
"""

import json
import time

import pytest
import torch
from safetensors.torch import load_file

from geoclick.train import sft
from geoclick.train.loop import checkpoints
from tests import tiny
from tests.train import test_launchers as launchers

pytestmark = pytest.mark.slow

BATCHES = {
    "padded": {1: ["--per_device_train_batch_size", "2"], 2: ["--per_device_train_batch_size", "1"]},
    "packed": {
        1: ["--packing-tokens", "170", "--gradient_accumulation_steps", "2"],
        2: ["--packing-tokens", "170"],
    },
}

STEPS = [
    *("--learning_rate", "0.001", "--logging_steps", "1", "--seed", "3", "--lora-r", "4"),
    *("--save_strategy", "steps", "--save_steps", "2", "--save_total_limit", "9", "--use_cpu", "true"),
]


@pytest.fixture(scope="module")
def flags(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixture")
    base = tiny.qwen3_vl_folder(folder / "vlm")
    clicks, root = tiny.click_store(folder, rows=12)
    lines = [
        {
            "messages": [
                {"role": "user", "content": f"Question {n}?"},
                {"role": "assistant", "content": f"Answer {n}."},
            ],
            "images": ["0000.png"] if n % 4 == 0 else [],
        }
        for n in range(12)
    ]
    chats = root / "train/images/talk.jsonl"
    chats.write_text("".join(json.dumps(line) + "\n" for line in lines))
    words = ["--vlm", base, "--clicks", clicks, "--root", root, "--weights", 0.4]
    words += ["--chats", chats, "--chat-weights", 0.6, "--tune", "language_model", "projector", "vision"]
    return [*map(str, words), *STEPS, "--max_steps", "10"]


def read(output):
    return json.loads((output / "metrics.json").read_text())


@pytest.fixture(scope="module")
def adapter(flags, tmp_path_factory):
    """A finished run on the clicks alone, whose vision tower is as in the base."""
    output = tmp_path_factory.mktemp("first") / "run"
    words = flags[: flags.index("--weights")]
    assert sft.main([*words, *STEPS, "--max_steps", "2", "--output", str(output)]) == 0
    return output


def same_up_to_rounding(one, two):
    """Two folders have the same losses, of each source too, and the same weights."""
    first, second = read(one)["loss"], read(two)["loss"]
    for key in first[0].keys() | {"loss_talk.jsonl", "loss_clicks"}:
        if key.startswith("loss"):
            # A step without a row of a source has no loss of it.
            found = [{e["step"]: e[key] for e in entries if key in e} for entries in (first, second)]
            assert found[1] == pytest.approx(found[0], rel=1e-4), key
    weights = [load_file(folder / "adapter_model.safetensors") for folder in (one, two)]
    assert weights[0].keys() == weights[1].keys()
    for key in weights[0]:
        torch.testing.assert_close(weights[1][key], weights[0][key], rtol=1e-3, atol=1e-4)


def same(one, two):
    """Two folders have the same losses and weights to the last bit."""
    assert read(one)["loss"] == read(two)["loss"]
    weights = [load_file(folder / "adapter_model.safetensors") for folder in (one, two)]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def kill_after_a_checkpoint(words, output, log):
    process = launchers.start([*words, "--output", str(output)], log)
    launchers.wait_for(output / "checkpoint-4" / "trainer_state.json", process)
    time.sleep(0.2)
    launchers.kill_tree(process)
    assert checkpoints.last_complete(output)
    assert not (output / "metrics.json").exists()


@pytest.mark.parametrize("way", BATCHES)
@pytest.mark.parametrize("file", launchers.PROCESSES)
def test_a_stage_on_a_mixture_trains_as_one_process_and_survives_a_kill(file, way, flags, adapter, tmp_path):
    single, whole, killed, log = (tmp_path / name for name in ("single", "whole", "killed", "log"))
    stage = [*flags, "--adapter", str(adapter)]
    assert sft.main([*stage, *BATCHES[way][1], "--output", str(single)]) == 0
    processes = launchers.PROCESSES[file]
    launch = launchers.command(file, "--num_processes", str(processes), "--main_process_port", "0")
    words = [*launch, *stage, *BATCHES[way][processes]]
    launchers.finish([*words, "--output", str(whole)], log)
    assert read(whole)["processes"] == processes
    same_up_to_rounding(single, whole)
    kill_after_a_checkpoint(words, killed, log)
    launchers.finish([*words, "--output", str(killed), "--resume"], log)
    same(whole, killed)


@pytest.mark.parametrize("way", BATCHES)
def test_a_run_of_two_processes_is_resumed_by_one_at_the_same_row(way, flags, adapter, tmp_path):
    single, killed, log = (tmp_path / name for name in ("single", "killed", "log"))
    stage = [*flags, "--adapter", str(adapter)]
    assert sft.main([*stage, *BATCHES[way][1], "--output", str(single)]) == 0
    launch = launchers.command("cpu2", "--num_processes", "2", "--main_process_port", "0")
    kill_after_a_checkpoint([*launch, *stage, *BATCHES[way][2]], killed, log)
    assert sft.main([*stage, *BATCHES[way][1], "--output", str(killed), "--resume"]) == 0
    assert read(killed)["processes"] == 1
    same_up_to_rounding(single, killed)


@pytest.mark.parametrize("way", BATCHES)
def test_two_processes_train_as_one_and_survive_a_kill(way, flags, tmp_path):
    single, whole, killed, log = (tmp_path / name for name in ("single", "whole", "killed", "log"))
    assert sft.main([*flags, *BATCHES[way][1], "--output", str(single)]) == 0
    launch = launchers.command("cpu2", "--num_processes", "2", "--main_process_port", "0")
    words = [*launch, *flags, *BATCHES[way][2]]
    launchers.finish([*words, "--output", str(whole)], log)
    assert read(whole)["processes"] == 2
    assert [s["rows_an_epoch"] for s in read(whole)["sources"]] == [8, 12]
    same_up_to_rounding(single, whole)
    kill_after_a_checkpoint(words, killed, log)
    launchers.finish([*words, "--output", str(killed), "--resume"], log)
    same(whole, killed)


@pytest.mark.parametrize("way", BATCHES)
@pytest.mark.parametrize("file", ["zero3", "fsdp2"])
def test_a_partitioned_model_has_the_losses_of_one_process(file, way, flags, tmp_path):
    single, whole = tmp_path / "single", tmp_path / "whole"
    few = [*flags, "--max_steps", "4"]
    assert sft.main([*few, *BATCHES[way][1], "--output", str(single)]) == 0
    launch = launchers.command(file, "--num_processes", "2", "--main_process_port", "0")
    launchers.finish([*launch, *few, *BATCHES[way][2], "--output", str(whole)], tmp_path / "log")
    one, two = (read(output)["loss"] for output in (single, whole))
    assert len(one) == 4
    assert [e["loss"] for e in two] == pytest.approx([e["loss"] for e in one], rel=1e-4)
