"""Runs that are resumed with other processes, other data or damaged checkpoints."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from geoclick import images, store
from geoclick.train import sft
from geoclick.train.data import image_hashes
from geoclick.train.loop import resumption
from tests import tiny


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    """The flags of every run: a tiny VLM, 24 rows, a checkpoint each step, without dropout."""
    folder = tmp_path_factory.mktemp("resume")
    base = tiny.qwen3_vl_folder(folder / "vlm")
    clicks, root = tiny.click_store(folder, rows=24)
    flags = ["--vlm", base, "--clicks", clicks, "--root", root, "--lora-r", 4, "--max_steps", 4]
    flags += ["--learning_rate", 0.01, "--logging_steps", 1, "--save_strategy", "steps", "--save_steps", 1]
    return [str(flag) for flag in [*flags, "--use_cpu", "true", "--save_total_limit", 9]]


@pytest.fixture(scope="module")
def whole(setting, tmp_path_factory):
    """A run of four steps that was not interrupted."""
    output = tmp_path_factory.mktemp("whole") / "run"
    assert sft.main([*setting, "--output", str(output)]) == 0
    return output


def interrupted(whole, output, last):
    """A copy of a run that was killed after a checkpoint."""
    shutil.copytree(whole, output)
    for step in range(last + 1, 9):
        shutil.rmtree(output / f"checkpoint-{step}", ignore_errors=True)
    for name in ("adapter_model.safetensors", "geoclick.json", "metrics.json"):
        (output / name).unlink(missing_ok=True)
    config = (output / "config.yaml").read_text().replace(str(whole), str(output))
    (output / "config.yaml").write_text(config)
    return output


def weights(output):
    return load_file(output / "adapter_model.safetensors")


def losses(output):
    return [entry["loss"] for entry in json.loads((output / "metrics.json").read_text())["loss"]]


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def changed_byte(path):
    content = bytearray(path.read_bytes())
    content[content.index(b"archive/data/0" if b"archive/data/0" in content else b"data/0") + 300] ^= 255
    path.write_bytes(content)


def write(text):
    return lambda path: path.write_text(text)


DAMAGE = [
    ("rng_state.pth", write("no archive")),
    ("rng_state.pth", cut),
    ("rng_state.pth", lambda path: torch.save({"python": 1}, path)),
    ("rng_state.pth", lambda path: path.unlink()),
    ("trainer_state.json", cut),
    ("trainer_state.json", write("[1]")),
    ("trainer_state.json", write('{"global_step": 3, "unknown": 1}')),
    ("trainer_state.json", write('{"global_step": 7}')),
    ("optimizer.pt", cut),
    ("optimizer.pt", changed_byte),
    ("optimizer.pt", write("")),
    ("scheduler.pt", cut),
    ("scheduler.pt", lambda path: torch.save([1], path)),
    ("adapter_model.safetensors", cut),
    ("adapter_model.safetensors", lambda path: path.unlink()),
    ("geoclick.json", cut),
]


@pytest.mark.parametrize(("name", "damage"), DAMAGE)
def test_a_damaged_checkpoint_is_named_and_the_next_older_one_is_used(whole, tmp_path, name, damage):
    output = interrupted(whole, tmp_path / "run", 3)
    assert resumption.latest(output) == (output / "checkpoint-3", [])
    damage(output / "checkpoint-3" / name)
    folder, skipped = resumption.latest(output)
    assert folder == output / "checkpoint-2"
    assert skipped == [f"{output / 'checkpoint-3'} is damaged ({name} is missing or broken) and is not used."]


def test_a_run_with_a_damaged_checkpoint_ends_as_if_it_had_not_been_interrupted(
    setting, whole, tmp_path, capsys
):
    output = interrupted(whole, tmp_path / "run", 3)
    cut(output / "checkpoint-3" / "optimizer.pt")
    assert sft.main([*setting, "--output", str(output), "--resume"]) == 0
    shown = capsys.readouterr().out
    assert f"{output / 'checkpoint-3'} is damaged (optimizer.pt is missing or broken)" in shown
    assert "from checkpoint-2" in shown
    first, second = weights(whole), weights(output)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert losses(output) == losses(whole)


def test_a_run_that_was_killed_after_its_last_step_takes_no_further_one(setting, whole, tmp_path):
    """The step is the first of an epoch of three."""
    output = interrupted(whole, tmp_path / "run", 4)
    for _ in range(2):
        assert sft.main([*setting, "--output", str(output), "--resume"]) == 0
        for name in ("adapter_model.safetensors", "checkpoint-4/adapter_model.safetensors"):
            assert (output / name).read_bytes() == (whole / name).read_bytes()
        assert not (output / "checkpoint-5").exists()
        assert losses(output) == losses(whole)


@pytest.mark.parametrize("name", ["rng_state.pth", "trainer_state.json", "optimizer.pt"])
def test_without_an_older_checkpoint_a_damaged_one_is_refused(setting, whole, tmp_path, capsys, name):
    output = interrupted(whole, tmp_path / "run", 1)
    cut(output / "checkpoint-1" / name)
    before = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
    assert sft.main([*setting, "--output", str(output), "--resume"]) == 1
    error = capsys.readouterr().err
    assert error == (
        f"error: {output / 'checkpoint-1'} is damaged ({name} is missing or broken), and there is no older checkpoint "
        "that is complete; restore it, or give another --output.\n"
    )
    assert {path: path.read_bytes() for path in output.rglob("*") if path.is_file()} == before


def test_an_interrupted_first_checkpoint_starts_the_run_again(whole, tmp_path):
    output = interrupted(whole, tmp_path / "run", 1)
    (output / "checkpoint-1" / "trainer_state.json").unlink()
    assert resumption.latest(output) == (None, [f"{output / 'checkpoint-1'} is incomplete and is not used."])


def test_a_run_that_has_ended_without_a_checkpoint_is_not_trained_again(setting, whole, tmp_path, capsys):
    output = tmp_path / "run"
    shutil.copytree(whole, output, ignore=shutil.ignore_patterns("checkpoint-*"))
    before = (output / "adapter_model.safetensors").read_bytes()
    assert sft.main([*setting, "--output", str(output), "--resume"]) == 2
    assert "has ended and has no checkpoint to resume from" in capsys.readouterr().err
    assert (output / "adapter_model.safetensors").read_bytes() == before


def test_a_changed_store_is_refused(setting, whole, tmp_path, capsys):
    place = setting.index("--clicks") + 1
    clicks = tmp_path / "clicks"
    shutil.copytree(setting[place], clicks)
    flags = [*setting[:place], str(clicks), *setting[place + 1 :]]
    output = interrupted(whole, tmp_path / "run", 2)
    config = (output / "config.yaml").read_text().replace(setting[place], str(clicks))
    (output / "config.yaml").write_text(config)
    store.write_shard(clicks, 0, 1, list(store.read(clicks))[:14])
    assert sft.main([*flags, "--output", str(output), "--resume"]) == 2
    assert capsys.readouterr().err == (
        f"error: {clicks} has changed since the run in {output} was started; restore it, or give another --output.\n"
    )
    assert sorted(path.name for path in output.glob("checkpoint-*")) == ["checkpoint-1", "checkpoint-2"]


def with_other_pixels(path):
    """Change a pixel of a PNG so that size and time of the file stay as they are."""
    status = path.stat()
    with Image.open(path) as opened:
        pixels = np.array(opened)
    for place in np.ndindex(pixels.shape[:2]):
        changed = pixels.copy()
        changed[place] ^= 255
        images.write_png(path, changed)
        if path.stat().st_size == status.st_size:
            break
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)


@pytest.mark.parametrize("is_finished", [False, True])
def test_a_changed_image_is_refused(setting, whole, tmp_path, capsys, is_finished):
    place = setting.index("--root") + 1
    root = tmp_path / "data"
    shutil.copytree(setting[place], root)
    flags = [*setting[:place], str(root), *setting[place + 1 :]]
    output = interrupted(whole, tmp_path / "run", 4 if is_finished else 2)
    if is_finished:
        shutil.copy(whole / "adapter_model.safetensors", output)
    for name in ("config.yaml", image_hashes.NAME):
        (output / name).write_text((output / name).read_text().replace(setting[place], str(root)))
    assert len(image_hashes.read(output)) == 12
    with_other_pixels(root / "train/images/0003.png")
    before = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
    assert sft.main([*flags, "--output", str(output), "--resume"]) == 2
    assert capsys.readouterr().err == (
        f"error: {root}/train/images/0003.png has changed since the run in {output} was started; restore it, or give "
        "another --output.\n"
    )
    assert {path: path.read_bytes() for path in output.rglob("*") if path.is_file()} == before
    shutil.copy(f"{setting[place]}/train/images/0003.png", root / "train/images/0003.png")
    assert sft.main([*flags, "--output", str(output), "--resume"]) == 0
    assert all(torch.equal(value, weights(whole)[key]) for key, value in weights(output).items())


def launch(processes, words):
    """Train in CPU processes; returns the exit code, and both streams."""
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file"]
    command += ["accelerate_configs/cpu2.yaml", "--num_processes", str(processes), "--main_process_port", "0"]
    done = subprocess.run(
        [*command, "-m", "geoclick.train.sft", *words],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "after"),
    [((2, "2"), (1, "4")), ((1, "4"), (2, "2")), ((3, "2"), (2, "3"))],
    ids=["2_to_1", "1_to_2", "3_to_2"],
)
def test_a_run_continues_with_another_number_of_processes(setting, tmp_path, before, after):
    """In the second epoch; with the batch of each process as it was, it is refused, and nothing is written."""
    flags = [*setting, "--max_steps", "9"]
    output, complete = tmp_path / "run", tmp_path / "complete"
    code, shown = launch(
        before[0], [*flags, "--output", str(complete), f"--{resumption.BATCH[0]}", before[1]]
    )
    assert code == 0, shown[:3000]
    interrupted(complete, output, 7)
    for step in (8, 9):
        shutil.rmtree(output / f"checkpoint-{step}", ignore_errors=True)
    files = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
    words = [*flags, "--output", str(output), "--resume", f"--{resumption.BATCH[0]}"]
    code, shown = launch(after[0], [*words, before[1]])
    assert code != 0
    errors = [line for line in shown.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, shown[-3000:]
    assert f"written by {before[0]} process" in errors[0]
    assert f"this run has {after[0]} process" in errors[0]
    assert {path: path.read_bytes() for path in output.rglob("*") if path.is_file()} == files
    code, shown = launch(after[0], [*words, after[1]])
    assert code == 0, shown[:3000]
    assert "from checkpoint-7" in shown
    assert losses(output) == pytest.approx(losses(complete), rel=1e-4)
    first, second = weights(complete), weights(output)
    for key in first:
        torch.testing.assert_close(first[key], second[key], rtol=1e-3, atol=1e-4)
