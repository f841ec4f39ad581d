"""`geoclick train sft --augment`: complete runs, padded and packed."""

import json
import shutil

import pytest
from safetensors.torch import load_file
from torch.utils.data import DataLoader

from geoclick.geo import reading
from geoclick.train import sft
from geoclick.train.augmentation import augmented_dataset
from tests import tiny


@pytest.fixture(scope="module", params=[pytest.param("padded", marks=pytest.mark.slow), "packed"])
def flags(request, tmp_path_factory):
    """A tiny VLM, 12 rows, two epochs, everything augmented."""
    folder = tmp_path_factory.mktemp(request.param)
    base = tiny.qwen2_5_vl_folder(folder / "vlm")
    clicks, root = tiny.click_store(folder, rows=12)
    found = ["--vlm", base, "--clicks", clicks, "--root", root, "--lora-r", 4, "--learning_rate", 0.01]
    found += ["--num_train_epochs", 2, "--logging_steps", 1, "--use_cpu", "true", "--save_total_limit", 20]
    found += ["--augment", "flip", "rotate", "crop", "jitter", "shuffle", "--other-format-share", 0.3]
    found += ["--save_strategy", "steps", "--save_steps", 1]
    found += ["--packing-tokens", 500] if request.param == "packed" else []
    return [str(flag) for flag in found]


@pytest.fixture(scope="module")
def whole(flags, tmp_path_factory):
    output = tmp_path_factory.mktemp("whole") / "run"
    assert sft.main([*flags, "--output", str(output)]) == 0
    return output


def read(output):
    metrics = json.loads((output / "metrics.json").read_text())
    return metrics, [entry["loss"] for entry in metrics["loss"]]


def same_weights(one, two):
    one, two = (load_file(folder / "adapter_model.safetensors") for folder in (one, two))
    return one.keys() == two.keys() and all(one[key].equal(two[key]) for key in one)


def test_a_resumed_run_equals_an_uninterrupted_one(flags, whole, tmp_path):
    """Resumed in the second epoch, whose rows differ from those of the first."""
    metrics, losses = read(whole)
    assert metrics["samples_per_second"] * metrics["seconds"] == pytest.approx(24, rel=0.02)
    assert metrics["vision_features_bytes"] == 0
    assert reading.read_image(whole / "augmented.png").shape[1] > 1000
    output = tmp_path / "run"
    shutil.copytree(whole, output)
    for name in ("adapter_model.safetensors", "geoclick.json", "metrics.json"):
        (output / name).unlink()
    steps = metrics["steps"]
    for step in range(steps // 2 + 2, steps + 1):
        shutil.rmtree(output / f"checkpoint-{step}")
    config = (output / "config.yaml").read_text().replace(str(whole), str(output))
    (output / "config.yaml").write_text(config)
    assert sft.main([*flags, "--output", str(output), "--resume"]) == 0
    assert same_weights(whole, output)
    assert read(output)[1] == losses


def test_persistent_workers_make_the_rows_of_each_epoch(flags, whole, tmp_path):
    workers = ["--dataloader_num_workers", "2", "--dataloader_persistent_workers", "true"]
    assert sft.main([*flags, *workers, "--output", str(tmp_path / "run")]) == 0
    assert same_weights(whole, tmp_path / "run")


def test_each_epoch_has_every_row_once_in_another_order():
    class Numbered:
        seed = 0

        def __call__(self, row, epoch):
            return row, epoch

    rows = augmented_dataset.AugmentedDataset(range(20), Numbered())
    loader = DataLoader(rows, batch_size=4, sampler=augmented_dataset.EpochSampler(rows), collate_fn=list)
    found = []
    for epoch in (0, 1, 0):
        rows.set_epoch(epoch)
        found.append([item for batch in loader for item in batch])
        assert sorted(found[-1]) == [(row, epoch) for row in range(20)]
    assert found[0] == found[2]
    assert [row for row, _ in found[0]] != [row for row, _ in found[1]]
