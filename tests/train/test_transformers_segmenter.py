"""Runs of synth, sft and grpo with a SAM 2 of transformers: every policy, rewards, held-out samples."""

import json

import pytest
import torch

from geoclick import store
from geoclick.data_synthesis import run as synth
from geoclick.data_synthesis.shards.options import ON_POLICY
from geoclick.data_synthesis.simulation.policies import POLICIES
from geoclick.files import sha256
from geoclick.train import grpo, sft
from tests import tiny, tiny_sams
from tests.train.adapters import random_adapter
from tests.train.samples import listed

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.set_num_threads(1)
    return tiny_sams.folder(tmp_path_factory.mktemp("segmenter") / "sam2", "sam2")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Three images, four samples with a target and one without."""
    return listed(tmp_path_factory.mktemp("data"), ["a field", "a barn", "the road", "trees", "a lake"])


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    base = tiny.qwen3_vl_folder(folder / "vlm")
    return random_adapter(folder / "adapter", base, std=0.001)


@pytest.mark.parametrize("policy", [*POLICIES, ON_POLICY])
def test_every_policy_of_synth(policy, folder, root, adapter, tmp_path):
    words = ["--root", root, "--segmenter", folder, "--output", tmp_path, "--policy", policy]
    words += ["--adapter", adapter, "--vlm", adapter.parent / "vlm"] if policy == ON_POLICY else []
    words += ["--max-clicks", 3, "--iou-target", 1, "--device", "cpu"]
    assert synth.main([str(word) for word in words]) == 0
    rows = list(store.read(tmp_path))
    assert len(rows) == 5
    assert sum(bool(row.clicks) for row in rows) == 4
    digest = sha256(folder / "model.safetensors")
    assert {(row.segmenter, row.segmenter_sha256) for row in rows} == {(str(folder), digest)}


def test_grpo_rewards_the_masks_of_the_segmenter(folder, root, adapter, tmp_path, capsys):
    words = [
        "--adapter",
        adapter,
        "--root",
        root,
        "--split",
        "train",
        "--segmenter",
        folder,
        "--max_steps",
        1,
    ]
    words += ["--num_generations", 2, "--per_device_train_batch_size", 2, "--max_completion_length", 12]
    words += ["--evaluate-every", 1, "--evaluate-samples", 2, "--use_cpu", "true", "--save_strategy", "no"]
    assert grpo.main([str(word) for word in (*words, "--output", tmp_path)]) == 0, capsys.readouterr().err
    found = json.loads((tmp_path / "metrics.json").read_text())
    assert found["steps"] == 1
    assert 0 <= found["evaluations"][0]["eval_miou"] <= 1


def test_sft_evaluates_held_out_samples_with_the_segmenter(folder, tmp_path, capsys):
    clicks, root = tiny.click_store(tmp_path, rows=12)
    base = tiny.qwen3_vl_folder(tmp_path / "vlm")
    words = ["--vlm", base, "--clicks", clicks, "--root", root, "--segmenter", folder, "--max_steps", 1]
    words += ["--evaluate-every", 1, "--evaluate-samples", 4, "--use_cpu", "true", "--save_strategy", "no"]
    assert sft.main([str(word) for word in (*words, "--output", tmp_path / "run")]) == 0, (
        capsys.readouterr().err
    )
    found = json.loads((tmp_path / "run/metrics.json").read_text())
    assert 0 <= found["evaluations"][0]["eval_miou"] <= 1
