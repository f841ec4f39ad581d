import pytest
import tiny
from peft import LoraConfig, get_peft_model

from geoclick import codec
from geoclick.errors import GeoClickError
from geoclick.vlms import families, loading


@pytest.mark.parametrize("family", families.FAMILIES)
def test_lora_reaches_every_projection_of_the_language_model_and_nothing_else(family, tmp_path):
    model = loading.load(str(tiny.FOLDERS[family](tmp_path))).model
    layers = model.config.text_config.num_hidden_layers
    wrapped = get_peft_model(model, LoraConfig(r=2, target_modules=families.FAMILIES[family].lora_targets))
    names = [name for name, parameter in wrapped.named_parameters() if parameter.requires_grad]
    assert len(names) == layers * 7 * 2
    assert all(".language_model.layers." in name and "lora_" in name for name in names)
    families.check_trainable(wrapped)
    counts = families.trainable_by_tower(wrapped)
    assert counts["language_model"] == sum(p.numel() for p in wrapped.parameters() if p.requires_grad)
    assert counts["visual"] == counts["other"] == 0


def test_a_suffix_list_that_reaches_the_vision_tower_is_refused(tmp_path):
    model = loading.load(str(tiny.qwen2_5_vl_folder(tmp_path))).model
    wrapped = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj", "gate_proj"]))
    assert families.trainable_by_tower(wrapped)["visual"] > 0
    with pytest.raises(GeoClickError, match=r"vision tower, such as \S*visual"):
        families.check_trainable(wrapped)


def test_a_model_with_nothing_to_train_is_refused(tmp_path):
    model = loading.load(str(tiny.qwen3_vl_folder(tmp_path))).model.requires_grad_(False)
    with pytest.raises(GeoClickError, match="No parameter is trainable"):
        families.check_trainable(model)


def test_families_are_those_of_the_codec():
    assert tuple(families.FAMILIES) == codec.FAMILIES
    with pytest.raises(GeoClickError, match=r"'llava'.*give a Qwen-VL"):
        families.family_of("llava")


@pytest.mark.parametrize("family", families.FAMILIES)
def test_the_coordinate_factor_is_the_processors(family, tmp_path):
    images = loading.load(str(tiny.FOLDERS[family](tmp_path))).processor.image_processor
    assert images.patch_size * images.merge_size == families.FAMILIES[family].coordinate_factor
