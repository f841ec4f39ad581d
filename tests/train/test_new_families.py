"""Mixtures of experts and models with linear attention, from training in two processes to a mask."""

import json

import pytest
import torch
from safetensors.torch import load_file

from geoclick import vlms
from geoclick.inference import evaluate, predict
from geoclick.train import grpo, merge, sft
from geoclick.train.data import rows
from geoclick.vlms import loading
from geoclick.vlms.families import FAMILIES
from tests import tiny, tiny_families
from tests.train import test_launchers as launchers
from tests.train.packing.test_packed_forward import padded_losses
from tests.train.samples import listed

pytestmark = pytest.mark.slow

STEPS = 3
ALL_IN_ONE = ["--max_steps", "1", "--optim", "sgd", "--learning_rate", "1", "--warmup_steps", "0"]
ALL_IN_ONE += ["--max_grad_norm", "0"]
"""One step of plain gradient descent, whose weights show the gradients."""


@pytest.fixture(scope="module", params=tiny_families.NEW)
def family(request):
    torch.set_num_threads(1)
    return request.param


@pytest.fixture(scope="module")
def setting(family, tmp_path_factory):
    """The VLM, the flags of all runs on 8 rows, and those for LoRA of the experts where there are some."""
    folder = tmp_path_factory.mktemp(family)
    vlm = tiny_families.NEW[family](folder / "vlm")
    clicks, root = tiny.click_store(folder, rows=8)
    words = ["--vlm", vlm, "--clicks", clicks, "--root", root, "--lora-r", 2, "--seed", 7]
    words += ["--lora-dropout", 0, "--logging_steps", 1, "--save_strategy", "no", "--use_cpu", "true"]
    return vlm, [str(word) for word in words], ["--tune-experts"] if FAMILIES[family].experts else []


@pytest.fixture(scope="module")
def packed(setting):
    _, flags, experts = setting
    more = [*experts, "--packing-tokens", "260", "--max_steps", str(STEPS), "--learning_rate", "0.01"]
    return [*flags, *more, "--feature-memory-gb", "0"]


@pytest.fixture(scope="module")
def single(packed, tmp_path_factory):
    """The run of one process."""
    output = tmp_path_factory.mktemp("single") / "run"
    assert sft.main([*packed, "--gradient_accumulation_steps", "2", "--output", str(output)]) == 0
    return output


def losses(output):
    return [entry["loss"] for entry in json.loads((output / "metrics.json").read_text())["loss"]]


def weights(output):
    return load_file(output / "adapter_model.safetensors")


def check_weights(one, two, *, rtol, atol):
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=rtol, atol=atol)


def test_the_models_are_small_and_only_what_is_asked_for_has_lora(family, setting, single):
    model = loading.load_model(setting[0], torch.float32)
    assert sum(weight.numel() for weight in model.parameters()) < 5e6
    names = weights(single).keys()
    assert all(".language_model." in name and ".lora_" in name for name in names)
    assert any(".self_attn." in name for name in names)
    assert any(".experts." in name for name in names) == FAMILIES[family].experts
    assert any(".linear_attn." in name for name in names) == FAMILIES[family].recurrent
    assert losses(single)[-1] < losses(single)[0]


def test_by_default_experts_have_no_lora(family, setting, tmp_path):
    assert sft.main([*setting[1], *ALL_IN_ONE, "--output", str(tmp_path / "run")]) == 0
    names = weights(tmp_path / "run").keys()
    assert any(".mlp." in name for name in names) != FAMILIES[family].experts
    assert not any(".experts." in name or "shared_expert" in name for name in names)


def test_packs_train_as_one_padded_batch(setting, tmp_path):
    folder, flags, experts = setting
    one, two = tmp_path / "padded", tmp_path / "packed"
    words = [*flags, *experts, *ALL_IN_ONE, "--feature-memory-gb", "0"]
    assert sft.main([*words, "--output", str(one), "--per_device_train_batch_size", "8"]) == 0
    more = ["--packing-tokens", "260", "--gradient_accumulation_steps", "8"]
    assert sft.main([*words, "--output", str(two), *more]) == 0
    assert json.loads((two / "metrics.json").read_text())["packs"] > 1
    # The base's own loss of single samples: LoRA changes nothing yet, and no loss of routers is added.
    vlm = vlms.load(str(folder), device="cpu")
    places = [flags[flags.index(name) + 1] for name in ("--clicks", "--root")]
    dataset, _ = rows.build(*places, vlm, answer_format="compact", max_clicks=6, min_iou=0.0)
    samples = [dataset[i] for i in range(len(dataset))]
    with torch.no_grad():
        summed = padded_losses(vlm, samples).sum().item()
    tokens = sum(len(row["completion_ids"]) for row in samples)
    assert losses(one) == pytest.approx([summed / tokens], rel=1e-5)
    assert losses(two) == pytest.approx(losses(one), rel=1e-5)
    check_weights(weights(one), weights(two), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("launcher", ["multi_gpu", "zero2"])
def test_two_processes_have_the_curve_and_weights_of_one(launcher, packed, single, tmp_path):
    launch = launchers.command(launcher, "--num_processes", "2", "--main_process_port", "0")
    launchers.finish([*launch, *packed, "--output", str(tmp_path / "run")], tmp_path / "log")
    assert json.loads((tmp_path / "run/metrics.json").read_text())["processes"] == 2
    assert losses(tmp_path / "run") == pytest.approx(losses(single), rel=1e-4)
    check_weights(weights(single), weights(tmp_path / "run"), rtol=1e-3, atol=1e-4)


def test_the_merged_model_answers_as_the_adapter(single, tmp_path, capsys):
    words = [str(single), "--output", str(tmp_path / "merged"), "--check-samples", "4", "--device", "cpu"]
    assert merge.main(words) == 0, capsys.readouterr().err
    record = json.loads((tmp_path / "merged/geoclick.json").read_text())
    check = record["check"]
    assert check["same_answers"] == check["questions"] == 4
    assert check["largest_logit_difference"] < 1e-3


def test_evaluate_predict_and_grpo_take_the_adapter(setting, single, tmp_path, capsys):
    root = listed(tmp_path / "data", ["a barn", "the longest barn of all", "barns", "roads", "trees"])
    common = ["--vlm", str(setting[0]), "--adapter", str(single), "--device", "cpu", "--constrained"]
    place = ["--dataset", "folder", "--root", str(root), "--split", "train", "--batch-size", "4"]
    output = tmp_path / "evaluation"
    assert evaluate.main([*common, *place, "--output", str(output)]) == 0, capsys.readouterr().err
    assert json.loads((output / "metrics.json").read_text())["scores"]["n"] == 5
    answers = [json.loads(line) for line in (output / "predictions.jsonl").read_text().splitlines()]
    assert sum(len(answer["clicks"]) for answer in answers) > 0
    words = [str(root / "train/images/0000.png"), "--text", "a barn", "--text", "the longest barn of all"]
    assert predict.main([*words, *common, "--output", str(tmp_path / "masks")]) == 0, capsys.readouterr().err
    records = [json.loads(path.read_text()) for path in (tmp_path / "masks").glob("*.json")]
    assert {record["text"] for record in records} == {answer["text"] for answer in answers[:2]}
    assert len(list((tmp_path / "masks").glob("*.mask.png"))) == 2
    words = ["--adapter", str(single), "--root", str(root), "--split", "train", "--max_steps", "1"]
    words += ["--num_generations", "2", "--per_device_train_batch_size", "2", "--use_cpu", "true"]
    words += ["--max_completion_length", "12", "--save_strategy", "no", "--logging_steps", "1"]
    assert grpo.main([*words, "--output", str(tmp_path / "grpo")]) == 0, capsys.readouterr().err
    assert json.loads((tmp_path / "grpo/metrics.json").read_text())["steps"] == 1
    assert weights(tmp_path / "grpo").keys() == weights(single).keys()
