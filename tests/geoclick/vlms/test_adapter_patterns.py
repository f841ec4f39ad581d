"""A pattern in adapter_config.json that backtracks for ever is refused or harmless; ordinary patterns work."""

import json
import time

import pytest
from peft import LoraConfig

from geoclick import vlms
from geoclick.errors import GeoClickError
from geoclick.vlms import adapter_patterns, families, loading
from tests import tiny
from tests.train.adapters import random_adapter

NAMES = [
    f"model.language_model.layers.{layer}.{part}"
    for layer in range(3)
    for part in ("self_attn.q_proj", "self_attn.v_proj", "mlp.up_proj", "input_layernorm")
]


def names_of(field, value):
    """What PEFT is given for a value of adapter_config.json, applied to NAMES."""
    from peft.tuners.tuners_utils import check_target_module_exists

    options = {"target_modules": ["q_proj"]} | {field: value}
    config = LoraConfig(**options)
    before = config.to_dict()
    with adapter_patterns.names_for_patterns(config, NAMES, "folder"):
        matching = [name for name in NAMES if check_target_module_exists(config, name) is True]
        if isinstance(config.target_modules, str):
            matching = [name for name in NAMES if check_target_module_exists(config, name)]
    assert config.to_dict() == before
    return matching


@pytest.mark.parametrize(
    ("pattern", "ends"),
    [
        (r".*(q_proj|v_proj)$", ("q_proj", "v_proj")),
        (r".*\.layers\.[0-9]+\.self_attn\.(?:q|v)_proj", ("q_proj", "v_proj")),
        (families.LORA_TARGETS, ("q_proj", "v_proj", "up_proj")),
        (families.FAMILIES["qwen3_vl"].lora_targets(families.TOWERS), ("q_proj", "v_proj", "up_proj")),
        (["q_proj", "up_proj"], ("q_proj", "up_proj")),
        (r"no_such_module", ()),
        (r"", ()),
    ],
)
def test_ordinary_targets_match_as_in_peft(pattern, ends):
    expected = [name for name in NAMES if name.endswith(ends)] if ends else []
    assert names_of("target_modules", pattern) == expected


def test_an_excluded_pattern_is_applied():
    from peft.tuners.tuners_utils import check_target_module_exists

    config = LoraConfig(target_modules=r".*_proj", exclude_modules=r".*\.0\..*")
    with adapter_patterns.names_for_patterns(config, NAMES, "folder"):
        assert not any(check_target_module_exists(config, name) is True for name in NAMES)
        kept = [name for name in NAMES if ".0." not in name and "proj" in name]
        assert [n for n in NAMES if hasattr(check_target_module_exists(config, n), "span")] == kept


EVIL = [r"(.*)*x", r"(\w+\.?)+!", r"((a|a|[a-z.0-9_])+)+$x", r"(.*a){30}", r"(?:.?){60}[a-z._0-9]{60}x"]


@pytest.mark.parametrize("field", ["target_modules", "exclude_modules"])
@pytest.mark.parametrize("pattern", EVIL)
def test_a_pattern_that_backtracks_for_ever_ends_in_time(field, pattern, monkeypatch):
    monkeypatch.setattr(adapter_patterns, "SECONDS", 0.5)
    began, message = time.process_time(), ""
    try:
        assert names_of(field, pattern) in ([], [n for n in NAMES if n.endswith("q_proj")])
    except GeoClickError as error:
        message = str(error)
    assert time.process_time() - began < 5
    assert not message or ("takes too long to match" in message and len(message) < 400)


@pytest.mark.parametrize("field", adapter_patterns.PARTS_OF_PATTERNS)
def test_other_patterns_are_plain_names(field):
    def config(text):
        value = {text: 8} if field.endswith("_pattern") and field != "layers_pattern" else [text]
        options = {"layers_to_transform": [0]} if field == "layers_pattern" else {}
        return LoraConfig(target_modules=["q_proj"], **{field: value}, **options)

    for text in ("layers", "lm_head", r"^model\.layers.0.q_proj$"):
        adapter_patterns.check(config(text), NAMES, "folder")
    for text in (*EVIL, "a|b", "x" * 5000, "a" * 3000 + "?"):
        with pytest.raises(GeoClickError, match=f"in {field} .* is not a name of modules"):
            adapter_patterns.check(config(text), NAMES, "folder")


@pytest.mark.parametrize("pattern", ["(", "(?P<a>", "a{2,1}", "x" * 5000])
def test_an_invalid_or_endless_pattern_is_one_sentence(pattern):
    with pytest.raises(GeoClickError, match=r"no valid regular expression|longer than"):
        names_of("target_modules", pattern)


def test_an_adapter_that_would_backtrack_is_refused_before_the_model_is_loaded(tmp_path, monkeypatch):
    base = tiny.qwen3_vl_folder(tmp_path / "base")
    folder = random_adapter(tmp_path / "adapter", base)
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text())
    assert vlms.load(str(base), adapter=folder, device="cpu").model.peft_config["default"].target_modules
    for field in ("target_modules", "exclude_modules"):
        path.write_text(json.dumps(config | {"target_modules": ["q_proj"], field: ".*[A-Z]"}))
        # No time at all: how long a pattern takes depends on the version of regex.
        monkeypatch.setattr(adapter_patterns, "SECONDS", 0.0)
        monkeypatch.setattr(loading, "load_model", lambda *_: pytest.fail("the model is loaded"))
        with pytest.raises(GeoClickError, match=f"{field} .*takes too long"):
            vlms.load(str(base), adapter=folder, device="cpu")
