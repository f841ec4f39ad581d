"""The backend of vLLM with a stand-in for vLLM, which transformers computes."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from geoclick.errors import GeoClickError, UsageError
from geoclick.inference import evaluate, pipeline, predict
from geoclick.inference.backends import vllm_loading
from geoclick.inference.backends.constrained import pattern_of
from geoclick.inference.backends.local import Local
from geoclick.inference.generative.settings import Generation
from geoclick.options import GenerationOptions
from geoclick.vlms import adapter as adapters
from geoclick.vlms import loading
from geoclick.vlms.families import FAMILIES, TOWERS
from tests import fake_vllm, tiny

QUERIES = ["a field", "the largest storage tank north of the road", "bare land", "trees", "the car"]
GENERATION = Generation(answer_format="compact", max_new_tokens=12)


def varied(folder):
    """Give a random model larger weights, so that its answers differ."""
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    torch.manual_seed(0)
    for weight in model.parameters():
        if weight.ndim > 1:
            weight.data.normal_(std=0.4)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=tiny.FAMILIES)
def folder(request, tmp_path_factory):
    return varied(tiny.FOLDERS[request.param](tmp_path_factory.mktemp("vllm") / request.param))


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return varied(tiny.qwen3_vl_folder(tmp_path_factory.mktemp("vllm") / "base"))


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    sizes = [(64, 64), (48, 96), (64, 64), (96, 48), (120, 80)]
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]


@pytest.fixture
def vllm(monkeypatch):
    return fake_vllm.install(monkeypatch)


def save_adapter(base, folder, towers=TOWERS[:1], rank=4, quantise="none", name=None, **options):
    """Save an adapter with random weights; returns its folder. The record calls the base `name`."""
    known = loading.load_base(str(base))
    model = AutoModelForImageTextToText.from_pretrained(base, dtype=torch.float32)
    targets = FAMILIES[known.family].lora_targets(towers)
    wrapped = get_peft_model(model, LoraConfig(r=rank, target_modules=targets, **options))
    torch.manual_seed(1)
    for name, weight in wrapped.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(std=0.3)
    wrapped.save_pretrained(folder)
    least, most = loading.pixel_limits(known.processor)
    record = adapters.AdapterRecord(
        base=name or str(base),
        revision="",
        family=known.family,
        fingerprint=known.fingerprint,
        answer_format="compact",
        min_pixels=least,
        max_pixels=most,
        targets=targets,
        config={"quantise": quantise},
    )
    adapters.write_record(folder, record)
    return folder


def options_of(base, **options):
    return GenerationOptions(backend="vllm", vlm=str(base), **options)


def test_the_answers_are_those_of_transformers(folder, images, vllm):
    local = Local(loading.load(str(folder), device="cpu"), GENERATION)
    backend = vllm_loading.load(options_of(folder), GENERATION)
    answers, expected = backend.answer(images, QUERIES), local.answer(images, QUERIES)
    assert [one.text for one in answers] == [one.text for one in expected]
    assert len({one.text for one in answers}) > 1
    for one, other in zip(answers, expected, strict=True):
        assert one.probability == pytest.approx(other.probability, rel=1e-4)
    for text, size in zip([one.text for one in answers], [(64, 64), (120, 80)], strict=False):
        assert backend.read(text, size) == local.read(text, size)
    (engine,) = vllm
    assert (engine.dtype, engine.load_format, engine.enable_lora) == ("float32", "safetensors", False)
    assert engine.limit_mm_per_prompt == {"image": 1, "video": 0}


def test_the_adapter_is_passed_on(folder, images, vllm, tmp_path):
    adapter = save_adapter(folder, tmp_path / "lora")
    local = Local(loading.load(str(folder), adapter=adapter, device="cpu"), GENERATION)
    plain = Local(loading.load(str(folder), device="cpu"), GENERATION)
    backend = vllm_loading.load(options_of(folder, adapter=str(adapter)), Generation(max_new_tokens=12))
    texts = [one.text for one in backend.answer(images, QUERIES)]
    assert texts == [one.text for one in local.answer(images, QUERIES)]
    assert texts != [one.text for one in plain.answer(images, QUERIES)]
    assert vllm[0].max_lora_rank == 8
    assert (backend.answer_format, backend.record) == ("compact", local.vlm.record)


def test_images_are_resized_within_the_limits_of_the_options(base, images, vllm):
    limits = {"min_pixels": 32 * 32, "max_pixels": 64 * 96}
    local = Local(loading.load(str(base), device="cpu", **limits), GENERATION)
    backend = vllm_loading.load(options_of(base, **limits), GENERATION)
    texts = [one.text for one in backend.answer(images, QUERIES)]
    assert texts == [one.text for one in local.answer(images, QUERIES)]
    vllm[0].processor.image_processor.size = AutoProcessor.from_pretrained(base).image_processor.size
    with pytest.raises(GeoClickError, match="to 2 visual tokens instead of 6, so that its answers would be"):
        backend.answer(images, QUERIES)


def test_answers_are_constrained_to_the_format_about_the_image(vllm, tmp_path, images):
    folder = tiny.qwen2_5_vl_folder(tmp_path / "base")
    free = vllm_loading.load(options_of(folder), GENERATION)
    for backend in (free, replace(free, generation=replace(free.generation, constrained=True))):
        backend.answer(images[:2], QUERIES[:2])
    patterns = [one.structured_outputs and one.structured_outputs.regex for _, one in vllm[0].asked]
    assert patterns == [
        None,
        None,
        *(
            pattern_of(free.base.frame(size, "compact"), free.generation.max_new_tokens)
            for size in ((64, 64), (48, 96))
        ),
    ]
    assert patterns[2] != patterns[3]


def test_sampled_answers_depend_on_the_seed_and_their_number_only(base, images, vllm):
    seeded = vllm_loading.load(options_of(base), replace(GENERATION, temperature=1.5, seed=3))
    together = seeded.sample(images[:2], QUERIES[:2], 3)
    assert [len(replies) for replies in together] == [3, 3]
    seeds = [params.seed for _, params in vllm[0].asked]
    assert len(set(seeds)) == 6
    assert seeded.sample(images[1:2], QUERIES[1:2], 3) == together[1:]
    assert [replies[0] for replies in together] == seeded.answer(images[:2], QUERIES[:2])


def test_a_query_that_is_too_long_fails_alone(base, images, vllm):
    backend = vllm_loading.load(options_of(base), GENERATION)
    replies = backend.answer(images[:3], ["a field", "tank " * 1000, "trees"])
    assert "tokens, which is too long for the model; give a shorter one" in replies[1].error
    assert [bool(one.text) for one in replies] == [True, False, True]
    assert backend.answer(images[:1], ["tank " * 1000])[0].error


def test_sampling_follows_the_seed(base, images, vllm):
    backend = vllm_loading.load(options_of(base), replace(GENERATION, temperature=1.5))

    def sample(seed):
        torch.manual_seed(seed)
        return [one.text for one in backend.answer(images[:1] * 2, QUERIES[:1] * 2)]

    first = sample(1)
    assert first == sample(1)
    assert first[0] != first[1]
    assert len({tuple(sample(seed)) for seed in range(3)}) > 1


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"towers": TOWERS},
            r"tunes projector and vision, which vLLM would ignore; merge it by 'geoclick merge",
        ),
        ({"use_dora": True}, "uses DoRA, which vLLM does not support; merge it"),
        (
            {"alpha_pattern": {"q_proj": 9}},
            "has ranks or scales by tower, .* which vLLM would ignore; merge it",
        ),
        (
            {"rank_pattern": {"q_proj": 9}},
            "has ranks or scales by tower, .* which vLLM would ignore; merge it",
        ),
        ({"rank": 600}, "has rank 600, but vLLM takes 512 at most; merge it"),
        ({"quantise": "nf4"}, "trained on a base in 4 bits, which vLLM does not load; give --quantise none"),
    ],
)
def test_adapters_that_vllm_would_change_are_refused(base, vllm, tmp_path, settings, sentence):
    adapter = save_adapter(base, tmp_path / "lora", **settings)
    with pytest.raises(GeoClickError, match=sentence):
        vllm_loading.load(options_of(base, adapter=str(adapter)), GENERATION)
    assert vllm == []


def test_an_adapter_that_lacks_weights_is_refused(base, vllm, tmp_path):
    from safetensors.torch import load_file, save_file

    adapter = save_adapter(base, tmp_path / "lora")
    weights = load_file(adapter / adapters.WEIGHTS)
    save_file(dict(list(weights.items())[1:]), adapter / adapters.WEIGHTS)
    with pytest.raises(GeoClickError, match="does not match the model: 1 weights are missing"):
        vllm_loading.load(options_of(base, adapter=str(adapter)), GENERATION)


@pytest.mark.parametrize("rank", [1, 8, 9, 300])
def test_the_largest_rank_is_one_that_vllm_accepts(base, tmp_path, rank):
    adapter = save_adapter(base, tmp_path / "lora", rank=rank)
    expected = {1: 1, 8: 8, 9: 16, 300: 320}[rank]
    assert vllm_loading.check_adapter(adapter, loading.load_base(str(base), adapter=adapter)) == expected


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"quantise": "nf4"}, "--quantise nf4 goes with --backend local"),
        ({"device": "cuda:1"}, "set CUDA_VISIBLE_DEVICES instead of --device"),
        ({"base_url": "http://localhost/v1"}, "--base-url goes with --backend openai"),
        ({"gpu_memory_utilization": 1.5}, "--gpu-memory-utilization is at most 1"),
        ({"backend": "local", "tensor_parallel_size": 2}, "--tensor-parallel-size goes with --backend vllm"),
    ],
)
def test_options_that_do_not_fit_are_one_sentence(vllm, options, sentence):
    with pytest.raises(UsageError, match=sentence):
        vllm_loading.check(replace(options_of("x"), **options))


def test_several_processes_are_refused(vllm, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="start one, with --tensor-parallel-size"):
        vllm_loading.check(options_of("x"))


def test_a_missing_or_old_library_is_one_sentence(vllm, monkeypatch):
    import vllm as library

    monkeypatch.setattr(library, "__version__", "0.11.2.dev1+cpu")
    with pytest.raises(GeoClickError, match=r"needs vLLM 0\.30 or newer, not 0\.11\.2"):
        vllm_loading.check(options_of("x"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(GeoClickError, match=r"needs vLLM and a GPU; run pip install 'geoclick\[vllm\]'"):
        vllm_loading.check(options_of("x"))


def test_what_vllm_says_is_one_sentence(base, vllm, images, monkeypatch):
    backend = vllm_loading.load(options_of(base), GENERATION)
    monkeypatch.setattr(fake_vllm.LLM, "_answer", _out_of_memory)
    with pytest.raises(GeoClickError, match=r"^vLLM failed \(CUDA out of memory\); rerun"):
        backend.answer(images[:1], QUERIES[:1])
    monkeypatch.setattr(fake_vllm.LLM, "__post_init__", _out_of_memory)
    with pytest.raises(GeoClickError, match=r"^vLLM cannot load .* \(CUDA out of memory\); change"):
        vllm_loading.load(options_of(base), GENERATION)


def _out_of_memory(*arguments):
    raise RuntimeError("CUDA out of memory.\nTried to allocate")


def test_narrow_images_are_refused_before_vllm_sees_them(base, vllm):
    backend = vllm_loading.load(options_of(base), GENERATION)
    assert backend.refusal((64, 64)) == ""
    assert "too narrow" in backend.refusal((4, 4000))
    assert "too narrow" in backend.refusal((10, 2500))


def test_evaluate_and_predict_use_it_and_record_it(dataset, tiny_segmenter, base, vllm, tmp_path, capsys):
    model = ["--vlm", base, "--max-new-tokens", 12, "--answer-format", "compact", "--device", "cpu"]

    def lines(name, *flags):
        words = ["--root", dataset, "--output", tmp_path / name, *model, *flags]
        assert evaluate.main([*map(str, words)]) == 0
        metrics = json.loads((tmp_path / name / "metrics.json").read_text())
        return (tmp_path / name / "predictions.jsonl").read_bytes(), metrics["protocol"]

    local, protocol = lines("local")
    served, other = lines("vllm", "--backend", "vllm")
    assert served == local
    assert {key for key in other if key not in protocol} == {"backend", "vllm", "tensor_parallel_size"}
    assert (other["backend"], other["vllm"], other["tensor_parallel_size"]) == ("vllm", fake_vllm.VERSION, 1)

    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(tmp_path / "tile.png")
    words = [
        tmp_path / "tile.png",
        "--text",
        "the tank",
        "--output",
        tmp_path / "out",
        "--backend",
        "vllm",
        *model,
    ]
    assert predict.main([*map(str, words)]) == 0
    record = json.loads((tmp_path / "out/tile.json").read_text())
    assert (record["backend"], record["vllm"]) == ("vllm", fake_vllm.VERSION)


def test_the_pipeline_of_python_takes_it(tiny_segmenter, base, vllm, images):
    loaded = pipeline.from_options(options_of(base, device="cpu", max_new_tokens=12), batch_size=4)
    results = loaded.predict_batch(images[:2], QUERIES[:2])
    assert len(results) == 2
    assert vllm[0].asked
