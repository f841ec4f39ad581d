import importlib.util
import json

import numpy as np
import pytest
import torch
from transformers.utils import quantization_config

from geoclick import vlms
from geoclick.errors import GeoClickError
from geoclick.inference.pipeline import load
from geoclick.train import merge, sft
from geoclick.train.publishing import merge_check
from geoclick.vlms import adapter, quantization
from tests import tiny
from tests.train.adapters import random_adapter, with_record

CPU = torch.device("cpu")


def test_without_bitsandbytes_or_with_split_weights_it_is_one_sentence(monkeypatch):
    monkeypatch.setattr(quantization, "find_spec", lambda name: None)
    with pytest.raises(GeoClickError, match="needs bitsandbytes; pip install"):
        quantization.loading("nf4", torch.bfloat16, CPU, partitioned=False)
    monkeypatch.setattr(quantization, "find_spec", lambda name: object())
    with pytest.raises(GeoClickError, match="split over processes; use accelerate_configs"):
        quantization.loading("nf4", torch.bfloat16, CPU, partitioned=True)


def test_the_configuration_is_that_of_qlora(monkeypatch):
    monkeypatch.setattr(quantization, "find_spec", lambda name: object())
    # It asks for the version of bitsandbytes, which need not be installed to look at the configuration.
    monkeypatch.setattr(quantization_config.importlib.metadata, "version", lambda name: "0.46.0")
    keywords = quantization.loading("nf4", torch.bfloat16, torch.device("cuda", 1), partitioned=False)
    config = keywords["quantization_config"]
    assert config.quantization_method() == "nf4"
    assert config.bnb_4bit_use_double_quant
    assert config.bnb_4bit_compute_dtype == torch.bfloat16
    assert keywords["device_map"] == {"": torch.device("cuda", 1)}


needs_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="pip install geoclick[qlora] to run it"
)


@needs_bitsandbytes
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_the_language_model_is_in_four_bits_and_nothing_else(family, tmp_path):
    import bitsandbytes

    base = str(tiny.FOLDERS[family](tmp_path / "vlm"))
    keywords = quantization.loading("nf4", torch.float32, CPU, partitioned=False)
    model = vlms.load(base, device="cpu", dtype=torch.float32, quantized=keywords).model
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            in_four_bits = isinstance(module, bitsandbytes.nn.Linear4bit)
            assert in_four_bits == (".language_model." in name), name


@needs_bitsandbytes
def test_a_run_learns_and_its_adapter_fits_the_unquantized_base(tmp_path, capsys):
    """On the CPU, where bitsandbytes computes NF4 as well."""
    base = str(tiny.qwen3_vl_folder(tmp_path / "vlm"))
    clicks, root = tiny.click_store(tmp_path, rows=8)
    flags = ["--vlm", base, "--clicks", clicks, "--root", root, "--lora-r", 4, "--learning_rate", 0.03]
    flags += ["--num_train_epochs", 10, "--logging_steps", 1, "--use_cpu", "true", "--save_strategy", "no"]
    flags += ["--quantise", "nf4", "--gradient_checkpointing", "true", "--output", tmp_path / "run"]
    assert sft.main([str(flag) for flag in flags]) == 0, capsys.readouterr().err
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    losses = [entry["loss"] for entry in metrics["loss"]]
    assert sum(losses[-4:]) < sum(losses[:4])
    assert vlms.load(base, adapter=tmp_path / "run").record.config["quantise"] == "nf4"
    assert quantization.kind_of("auto", tmp_path / "run") == "nf4"


def test_the_base_is_loaded_as_in_the_training_unless_another_way_is_chosen(tmp_path, monkeypatch):
    folder = random_adapter(tmp_path / "lora", tiny.qwen3_vl_folder(tmp_path / "vlm"))
    assert [quantization.kind_of(choice, folder) for choice in quantization.CHOICES] == [None, "nf4", None]
    with_record(folder, config={"quantise": "nf4"})
    monkeypatch.setattr(quantization, "find_spec", lambda name: object())
    assert [quantization.kind_of(choice, folder) for choice in quantization.CHOICES] == ["nf4", "nf4", None]
    assert quantization.kind_of("auto", None) is None
    monkeypatch.setattr(quantization, "find_spec", lambda name: None)
    assert quantization.kind_of("none", folder) is None
    with pytest.raises(GeoClickError, match=r"was trained on a base in 4 bits.*--quantise none"):
        quantization.kind_of("auto", folder)


@pytest.fixture
def qlora(tmp_path):
    """An adapter whose record says that its base was in 4 bits, and its base, which rounding changes."""
    base = tiny.qwen3_vl_folder(tmp_path / "vlm", hidden=64)
    folder = random_adapter(tmp_path / "lora", base)
    with_record(folder, config=adapter.read_record(folder).config | {"quantise": "nf4"})
    return base, folder


def first_logits(vlm):
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    questions = merge_check.Questions([image], ["the barn"], "noise")
    return merge_check.ask(vlm, questions, answer_format="compact").logits


@needs_bitsandbytes
def test_the_pipeline_loads_the_base_of_a_qlora_adapter_in_four_bits(qlora):
    import bitsandbytes

    base, folder = qlora
    loaded = {
        choice: load(str(base), folder, device="cpu", quantise=choice).vlm for choice in ("auto", "none")
    }
    layers = {
        choice: sum(isinstance(module, bitsandbytes.nn.Linear4bit) for module in vlm.model.modules())
        for choice, vlm in loaded.items()
    }
    assert layers == {"auto": 14, "none": 0}
    assert (loaded["auto"].quantized, loaded["none"].quantized) == ("nf4", "")
    assert (first_logits(loaded["auto"]) - first_logits(loaded["none"])).abs().max() > 1e-3


@pytest.mark.slow
@needs_bitsandbytes
def test_a_qlora_adapter_is_merged_into_the_base_that_it_was_trained_on(qlora, tmp_path, capsys):
    base, folder = qlora
    output = tmp_path / "merged"
    assert merge.main([str(folder), "--output", str(output), "--check-samples", "2"]) == 0
    assert "memory: the model has" in capsys.readouterr().out
    trained = first_logits(load(str(base), folder, device="cpu").vlm)
    torch.testing.assert_close(
        first_logits(vlms.load(str(output), device="cpu")), trained, atol=1e-3, rtol=1e-3
    )
    plain = tmp_path / "plain"
    arguments = [str(folder), "--output", str(plain), "--check-samples", "2", "--quantise", "none"]
    assert merge.main(arguments) == 0
    unrounded = first_logits(load(str(base), folder, device="cpu", quantise="none").vlm)
    torch.testing.assert_close(
        first_logits(vlms.load(str(plain), device="cpu")), unrounded, atol=1e-4, rtol=1e-4
    )
    assert (trained - unrounded).abs().max() > 1e-3
