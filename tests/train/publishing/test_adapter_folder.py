import json

import pytest
import torch
from huggingface_hub import ModelCard
from peft import AutoPeftModel, LoraConfig, get_peft_model
from transformers import AutoModelForImageTextToText, AutoProcessor

from geoclick import vlms
from geoclick.train import card
from geoclick.train.publishing import adapter_folder, card_text
from geoclick.vlms import adapter, families, loading
from tests import tiny
from tests.train.publishing.test_merged_config import FLAT


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny.qwen2_5_vl_folder(tmp_path_factory.mktemp("base"))


def adapted(base):
    """A VLM with random LoRA weights as the trainers make it, and its record."""
    vlm = vlms.load(str(base), device="cpu", dtype=torch.float32)
    lora = LoraConfig(r=4, target_modules=families.LORA_TARGETS, task_type="CAUSAL_LM")
    torch.manual_seed(1)
    model = get_peft_model(vlm.model, lora)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    least, most = loading.pixel_limits(vlm.processor)
    record = adapter.AdapterRecord(
        base=str(base),
        revision="",
        family=vlm.family,
        fingerprint=vlm.fingerprint,
        answer_format="compact",
        min_pixels=least,
        max_pixels=most,
        targets=families.LORA_TARGETS,
    )
    return vlm, model, record


def logits(model, processor):
    image = torch.zeros(3, 64, 64, dtype=torch.uint8)
    chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "the barn"}]}]
    text = processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    inputs = processor(text=[text], images=[image], return_tensors="pt", input_data_format="channels_first")
    with torch.no_grad():
        return model.float()(**inputs).logits


@pytest.mark.parametrize("name", ["tiny", "embedded"])
def test_peft_and_transformers_open_the_folder_alone(name, base, tmp_path):
    vlm, model, record = adapted("embedded" if name == "embedded" else base)
    adapter_folder.save(model, tmp_path / "lora", record)
    adapter_folder.complete(tmp_path / "lora", vlm.processor, "lora")
    processor = AutoProcessor.from_pretrained(tmp_path / "lora")
    assert type(processor) is type(vlm.processor)
    assert loading.pixel_limits(processor) == loading.pixel_limits(vlm.processor)
    expected = logits(model.eval(), vlm.processor)
    opened = AutoPeftModel.from_pretrained(str(tmp_path / "lora"), dtype=torch.float32)
    torch.testing.assert_close(logits(opened, processor), expected, atol=1e-4, rtol=1e-4)
    direct = AutoModelForImageTextToText.from_pretrained(str(tmp_path / "lora"), dtype=torch.float32)
    torch.testing.assert_close(logits(direct, processor), expected, atol=1e-4, rtol=1e-4)
    again = vlms.load(record.base, adapter=tmp_path / "lora", device="cpu", dtype=torch.float32)
    torch.testing.assert_close(logits(again.model, again.processor), expected, atol=1e-4, rtol=1e-4)


def test_a_base_of_the_hub_is_named_with_its_revision_and_training_goes_on_as_before(base, tmp_path):
    _, model, record = adapted(base)
    changed = vars(record) | {"base": "Qwen/Qwen2.5-VL-3B-Instruct", "revision": "0123abcd"}
    before = model.peft_config["default"].to_dict()
    adapter_folder.save(model, tmp_path / "lora", adapter.AdapterRecord(**changed))
    config = json.loads((tmp_path / "lora" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "Qwen/Qwen2.5-VL-3B-Instruct"
    assert (config["revision"], config["task_type"]) == ("0123abcd", None)
    assert config["auto_mapping"]["base_model_class"] == FLAT["architectures"][0]
    assert model.peft_config["default"].to_dict() == before


def test_the_card_is_ours_and_one_of_a_user_remains(base, tmp_path):
    vlm, model, record = adapted(base)
    folder = tmp_path / "lora"
    adapter_folder.save(model, folder, record)
    assert not (folder / "README.md").exists()
    adapter_folder.complete(folder, vlm.processor, "run/best")
    text = (folder / "README.md").read_text()
    assert card_text.MARK in text
    assert "# run/best\n" in text
    assert card.PEFT_TITLE not in text
    assert "More Information Needed" not in text
    assert str(base.parent) not in text
    assert card.main([str(folder), "--license", "mit"]) == 0
    licensed = (folder / "README.md").read_bytes()
    adapter_folder.save(model, folder, record)
    adapter_folder.complete(folder, vlm.processor, "run/best")
    assert (folder / "README.md").read_bytes() == licensed
    (folder / "README.md").write_text("# Mine\n")
    adapter_folder.save(model, folder, record)
    adapter_folder.complete(folder, vlm.processor, "run/best")
    assert (folder / "README.md").read_text() == "# Mine\n"


def test_the_card_shows_how_to_load_the_adapter_without_geoclick(base, tmp_path):
    vlm, model, record = adapted("embedded")
    adapter_folder.save(model, tmp_path / "lora", record)
    adapter_folder.complete(tmp_path / "lora", vlm.processor, "lora")
    text = ModelCard.load(tmp_path / "lora" / "README.md").text
    assert 'PeftModel.from_pretrained(base, "lora")' in text
    assert "from geoclick.vlms.loading import EMBEDDED" in text
    _, model, record = adapted(base)
    adapter_folder.save(model, tmp_path / "other", record)
    adapter_folder.write_card(tmp_path / "other", "other")
    text = (tmp_path / "other" / "README.md").read_text()
    assert 'AutoPeftModel.from_pretrained("other")' in text
