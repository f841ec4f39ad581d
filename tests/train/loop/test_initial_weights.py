"""LoRA weights that start from the base's own."""

import json
import shutil

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file

from geoclick import vlms
from geoclick.train import sft
from geoclick.train.loop import initial_weights
from geoclick.train.publishing import adapter_folder
from geoclick.vlms import adapter, families
from tests import tiny

IDS = torch.tensor([[8, 9, 10, 11, 40, 41]])


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return str(tiny.qwen3_vl_folder(tmp_path_factory.mktemp("initial") / "vlm"))


@pytest.fixture(scope="module")
def setting(base, tmp_path_factory):
    """The flags of every run: four steps, with a module that is trained completely."""
    folder = tmp_path_factory.mktemp("data")
    clicks, root = tiny.click_store(folder, rows=16)
    flags = ["--vlm", base, "--clicks", clicks, "--root", root, "--lora-r", 4, "--use_cpu", "true"]
    flags += ["--learning_rate", 0.01, "--logging_steps", 1, "--save_strategy", "steps", "--save_steps", 2]
    flags += [
        "--num_train_epochs",
        1,
        "--tune",
        "language_model",
        "projector",
        "--rank-pattern",
        "projector=2",
    ]
    return list(map(str, [*flags, "--modules-to-save", "language_model.norm"]))


@pytest.fixture
def trained(monkeypatch):
    """The trainers of the runs of a test."""
    trainers, make = [], sft.make_trainer
    monkeypatch.setattr(sft, "make_trainer", lambda *words: trainers.append(make(*words)) or trainers[-1])
    return trainers


def logits(model):
    with torch.no_grad():
        return model.eval()(IDS).logits


@pytest.mark.parametrize("start", ["pissa", pytest.param("pissa_niter_4", marks=pytest.mark.slow), "olora"])
def test_the_saved_adapter_on_the_unchanged_base_is_the_trained_model(
    start, base, setting, trained, tmp_path
):
    output, again = tmp_path / "run", tmp_path / "again"
    assert sft.main([*setting, "--init-lora-weights", start, "--output", str(output)]) == 0
    model = trained[0].model
    expected, plain = logits(model), logits(vlms.load(base).model)
    assert (expected - plain).abs().max() > 0.01
    for folder in (output, output / "checkpoint-4"):
        torch.testing.assert_close(
            logits(vlms.load(base, adapter=folder).model), expected, atol=1e-4, rtol=1e-4
        )
    with model.disable_adapter():
        assert (logits(model) - plain).abs().max() > 0.01
    config = json.loads((output / "adapter_config.json").read_text())
    assert (config["r"], config["init_lora_weights"]) == (8, True)
    assert adapter.read_record(output).config["init_lora_weights"] == start
    shutil.copytree(output, again)
    shutil.rmtree(again / "checkpoint-4")
    (again / adapter.WEIGHTS).unlink()
    (again / "config.yaml").write_text((again / "config.yaml").read_text().replace(str(output), str(again)))
    assert sft.main([*setting, "--init-lora-weights", start, "--output", str(again), "--resume"]) == 0
    one, two = (load_file(folder / adapter.WEIGHTS) for folder in (output, again))
    assert all(torch.equal(one[name], two[name]) for name in one)


def adapted(base, **lora):
    vlm = vlms.load(base)
    targets = families.FAMILIES[vlm.family].lora_targets(["language_model", "projector"])
    torch.manual_seed(0)
    return get_peft_model(vlm.model, LoraConfig(r=4, lora_alpha=8, target_modules=targets, **lora))


@pytest.mark.parametrize(
    "lora", [{}, {"use_rslora": True}, {"rank_pattern": {"linear_fc1": 2}, "alpha_pattern": {"q_proj": 5}}]
)
def test_a_checkpoint_of_another_decomposition_is_the_same_model(lora, base, tmp_path):
    model = adapted(base, init_lora_weights="pissa", **lora)
    torch.testing.assert_close(logits(model), logits(vlms.load(base).model), atol=1e-4, rtol=1e-4)
    initial = initial_weights.of_model(model)
    for name, weight in model.named_parameters():
        if "lora_" in name:
            weight.data += 0.05 * torch.randn(weight.shape)
    expected = logits(model)
    adapter_folder.save(model, tmp_path, adapter.AdapterRecord(**RECORD), None, initial)
    other = adapted(base, init_lora_weights="olora", **lora)
    found = initial_weights.restore(other, tmp_path, initial_weights.of_model(other))
    torch.testing.assert_close(logits(other), expected, atol=1e-4, rtol=1e-4)
    assert all(torch.equal(found[name], value) for name, value in initial.items())
    again = adapted(base, init_lora_weights="pissa", **lora)
    bases = {name: value.clone() for name, value in again.named_parameters() if "base_layer" in name}
    initial_weights.restore(again, tmp_path, initial_weights.of_model(again))
    assert all(torch.equal(again.get_parameter(name), value) for name, value in bases.items())


RECORD = {"base": "b", "revision": "", "family": "qwen3_vl", "fingerprint": "f", "answer_format": "compact"}
RECORD |= {"min_pixels": 1, "max_pixels": 2, "targets": "t"}


def test_eva_takes_directions_of_the_activations_and_does_not_change_the_model(
    setting, base, trained, tmp_path
):
    words = [word for word in setting if word not in ("projector", "projector=2", "--rank-pattern")]
    models = []
    for start in ([], ["--init-lora-weights", "eva"]):
        output = tmp_path / f"run{len(start)}"
        flags = [
            "--max_steps",
            "1",
            "--learning_rate",
            "1e-30",
            "--save_strategy",
            "no",
            "--output",
            str(output),
        ]
        assert sft.main([*words, *start, *flags]) == 0
        models.append(load_file(output / adapter.WEIGHTS))
    assert models[0].keys() == models[1].keys()
    for name, value in models[1].items():
        assert value.shape == models[0][name].shape
        if "lora_A" in name:
            assert not torch.equal(value, models[0][name])
            torch.testing.assert_close(value @ value.T, torch.eye(4), atol=1e-3, rtol=0)
        if "lora_B" in name:
            assert value.abs().max() < 1e-25
    config = json.loads((output / "adapter_config.json").read_text())
    assert (config["init_lora_weights"], config["rank_pattern"], config["eva_config"]) == (True, {}, None)
    assert config["target_modules"] == families.LORA_TARGETS
    assert torch.equal(logits(vlms.load(base, adapter=output).model), logits(vlms.load(base).model))


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (["--init-lora-weights", "pissa", "--use-dora"], 2, "does not go with use_dora"),
        (["--init-lora-weights", "olora", "--quantise", "nf4"], 2, "would not work on the unchanged base"),
        (["--init-lora-weights", "pissa", "--use-rslora"], 2, "takes one rank for all towers"),
        (["--init-lora-weights", "eva"], 2, "use --tune language_model"),
        (["--init-lora-weights", "svd"], 2, "invalid choice"),
        (["--unfreeze", "projector"], 2, "projector cannot be in --tune and in --unfreeze"),
        (["--alpha-pattern", "vision=2"], 2, "names vision, which is not tuned"),
        (["--rank-pattern", "projector=x"], 2, "takes TOWER=NUMBER"),
    ],
)
def test_what_does_not_go_together_is_one_sentence(words, code, expected, setting, tmp_path, capsys):
    assert sft.main([*setting, *words, "--output", str(tmp_path / "run")]) == code
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") == 1
