import importlib.util
import json

import pytest
import torch
from transformers.utils import quantization_config

from geoclick import vlms
from geoclick.errors import GeoClickError
from geoclick.train import sft
from geoclick.train.loop import quantization
from tests import tiny

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
@pytest.mark.parametrize("family", tiny.FOLDERS)
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
