import re

import pytest
import torch
from peft import LoraConfig, get_peft_model

from geoclick import codec
from geoclick.errors import GeoClickError
from geoclick.vlms import families, loading
from tests import tiny, tiny_families


def linears(model, within):
    """Names of the linear layers of a tower; of a mixture of experts without those of its MLPs."""
    found = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    mixture = families.FAMILIES[model.config.model_type].experts and within == "language_model"
    found = [name for name in found if not (mixture and ".mlp." in name)]
    return {name for name in found if families.tower_of(f"{name}.weight") == within}


@pytest.mark.parametrize("family", families.FAMILIES)
@pytest.mark.parametrize(
    "towers",
    [
        ("language_model",),
        ("projector",),
        ("vision", "language_model"),
        ("language_model", "projector", "vision"),
    ],
)
def test_lora_adapts_every_linear_layer_of_the_given_towers_and_no_other(family, towers, tmp_path):
    model = loading.load(str(tiny_families.FOLDERS[family](tmp_path))).model
    families.check_targets(model, family, towers)
    expected = set().union(*(linears(model, tower) for tower in towers))
    wrapped = get_peft_model(
        model, LoraConfig(r=2, target_modules=families.FAMILIES[family].lora_targets(towers))
    )
    names = {name for name, parameter in wrapped.named_parameters() if parameter.requires_grad}
    assert {name.partition(".lora_")[0].removeprefix("base_model.model.") for name in names} == expected
    families.check_trainable(wrapped, towers)
    counts = families.trainable_by_tower(wrapped)
    assert {tower for tower, count in counts.items() if count} == set(towers)
    assert sum(counts.values()) == sum(p.numel() for p in wrapped.parameters() if p.requires_grad)
    for other in set(families.TOWERS) - set(towers):
        with pytest.raises(GeoClickError, match=f"No parameter of {other}"):
            families.check_trainable(wrapped, [*towers, other])
    for one in towers[1:]:
        with pytest.raises(GeoClickError, match=r"trainable parameters are outside"):
            families.check_trainable(wrapped, set(towers) - {one})


def test_the_deepstack_mergers_belong_to_the_projector(tmp_path):
    model = loading.load(str(tiny.qwen3_vl_folder(tmp_path))).model
    assert any("deepstack_merger_list.0" in name for name in linears(model, "projector"))


def test_a_suffix_list_that_reaches_the_vision_tower_is_refused(tmp_path):
    model = loading.load(str(tiny.qwen2_5_vl_folder(tmp_path))).model
    wrapped = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj", "gate_proj"]))
    assert families.trainable_by_tower(wrapped)["vision"] > 0
    with pytest.raises(GeoClickError, match=r"outside language_model, such as \S*visual"):
        families.check_trainable(wrapped)


def test_a_model_with_nothing_to_train_is_refused(tmp_path):
    model = loading.load(str(tiny.qwen3_vl_folder(tmp_path))).model.requires_grad_(False)
    with pytest.raises(GeoClickError, match="No parameter of language_model is trainable"):
        families.check_trainable(model)


def test_families_are_those_of_the_codec():
    assert tuple(families.FAMILIES) == codec.FAMILIES == tuple(tiny_families.FOLDERS)
    with pytest.raises(GeoClickError, match=r"'llava'.*give a Qwen-VL"):
        families.family_of("llava")
    with pytest.raises(
        GeoClickError, match=r"'qwen3_omni_moe', but .* qwen3_vl_moe, qwen3_5, qwen3_5_moe; give"
    ):
        families.family_of("qwen3_omni_moe")


@pytest.mark.parametrize(("family", "count"), [("qwen3_vl_moe", 3), ("qwen3_5_moe", 9)])
def test_experts_and_the_mlps_next_to_them_are_adapted_only_if_asked(family, count, tmp_path):
    model = loading.load(str(tiny_families.FOLDERS[family](tmp_path))).model
    parameters = families.expert_weights(model, family)
    assert all(model.get_parameter(name).dim() == 3 for name in parameters)
    layers = 2 if family == "qwen3_vl_moe" else 3
    assert len(parameters) == 2 * layers
    rules = families.FAMILIES[family]
    names = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    few, many = (re.compile(rules.lora_targets(experts=experts)) for experts in (False, True))
    added = [name for name in names if many.fullmatch(name) and not few.fullmatch(name)]
    assert len(added) == count
    assert all(".mlp." in name for name in added)


def test_experts_of_other_families_and_of_other_names_are_refused(tmp_path):
    model = loading.load(str(tiny_families.qwen3_vl_moe_folder(tmp_path))).model
    with pytest.raises(
        GeoClickError, match=r"mixtures of experts \(qwen3_vl_moe, qwen3_5_moe\), and this is qwen3_5;"
    ):
        families.expert_weights(model, "qwen3_5")
    with pytest.raises(GeoClickError, match=r"has no parameters mlp\.experts"):
        families.expert_weights(model.model.visual, "qwen3_vl_moe")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("q_proj", "query", "12 modules of the language_model of this qwen3_vl instead of 14"),
        ("linear_fc1", "first", "0 modules of the projector"),
    ],
)
def test_modules_of_other_names_are_refused_before_training(tmp_path, old, new, expected):
    model = loading.load(str(tiny.qwen3_vl_folder(tmp_path / "vlm"))).model
    families.check_targets(model, "qwen3_vl", families.TOWERS)
    for name, module in list(model.named_modules()):
        owner, _, last = name.rpartition(".")
        if last in (old, old.replace("fc1", "fc2")):
            parent = model.get_submodule(owner)
            setattr(parent, f"{new}{last[-1]}", module)
            delattr(parent, last)
    with pytest.raises(GeoClickError, match=expected):
        families.check_targets(model, "qwen3_vl", families.TOWERS)


@pytest.mark.parametrize("family", families.FAMILIES)
def test_the_towers_of_a_record_are_those_of_its_targets(family):
    rules = families.FAMILIES[family]
    for towers in (("language_model",), ("projector",), ("language_model", "vision"), families.TOWERS):
        assert rules.towers_of(rules.lora_targets(towers)) == towers
    if not (rules.experts or rules.recurrent):
        assert rules.lora_targets() == families.LORA_TARGETS
    with pytest.raises(GeoClickError, match="LoRA targets that this GeoClick does not know"):
        rules.towers_of(".*")
