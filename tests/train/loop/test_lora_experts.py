"""LoRA of the experts of a mixture: only if asked, through training options, adapter files and merging."""

import pytest
import torch
from transformers import TrainingArguments

from geoclick import vlms
from geoclick.errors import GeoClickError, UsageError
from geoclick.train.loop import lora
from geoclick.train.options.lora import LoraOptions, resolve
from geoclick.vlms import adapter, adapter_towers, families, loading
from geoclick.vlms.adapter import AdapterRecord
from geoclick.vlms.encoding import model_inputs
from tests import tiny_families

MIXTURES = [name for name, family in families.FAMILIES.items() if family.experts]


@pytest.fixture(scope="module", params=MIXTURES)
def folder(request, tmp_path_factory):
    return tiny_families.FOLDERS[request.param](tmp_path_factory.mktemp(request.param))


def trained(folder, path, options):
    """The model of a run with random weights in place of trained ones, its adapter's folder and its weights."""
    vlm = loading.load(str(folder), device="cpu", dtype=torch.float32)
    options = resolve(options)
    targets = lora.new_targets(options, vlm, None, ())
    record = AdapterRecord(
        base=str(folder),
        revision="",
        family=vlm.family,
        fingerprint=vlm.fingerprint,
        answer_format="compact",
        min_pixels=4096,
        max_pixels=4096,
        targets=targets,
        towers=list(options.tune),
    )
    arguments = TrainingArguments(output_dir=str(path / "run"), use_cpu=True, report_to="none")
    model = lora.make_model(options, vlm, arguments, record)
    names = [name for name, weight in model.named_parameters() if weight.requires_grad]
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.2)
    model.save_pretrained(path, save_embedding_layers=False)
    adapter.write_record(path, record)
    adapter_towers.check(record, path)
    return vlm, model, names


def logits(model, vlm):
    image = torch.arange(64 * 64 * 3, dtype=torch.uint8).reshape(64, 64, 3).numpy()
    inputs = model_inputs(vlm, [image, image], ["a barn", "two roads"], answer_format="compact")
    with torch.inference_mode():
        return model(**inputs).logits[:, -1]


@pytest.mark.parametrize("experts", [False, True])
def test_experts_have_lora_only_if_asked_and_adapter_and_merged_model_give_the_same(
    folder, experts, tmp_path
):
    options = LoraOptions(lora_r=2, tune_experts=experts, rank_pattern=("language_model=3",))
    vlm, model, names = trained(folder, tmp_path, options)
    assert all(".lora_" in name and families.tower_of(name) == "language_model" for name in names)
    assert any(".mlp." in name for name in names) == experts
    assert any(".experts." in name for name in names) == experts
    if experts:
        # Rank 3 of each of four experts.
        ranks = {
            p.shape[0] for name, p in model.named_parameters() if ".experts." in name and "lora_A" in name
        }
        assert ranks == {12}
    expected = logits(model.eval(), vlm)
    loaded = vlms.load(str(folder), adapter=tmp_path, device="cpu", dtype=torch.float32)
    torch.testing.assert_close(logits(loaded.model, loaded), expected, rtol=1e-5, atol=1e-5)
    merged = loaded.model.merge_and_unload(safe_merge=True)
    torch.testing.assert_close(logits(merged, loaded), expected, rtol=1e-4, atol=1e-4)
    base = loading.load(str(folder), device="cpu", dtype=torch.float32)
    assert (logits(base.model, base) - expected).abs().max() > 0.01


def test_a_run_goes_on_with_the_experts_of_its_adapter(folder, tmp_path):
    trained(folder, tmp_path, LoraOptions(lora_r=2, tune_experts=True))
    assert resolve(LoraOptions(adapter=str(tmp_path))).tune_experts
    trained(folder, tmp_path / "attention", LoraOptions(lora_r=2))
    with pytest.raises(UsageError, match="trained without tune_experts"):
        resolve(LoraOptions(adapter=str(tmp_path / "attention"), tune_experts=True))


@pytest.mark.parametrize(
    "others",
    [
        {"lora_dropout": 0.1},
        {"use_dora": True},
        {"init_lora_weights": "pissa"},
        {"target_modules": ("q_proj",)},
    ],
)
def test_options_that_experts_do_not_have_are_refused(others):
    with pytest.raises(UsageError, match=f"--tune-experts does not go with {next(iter(others))}"):
        resolve(LoraOptions(tune_experts=True, **others))


def test_a_dense_model_has_no_experts(tmp_path):
    vlm = loading.load(str(tiny_families.qwen3_5_folder(tmp_path)), device="cpu")
    with pytest.raises(GeoClickError, match="is for mixtures of experts"):
        lora.new_targets(resolve(LoraOptions(tune_experts=True)), vlm, None, ())
