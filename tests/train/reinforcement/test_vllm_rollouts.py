import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from peft import PeftModel

from geoclick import datasets, vlms
from geoclick.errors import GeoClickError, UsageError
from geoclick.train.reinforcement import vllm_rollouts
from geoclick.vlms import encoding
from tests import tiny
from tests.train.adapters import random_adapter
from tests.train.samples import listed

GENERATION = SimpleNamespace(_fix_param_name_to_vllm=lambda name, extra_prefixes: name)


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    return list(
        datasets.read("folder", listed(tmp_path_factory.mktemp("data"), list("abcd"), side=90), "train")
    )


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_resized_pictures_give_the_pixels_of_the_images(family, samples, tmp_path):
    """Also in a processor with wider limits."""
    folder = str(tiny.FOLDERS[family](tmp_path))
    ours = vlms.load(folder, device="cpu", min_pixels=64 * 64, max_pixels=64 * 64).processor
    theirs = vlms.load(folder, device="cpu", min_pixels=32 * 32, max_pixels=512 * 512).processor
    chosen = [samples[0], samples[2], samples[0]]
    pictures = vllm_rollouts.pictures(ours, chosen)
    assert pictures[0][0] is pictures[2][0]
    assert pictures[0][0].size != (90, 90)
    expected = encoding.process_images(ours, [sample.read_image() for sample in chosen])
    found = encoding.process_images(theirs, [np.asarray(picture) for [picture] in pictures])
    assert torch.equal(found["image_grid_thw"], expected["image_grid_thw"])
    assert torch.equal(found["pixel_values"], expected["pixel_values"])


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("answer_format", ["json", "compact"])
def test_the_pattern_matches_the_answers_about_all_images(family, answer_format, samples, tmp_path):
    vlm = vlms.load(str(tiny.FOLDERS[family](tmp_path)), device="cpu")
    pattern = vllm_rollouts.pattern(vlm, samples, answer_format, 416)
    frame = vlm.frame(samples[0].size, answer_format)
    for clicks in ([], [(0.0, 0.0, True), (89.0, 89.0, False)]):
        assert re.fullmatch(pattern, frame.encode(clicks))
    assert not re.fullmatch(pattern, "the barn")
    assert not re.fullmatch(pattern, frame.encode([(1.0, 1.0, True)]) + " ")


@pytest.mark.parametrize("use_dora", [False, True])
def test_weights_are_merged_without_changing_the_model(tmp_path, use_dora):
    base = tiny.qwen3_vl_folder(tmp_path / "vlm")
    adapter = random_adapter(tmp_path / "adapter", base, use_dora=use_dora)
    models = [
        PeftModel.from_pretrained(vlms.load(str(base), device="cpu").model.to(torch.bfloat16), adapter)
        for _ in range(2)
    ]
    before = {name: weight.clone() for name, weight in models[0].state_dict().items()}
    weights = dict(vllm_rollouts.merged_weights(models[0], GENERATION))
    assert all(torch.equal(weight, before[name]) for name, weight in models[0].state_dict().items())
    merged = dict(models[1].merge_and_unload().named_parameters())
    assert weights.keys() == merged.keys()
    assert all(torch.equal(weight, merged[name]) for name, weight in weights.items())
    original = before["base_model.model.model.language_model.layers.0.self_attn.q_proj.base_layer.weight"]
    assert not torch.equal(weights["model.language_model.layers.0.self_attn.q_proj.weight"], original)


def test_other_numbers_of_visual_tokens_are_refused(tmp_path):
    processor = vlms.load(str(tiny.qwen3_vl_folder(tmp_path)), device="cpu").processor

    def features(length):
        return {"mm_placeholders": {"image": [{"offset": 3, "length": length}]}}

    vllm_rollouts.check_visual_tokens(features(9), features(9), processor)
    with pytest.raises(GeoClickError, match="makes 16 visual tokens of an image of 9; start it with"):
        vllm_rollouts.check_visual_tokens(features(16), features(9), processor)


def arguments(**changes):
    given = {"use_vllm": True, "vllm_structured_outputs_regex": None, "device": torch.device("cpu")}
    return SimpleNamespace(**given | changes)


@pytest.mark.parametrize(
    ("changes", "constrained", "error", "expected"),
    [
        ({}, False, GeoClickError, "use_vllm needs a GPU"),
        ({"use_vllm": False}, True, UsageError, "--constrained has no effect without use_vllm"),
        ({"vllm_structured_outputs_regex": "a"}, True, UsageError, "remove one of them"),
    ],
)
def test_options_that_do_not_work_are_refused(changes, constrained, error, expected):
    with pytest.raises(error, match=expected):
        vllm_rollouts.check(arguments(**changes), constrained=constrained)
    vllm_rollouts.check(arguments(use_vllm=False), constrained=False)
