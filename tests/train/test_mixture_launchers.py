"""Mixtures with chats in two processes: the losses and weights of one process, also with a trained vision tower.

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
    words += ["--lora-r", 4, "--max_steps", 10, "--learning_rate", 0.001, "--logging_steps", 1, "--seed", 3]
    words += ["--save_strategy", "steps", "--save_steps", 2, "--save_total_limit", 9, "--use_cpu", "true"]
    return [str(word) for word in words]


def read(output):
    return json.loads((output / "metrics.json").read_text())


@pytest.mark.parametrize("way", BATCHES)
def test_two_processes_train_as_one_and_survive_a_kill(way, flags, tmp_path):
    single, whole, killed, log = (tmp_path / name for name in ("single", "whole", "killed", "log"))
    assert sft.main([*flags, *BATCHES[way][1], "--output", str(single)]) == 0
    launch = launchers.command("cpu2", "--num_processes", "2", "--main_process_port", "0")
    words = [*launch, *flags, *BATCHES[way][2]]
    launchers.finish([*words, "--output", str(whole)], log)
    one, two = read(single), read(whole)
    assert two["processes"] == 2
    for key in one["loss"][0].keys() | {"loss_talk.jsonl", "loss_clicks"}:
        if key.startswith("loss"):
            # A step without a row of a source has no loss of it.
            found = [{e["step"]: e[key] for e in run["loss"] if key in e} for run in (one, two)]
            assert found[1] == pytest.approx(found[0], rel=1e-4), key
    weights = [load_file(folder / "adapter_model.safetensors") for folder in (single, whole)]
    assert weights[0].keys() == weights[1].keys()
    for key in weights[0]:
        torch.testing.assert_close(weights[1][key], weights[0][key], rtol=1e-3, atol=1e-4)
    assert [s["rows_an_epoch"] for s in two["sources"]] == [8, 12]

    process = launchers.start([*words, "--output", str(killed)], log)
    launchers.wait_for(killed / "checkpoint-4" / "trainer_state.json", process)
    time.sleep(0.2)
    launchers.kill_tree(process)
    assert checkpoints.last_complete(killed)
    launchers.finish([*words, "--output", str(killed), "--resume"], log)
    assert read(killed)["loss"] == two["loss"]
    again = load_file(killed / "adapter_model.safetensors")
    assert all(torch.equal(again[key], weights[1][key]) for key in again)


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
