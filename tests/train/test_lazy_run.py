"""Runs on rows that are rendered when they are read: the losses of rows rendered before the first step, bit by bit."""

import json

import pytest
import torch
from safetensors.torch import load_file

from geoclick.train import sft
from geoclick.train.data import sources
from tests import tiny
from tests.train import eager_rows

WAYS = {
    "padded": ["--per_device_train_batch_size", 2],
    "workers": ["--per_device_train_batch_size", 2, "--dataloader_num_workers", 2],
    "packed": ["--packing-tokens", 300],
    "augmented": ["--packing-tokens", 300, "--augment", "flip", "jitter"],
    "grouped": ["--per_device_train_batch_size", 2, "--train_sampling_strategy", "group_by_length"],
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A tiny VLM, a click store, and chats with and without images."""
    folder = tmp_path_factory.mktemp("lazy")
    tiny.qwen3_vl_folder(folder / "vlm")
    _, root = tiny.click_store(folder, rows=12)
    lines = [
        {
            "messages": [
                {"role": "user", "content": f"Is it {n}?"},
                {"role": "assistant", "content": f"It is {n}."},
            ],
            "images": ["0000.png"] * (n % 2),
        }
        for n in range(4)
    ]
    path = root / "train/images/talk.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def eager(options, source, vlm, held_out):
    """As `sources.build_one`, rendered at once."""
    if source.is_chats:
        return eager_rows.of_chats(source.path, source.root, vlm), {}
    return eager_rows.of_store(
        source.path, source.root, vlm, answer_format=source.answer_format, raw=options.augments
    ), {}


@pytest.mark.parametrize(
    "way", [pytest.param("padded", marks=pytest.mark.slow), *(way for way in WAYS if way != "padded")]
)
def test_losses_and_weights_are_those_of_eager_rows(way, data, tmp_path, monkeypatch):
    words = ["--vlm", data / "vlm", "--clicks", data / "clicks", "--root", data / "data", "--seed", 3]
    words += ["--chats", data / "data/train/images/talk.jsonl", "--lora-r", 4, "--num_train_epochs", 2]
    words += ["--weights", 0.7, "--chat-weights", 0.3, *WAYS[way], "--learning_rate", 0.01]
    words += ["--logging_steps", 1, "--save_strategy", "no", "--use_cpu", "true", "--feature-memory-gb", 0]
    found = {}
    for name in ("lazy", "eager"):
        if name == "eager":
            monkeypatch.setattr(sources, "build_one", eager)
        output = tmp_path / name
        assert sft.main([str(word) for word in [*words, "--output", output]]) == 0
        losses = json.loads((output / "metrics.json").read_text())["loss"]
        found[name] = losses, load_file(output / "adapter_model.safetensors")
    assert found["lazy"][0] == found["eager"][0]
    assert len(found["lazy"][0]) >= 6
    weights = [found[name][1] for name in ("lazy", "eager")]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
