import json

import pytest

from geoclick.errors import GeoClickError
from geoclick.vlms import loading, processor_files
from tests import tiny

QWEN2_VL = {
    "min_pixels": 3136,
    "max_pixels": 12845056,
    "patch_size": 14,
    "processor_class": "Qwen2VLProcessor",
}
QWEN3_VL = {"size": {"longest_edge": 16777216, "shortest_edge": 65536}, "patch_size": 16}
OLD_SIZE = {"size": {"max_pixels": 12845056, "min_pixels": 3136}, "patch_size": 14}
NESTED = {"image_processor": QWEN3_VL, "processor_class": "Qwen3VLProcessor"}


def write(folder, **contents):
    folder.mkdir(exist_ok=True)
    for name, content in contents.items():
        (folder / f"{name}.json").write_text(json.dumps(content, indent=4))
    return folder


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "copy").mkdir()
    return tmp_path / "copy"


@pytest.mark.parametrize(
    ("config", "limits"),
    [
        (QWEN2_VL, (3136, 12845056)),
        (OLD_SIZE, (3136, 12845056)),
        (QWEN3_VL, (65536, 16777216)),
    ],
)
def test_files_are_copied_byte_for_byte_unless_the_pixel_limits_differ(config, limits, tmp_path, folder):
    old = {"tokenizer_class": "Qwen2Tokenizer", "additional_special_tokens": ["<|im_end|>"]}
    base = write(tmp_path / "base", preprocessor_config=config, tokenizer_config=old, vocab={"a": 0})
    (base / "merges.txt").write_text("#version: 0.2\n")
    processor_files.copy(base, folder, min_pixels=limits[0], max_pixels=limits[1])
    for path in base.iterdir():
        assert (folder / path.name).read_bytes() == path.read_bytes()
    processor_files.copy(base, folder, min_pixels=100, max_pixels=200)
    written = json.loads((folder / "preprocessor_config.json").read_text())
    assert written["size"] == {"shortest_edge": 100, "longest_edge": 200}
    assert processor_files.limits(written) == (100, 200)
    assert {key: written[key] for key in config if "pixels" not in key and key != "size"} == {
        key: config[key] for key in config if "pixels" not in key and key != "size"
    }


def test_the_limits_of_a_nested_config_are_set(tmp_path, folder):
    base = write(tmp_path / "base", processor_config=NESTED)
    processor_files.copy(base, folder, min_pixels=100, max_pixels=200)
    written = json.loads((folder / "processor_config.json").read_text())
    assert written["image_processor"] == QWEN3_VL | {"size": {"shortest_edge": 100, "longest_edge": 200}}
    assert written["processor_class"] == "Qwen3VLProcessor"


def test_a_tokenizer_of_transformers_5_has_a_class_and_tokens_that_transformers_4_reads():
    new = {
        "backend": "tokenizers",
        "is_local": True,
        "tokenizer_class": "TokenizersBackend",
        "extra_special_tokens": ["<|im_end|>"],
        "pad_token": "<|pad|>",
    }
    assert processor_files.readable_tokenizer(new) == {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "additional_special_tokens": ["<|im_end|>"],
        "pad_token": "<|pad|>",
    }
    named = {"extra_special_tokens": {"image_token": "<|image_pad|>"}, "tokenizer_class": "Qwen2Tokenizer"}
    assert processor_files.readable_tokenizer(named) == named


@pytest.mark.parametrize("family", tiny.FOLDERS)
def test_the_copy_is_a_processor_with_the_same_tokens(family, tmp_path, folder):
    base = tiny.FOLDERS[family](tmp_path / "base")
    processor_files.copy(base, folder, min_pixels=6272, max_pixels=12544)
    one, two = loading.load_processor(base), loading.load_processor(folder)
    assert loading.pixel_limits(two) == (6272, 12544)
    assert type(one) is type(two)
    text = "<|im_start|>user\n<|vision_start|><|image_pad|> a barn<|im_end|>"
    assert one.tokenizer.encode(text) == two.tokenizer.encode(text)
    assert one.tokenizer.eos_token_id == two.tokenizer.eos_token_id
    assert one.tokenizer.decode(one.tokenizer.encode(text), skip_special_tokens=True) == two.tokenizer.decode(
        two.tokenizer.encode(text), skip_special_tokens=True
    )


def test_a_broken_file_is_an_error(tmp_path, folder):
    base = write(tmp_path / "base", preprocessor_config=[1])
    with pytest.raises(GeoClickError, match="is not a JSON object"):
        processor_files.copy(base, folder, min_pixels=1, max_pixels=2)
    (base / "preprocessor_config.json").write_text("{")
    with pytest.raises(GeoClickError, match="cannot be read as JSON"):
        processor_files.copy(base, folder, min_pixels=1, max_pixels=2)
