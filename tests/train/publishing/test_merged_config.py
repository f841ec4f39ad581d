import json

from transformers import AutoConfig

from geoclick.train.publishing import merged_config
from tests import tiny

FLAT = {
    "architectures": ["Qwen2_5_VLForConditionalGeneration"],
    "hidden_size": 64,
    "intermediate_size": 128,
    "max_window_layers": 2,
    "model_type": "qwen2_5_vl",
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "rope_scaling": {"mrope_section": [2, 3, 3], "type": "mrope"},
    "rope_theta": 500000.0,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "vision_config": {"depth": 1, "hidden_size": 32, "num_heads": 2, "out_hidden_size": 64},
    "vocab_size": 100,
}
"""A config in the form of the released Qwen2.5-VL."""


def test_the_config_of_a_released_model_changes_in_its_dtype_only():
    assert merged_config.readable_config(FLAT, "float32") == FLAT | {"torch_dtype": "float32"}
    assert merged_config.readable_config(FLAT, "bfloat16") == FLAT


def test_older_fields_stand_next_to_those_of_transformers_5():
    rope = {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [4, 2, 2], "mrope_interleaved": True}
    config = {
        "dtype": "float32",
        "text_config": {"dtype": "float32", "rope_parameters": rope},
        "vision_config": {"dtype": "float32"},
        "tie_word_embeddings": True,
        "quantization_config": {"load_in_4bit": True},
    }
    assert merged_config.readable_config(config, "bfloat16") == {
        "dtype": "bfloat16",
        "torch_dtype": "bfloat16",
        "text_config": {
            "dtype": "bfloat16",
            "rope_parameters": rope,
            "rope_theta": 5e6,
            "rope_scaling": {
                "rope_type": "default",
                "mrope_section": [4, 2, 2],
                "mrope_interleaved": True,
            },
            "tie_word_embeddings": True,
        },
        "vision_config": {"dtype": "bfloat16"},
        "tie_word_embeddings": True,
    }


def test_transformers_reads_both_forms_alike(tmp_path):
    for name, make in tiny.FOLDERS.items():
        base, folder = make(tmp_path / name), tmp_path / f"{name}-merged"
        folder.mkdir()
        merged_config.write(base, folder, "bfloat16")
        before, after = AutoConfig.from_pretrained(base), AutoConfig.from_pretrained(folder)
        assert after.text_config.rope_parameters == before.text_config.rope_parameters
        assert str(after.dtype) == "torch.bfloat16"
        assert after.tie_word_embeddings == before.tie_word_embeddings
        assert (folder / "generation_config.json").read_bytes() == (
            base / "generation_config.json"
        ).read_bytes()


def test_transformers_reads_the_form_of_released_models(tmp_path):
    base, folder = tmp_path / "base", tmp_path / "merged"
    base.mkdir()
    folder.mkdir()
    (base / "config.json").write_text(json.dumps(FLAT))
    merged_config.write(base, folder, "float16")
    after = AutoConfig.from_pretrained(folder)
    assert after.text_config.rope_parameters["rope_theta"] == 500000.0
    assert str(after.dtype) == "torch.float16"
