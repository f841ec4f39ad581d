"""The loss on held-out rows, next to mIoU."""

import json

import pytest
import torch
from torch.nn.functional import cross_entropy

from geoclick import vlms
from geoclick.train import sft
from geoclick.train.data import rows
from geoclick.train.data.collator import ClickCollator
from geoclick.train.data.task_weights import WeightedCollator
from geoclick.train.loop import held_out_loss
from geoclick.train.loop.held_out_loss import AllBut, HeldOutLoss
from tests import tiny


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("held_out")
    return str(tiny.qwen3_vl_folder(folder / "vlm")), *tiny.click_store(folder, rows=12)


def built(data, vlm, images):
    _, clicks, root = data
    found, _ = rows.build(
        clicks, root, vlm, answer_format="compact", max_clicks=6, min_iou=0.0, held_out=AllBut(images)
    )
    return found


@pytest.mark.parametrize("average", ["tokens", "samples"])
@pytest.mark.parametrize("weights", [(), ("none=3",)])
def test_the_loss_is_the_mean_over_all_rows_however_they_are_divided(average, weights, data, monkeypatch):
    vlm = vlms.load(data[0], device="cpu")
    chosen = built(data, vlm, {f"train/images/000{i}.png" for i in range(4)})
    assert len(chosen) == 8
    collator = ClickCollator(vlm.processor)
    sums = []
    for row in chosen:
        batch = collator([row])
        labels = batch.pop("labels")[0, 1:]
        with torch.no_grad():
            logits = vlm.model(**batch).logits[0, :-1]
        losses = cross_entropy(logits[labels != -100], labels[labels != -100], reduction="none")
        weight = 3.0 if weights and row["kind"] == "none" else 1.0
        count = len(losses) if average == "tokens" else 1
        sums.append((weight * losses.mean().item() * count, weight * count))
    expected = sum(one for one, _ in sums) / sum(two for _, two in sums)
    weighted = WeightedCollator(collator, weights) if weights else collator
    loss = HeldOutLoss(chosen, weighted, average, batch_size=3)
    assert loss.compute(vlm.model, torch.device("cpu"), 0, 1) == pytest.approx(expected, rel=1e-5)
    parts = []
    monkeypatch.setattr(held_out_loss, "gather_object", lambda sums: parts.extend(sums) or parts)
    for processes in (2, 4):
        parts.clear()
        results = [loss.compute(vlm.model, torch.device("cpu"), rank, processes) for rank in range(processes)]
        assert results[-1] == pytest.approx(expected, rel=1e-5)


@pytest.mark.usefixtures("short_answers")
def test_a_run_logs_it_with_each_evaluation_on_images_that_it_does_not_train_on(data, tmp_path):
    base, clicks, root = data
    words = [
        "--vlm",
        base,
        "--clicks",
        clicks,
        "--root",
        root,
        "--lora-r",
        4,
        "--use_cpu",
        "true",
        "--max_steps",
        2,
    ]
    words += [
        "--evaluate-every",
        1,
        "--evaluate-samples",
        4,
        "--eval_on_start",
        "true",
        "--learning_rate",
        0.01,
    ]
    words += ["--packing-tokens", 600, "--output", tmp_path / "run"]
    assert sft.main(list(map(str, words))) == 0
    evaluations = json.loads((tmp_path / "run" / "metrics.json").read_text())["evaluations"]
    assert [one["step"] for one in evaluations] == [0, 1, 2]
    losses = [one["eval_loss"] for one in evaluations]
    assert losses[2] < losses[0]
    assert all("eval_miou" in one for one in evaluations)
    vlm = vlms.load(base, device="cpu")
    from geoclick import store
    from geoclick.train.data import held_out

    images = {sample.image for sample in held_out.select(store.read(clicks), root, 4)}
    loss = HeldOutLoss(built(data, vlm, images), ClickCollator(vlm.processor), "tokens", 16)
    assert losses[0] == pytest.approx(loss.compute(vlm.model, torch.device("cpu"), 0, 1), rel=1e-4)
