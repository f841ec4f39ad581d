import json

import pytest
import torch
from safetensors.torch import load_file

from geoclick.train.embedded import vlm

WORDS = ["--steps", "4", "--questions", "12", "--scenes", "24", "--save-every", "2", "--log-every", "2"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def train(cache, output):
    return vlm.main(["--cache", str(cache), "--output", str(output), *WORDS])


@pytest.mark.slow
def test_a_stopped_run_goes_on_to_the_same_weights(cache, tmp_path, monkeypatch):
    assert train(cache, tmp_path / "whole") == 0
    save = vlm._save

    def save_and_stop(*args):
        save(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(vlm, "_save", save_and_stop)
    assert train(cache, tmp_path / "stopped") != 0
    monkeypatch.undo()
    assert torch.load(tmp_path / "stopped" / "state.pt", weights_only=True)["step"] == 2
    assert train(cache, tmp_path / "stopped") == 0
    whole, stopped = (
        load_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "stopped")
    )
    assert whole.keys() == stopped.keys()
    assert all(torch.equal(whole[name], stopped[name]) for name in whole)
    rows = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 4]
    assert 0 <= rows[-1]["pointing_accuracy"] <= 1
