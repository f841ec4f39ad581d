"""The compiled step gives the tokens of the growing one."""

import numpy as np
import pytest
import torch

from geoclick.vlms import loading
from geoclick.vlms.generation import compiled
from geoclick.vlms.generation.answers import generate
from tests import tiny, tiny_families

FAMILIES = {name: make for name, make in tiny_families.FOLDERS.items() if not name.startswith("qwen3_5")}
"""Those without linear attention; a mixture of experts is one of them."""

QUERIES = ["a field", "the largest storage tank north of the road", "bare land", "trees", "the car"]


def load(folder, device="cpu", dtype=torch.float32):
    vlm = loading.load(str(folder), device=device, dtype=dtype)
    torch.manual_seed(0)
    for weight in vlm.model.parameters():
        if weight.ndim > 1:  # large random weights, or every answer repeats the last token
            weight.data.normal_(std=0.4)
    vlm.model.generation_config.eos_token_id = list(range(2, len(vlm.processor.tokenizer), 7))
    return vlm


def ask(vlm, count=5, **options):
    rng = np.random.default_rng(0)
    sizes = [(64, 64), (48, 96), (64, 64)]
    images = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    owners = [1, 0, 2, 1, 1][:count]
    return generate(
        vlm,
        [images[i] for i in owners],
        QUERIES[:count],
        answer_format="compact",
        max_new_tokens=16,
        **options,
    )


@pytest.fixture
def eager(monkeypatch):
    """The step without compilation, to test the cache and the bookkeeping."""
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)


@pytest.mark.slow  # PyTorch's compiler takes ten seconds to import
@pytest.mark.parametrize("family", FAMILIES)
def test_the_fixed_step_gives_the_same_answers(family, eager, tmp_path):
    vlm = load(FAMILIES[family](tmp_path))
    expected = ask(vlm)
    assert len({answer.tokens for answer in expected}) > 1
    for _ in range(2):
        given = ask(vlm, compile=True)
        assert [one.text for one in given] == [one.text for one in expected]
        assert [one.probability for one in given] == pytest.approx([one.probability for one in expected])
    steps = compiled._steps[vlm.model.model.language_model]
    assert list(steps) == [(8, compiled.LENGTHS)]
    assert [one.text for one in ask(vlm, 2, compile=True)] == [one.text for one in ask(vlm, 2)]
    assert list(steps) == [(8, compiled.LENGTHS), (2, compiled.LENGTHS)]


def test_sizes_are_rounded_up(eager, tmp_path):
    text = load(tiny.qwen3_vl_folder(tmp_path)).model.model.language_model
    for rows, length, size in [
        (1, 1, (1, 256)),
        (2, 256, (2, 256)),
        (3, 257, (4, 512)),
        (16, 600, (16, 768)),
    ]:
        step = compiled.step_of(text, rows, length)
        assert (len(step._ids), step._visible.shape[-1]) == size


@pytest.mark.slow
@pytest.mark.parametrize("family", ["qwen3_vl", "qwen3_vl_moe"])
def test_a_compiled_step_gives_the_same_answers(family, tmp_path):
    vlm = load(FAMILIES[family](tmp_path))
    assert [one.text for one in ask(vlm, compile=True)] == [one.text for one in ask(vlm)]


@pytest.mark.gpu
@pytest.mark.parametrize("family", tiny.FOLDERS)
def test_a_cuda_graph_gives_the_same_answers(family, tmp_path):
    vlm = load(tiny.FOLDERS[family](tmp_path), "cuda")
    expected = [one.text for one in ask(vlm)]
    for _ in range(3):
        assert [one.text for one in ask(vlm, compile=True)] == expected
