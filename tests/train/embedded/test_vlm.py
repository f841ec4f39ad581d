import json

import pytest
import torch
from safetensors.torch import load_file

from geoclick.train.embedded import vlm
from geoclick.train.embedded.vlm_trainer import VlmTrainer

ARGUMENTS = ["--steps", "4", "--questions", "12", "--scenes", "24", "--save-every", "2", "--log-every", "2"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def train(cache, output):
    return vlm.main(["--cache", str(cache), "--output", str(output), *ARGUMENTS])


@pytest.mark.slow
def test_resumed_run_ends_in_the_weights_of_an_uninterrupted_one(cache, tmp_path, monkeypatch):
    assert train(cache, tmp_path / "uninterrupted") == 0
    save = VlmTrainer.save

    def save_and_stop(trainer):
        save(trainer)
        raise KeyboardInterrupt

    monkeypatch.setattr(VlmTrainer, "save", save_and_stop)
    assert train(cache, tmp_path / "stopped") != 0
    monkeypatch.undo()
    assert torch.load(tmp_path / "stopped" / "state.pt", weights_only=True)["step"] == 2
    assert train(cache, tmp_path / "stopped") == 0
    expected, resumed = (
        load_file(tmp_path / name / "model" / "model.safetensors") for name in ("uninterrupted", "stopped")
    )
    assert expected.keys() == resumed.keys()
    assert all(torch.equal(expected[name], resumed[name]) for name in expected)
    log = tmp_path / "uninterrupted" / "log.jsonl"
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 4]
    assert 0 <= rows[-1]["pointing_accuracy"] <= 1
