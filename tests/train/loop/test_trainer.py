import pytest
import torch
from safetensors.torch import load_file

from geoclick.train import sft
from geoclick.vlms.families import tower_of
from tests import tiny

TOWERS = ["language_model", "projector", "vision"]


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    """The flags of every run: one step of plain gradient descent on the towers' LoRA weights."""
    folder = tmp_path_factory.mktemp("trainer")
    base = tiny.qwen3_vl_folder(folder / "vlm")
    clicks, root = tiny.click_store(folder, rows=4)
    flags = ["--vlm", base, "--clicks", clicks, "--root", root, "--lora-r", 4, "--tune", *TOWERS]
    flags += [
        "--max_steps",
        1,
        "--optim",
        "sgd",
        "--learning_rate",
        1,
        "--warmup_steps",
        0,
        "--max_grad_norm",
        0,
    ]
    return [str(flag) for flag in [*flags, "--use_cpu", "true", "--logging_steps", 1]]


def steps(folder):
    """The update of `lora_B`, which starts at zero, by tower."""
    weights = load_file(folder / "adapter_model.safetensors")
    found = {tower: {} for tower in TOWERS}
    for name, value in weights.items():
        if "lora_B" in name:
            found[tower_of(name)][name] = value
    return found


def test_each_tower_has_its_own_learning_rate_also_after_a_resume(setting, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    assert sft.main([*setting, "--output", str(one)]) == 0
    rates = ["--projector-lr", "0.5", "--vision-lr", "0.25", "--save_strategy", "steps", "--save_steps", "1"]
    assert sft.main([*setting, *rates, "--output", str(two)]) == 0
    expected, found = steps(one), steps(two)
    for tower, rate in zip(TOWERS, (1, 0.5, 0.25), strict=True):
        assert any(torch.any(value != 0) for value in expected[tower].values())
        for name, value in expected[tower].items():
            torch.testing.assert_close(found[tower][name], value * rate, rtol=1e-5, atol=1e-7)
    for file in ("adapter_model.safetensors", "metrics.json"):
        (two / file).unlink()
    assert sft.main([*setting, *rates, "--output", str(two), "--resume"]) == 0
    assert steps(two).keys() == found.keys()
    for tower in TOWERS:
        assert all(torch.equal(steps(two)[tower][name], value) for name, value in found[tower].items())
