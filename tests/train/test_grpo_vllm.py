"""GRPO with answers of vLLM, against stand-ins of its server and of its class LLM."""

import json

import pytest
import torch
from safetensors.torch import load_file

from geoclick.scenes import run
from geoclick.train import grpo
from geoclick.train.reinforcement import rewards
from tests.train import vllm_stand_in
from tests.train.adapters import random_adapter, with_record

SIDE = 128
"""Of the images by the adapter's pixel limits; those of the scenes are 256 pixels."""
OTHERS = {"min_pixels": 1024, "max_pixels": 65536}
"""Limits of vLLM."""


@pytest.fixture(scope="module")
def flags(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vllm")
    assert run.main([str(folder / "scenes"), "--split", "train", "--count", "6", "--seed", "0"]) == 0
    adapter = random_adapter(folder / "adapter", "embedded", clicks="/somewhere/clicks", std=0.05)
    with_record(adapter, answer_format="json", min_pixels=SIDE**2, max_pixels=SIDE**2)
    words = ["--adapter", adapter, "--root", folder / "scenes", "--num_generations", 2, "--seed", 3]
    words += ["--per_device_train_batch_size", 4, "--max_completion_length", 40, "--max_steps", 2]
    words += ["--learning_rate", 0.01, "--warmup_steps", 0, "--logging_steps", 1, "--use_cpu", "true"]
    return [
        str(word) for word in [*words, "--use_vllm", "true", "--save_strategy", "steps", "--save_steps", 2]
    ]


def log_of(output):
    state = json.loads((output / "checkpoint-2" / "trainer_state.json").read_text())
    return [entry for entry in state["log_history"] if "reward" in entry]


@pytest.fixture
def seen(monkeypatch):
    """The samples and texts of all completions."""
    found = []
    score = rewards.score_completions

    def recorded(vlm, segmenter, embeddings, samples, texts, **options):
        found.extend(zip(samples, texts, strict=True))
        return score(vlm, segmenter, embeddings, samples, texts, **options)

    monkeypatch.setattr(rewards, "score_completions", recorded)
    return found


def test_a_server_has_the_policy_of_the_trainer(flags, tmp_path, monkeypatch, seen):
    """The probabilities of the sampled tokens agree in both steps: same prompts, pixels and weights."""
    with vllm_stand_in.serving(vllm_stand_in.Engine(**OTHERS)) as (server, url):
        vllm_stand_in.install(monkeypatch, server.weights)
        words = ["--vllm_mode", "server", "--vllm_server_base_url", url, "--constrained"]
        assert grpo.main([*flags, *words, "--output", str(tmp_path / "run")]) == 0
    assert set(server.engine.sizes) == {(SIDE, SIDE)}
    assert server.engine.updates == 2
    assert server.paths["/inference/v1/generate"] == server.paths["/v1/chat/completions/render"] == 4
    for request in server.requests:
        params = request["sampling_params"]
        assert (params["n"], params["max_tokens"]) == (2, 40)
        assert params["structured_outputs"]["regex"].startswith(r"\[(?:\{")
    assert len(seen) == 8
    assert all(text.strip().startswith("[") for _, text in seen)
    for entry in log_of(tmp_path / "run"):
        assert entry["sampling/sampling_logp_difference/max"] < 1e-3
    assert "constrained: true" in (tmp_path / "run" / "config.yaml").read_text()


@pytest.mark.slow
def test_vllm_in_this_process_gets_prompts_that_it_expands_itself(flags, tmp_path, monkeypatch, seen):
    vllm_stand_in.install(monkeypatch)
    vllm_stand_in.Llm.engine = vllm_stand_in.Engine(**OTHERS)
    words = ["--vllm_mode", "colocate", "--output", str(tmp_path / "run")]
    assert grpo.main([*flags, *words]) == 0
    assert set(vllm_stand_in.Llm.engine.sizes) == {(SIDE, SIDE)}
    assert len(seen) == 8
    for entry in log_of(tmp_path / "run"):
        assert entry["sampling/sampling_logp_difference/max"] < 1e-3
    start = load_file(flags[1] + "/adapter_model.safetensors")
    end = load_file(tmp_path / "run" / "adapter_model.safetensors")
    assert any(not torch.equal(start[name], end[name]) for name in start)


@pytest.mark.slow
def test_a_server_that_resizes_images_again_is_refused(flags, tmp_path, monkeypatch, capsys):
    with vllm_stand_in.serving(vllm_stand_in.Engine()) as (server, url):
        vllm_stand_in.install(monkeypatch, server.weights)
        words = ["--vllm_mode", "server", "--vllm_server_base_url", url, "--output", str(tmp_path / "run")]
        assert grpo.main([*flags, *words]) == 1
    error = capsys.readouterr().err
    assert "makes 64 visual tokens of an image of 16" in error
    assert '--mm-processor-kwargs \'{"min_pixels": 16384, "max_pixels": 16384}\'' in error


@pytest.mark.slow
@pytest.mark.parametrize("broken", ["/inference/v1/generate", "/v1/models"])
def test_errors_of_a_server_are_one_sentence(flags, tmp_path, monkeypatch, capsys, broken):
    with vllm_stand_in.serving(vllm_stand_in.Engine(**OTHERS)) as (server, url):
        server.broken = broken
        vllm_stand_in.install(monkeypatch, server.weights)
        words = ["--vllm_mode", "server", "--vllm_server_base_url", url, "--output", str(tmp_path / "run")]
        assert grpo.main([*flags, *words]) == 1
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert "could not be sampled by the vLLM server" in line
    assert "the engine is dead" in line


def test_a_server_that_is_not_there_is_one_sentence(flags, tmp_path, monkeypatch, capsys):
    vllm_stand_in.install(monkeypatch)
    words = ["--vllm_mode", "server", "--vllm_server_base_url", "http://127.0.0.1:9"]
    assert grpo.main([*flags, *words, "--vllm_server_timeout", "0.1", "--output", str(tmp_path / "run")]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert "can't be reached at http://127.0.0.1:9" in error
    assert "could not be sampled by the vLLM server" in error


@pytest.mark.parametrize("mode", ["colocate", "server"])
def test_a_missing_vllm_is_one_sentence(flags, tmp_path, capsys, mode):
    assert grpo.main([*flags, "--vllm_mode", mode, "--output", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "use_vllm in the command line needs the package vllm, which is not installed" in error
