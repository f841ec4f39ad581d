"""Two of one command write into one folder at once: nothing is lost, and the second ends with one sentence.

GEOCLICK_TRIALS sets the number of trials for each command.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from geoclick.output_folder import KINDS, LOCK

HEAVY = ("train sft", "train grpo", "merge", "demo", "embedded sam", "embedded vlm", "embedded clip")
"""Commands with one trial by default; the others have two."""

DELAYS = (0.0, 0.1, 0.5, 1.5)
"""Seconds between the two starts, one after the other in the trials."""

VARYING = 0.1
"""Files with times, paths or pictures of text may differ in length by this share; all others have equal length."""

PROGRESS = re.compile(r"[\w -]+: [\d,]+(/[\d,]+)?,")
"""A line of progress, which a busy machine prints."""

SERVERS = ("app",)
"""Commands that end when they are stopped."""

WITH_OTHER_LINES = ("ablate", "demo", "predict", "embedded vlm")
"""Commands whose results, or messages of libraries, are also on the standard error."""

TILES = ("2_13", "2_14")


def command_line(words):
    """The process that runs a command; the embedded models are trained by modules."""
    name, *rest = map(str, words)
    if name == "embedded":
        return [sys.executable, "-P", "-m", f"geoclick.train.embedded.{rest[0]}", *rest[1:]]
    return [sys.executable, "-P", "-m", "geoclick.cli", name, *rest]


def start(words):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command_line(words), **pipes)


def run(*words):
    job = start(words)
    output, error = job.communicate()
    assert job.returncode == 0, output + error


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Tiny inputs of all commands."""
    root = tmp_path_factory.mktemp("inputs")
    scenes, adapter = root / "scenes", root / "adapter"
    for split, count in (("train", 12), ("test", 6)):
        run("scenes", scenes, "--split", split, "--count", count)
        run("synth", "--root", scenes, "--split", split, "--output", root / split)
    run("train", "sft", *sft(root), "--output", adapter)
    for name in "ab":
        run("evaluate", *center(root), "--output", root / name)
    run("scenes", root / "maps", "--layout", "loveda", "--count", 1)
    (root / "raw").mkdir()
    rng = np.random.default_rng(0)
    for name in TILES:
        picture = rng.integers(0, 256, (512, 600, 3), np.uint8)
        label = rng.choice(np.array([[0, 0, 0], [255, 255, 255]], np.uint8), (512, 600))
        Image.fromarray(picture).save(root / "raw" / f"top_potsdam_{name}_RGB.tif")
        Image.fromarray(label).save(root / "raw" / f"top_potsdam_{name}_label_noBoundary.tif")
    return root


def sft(root):
    data = ["--clicks", root / "train", "--root", root / "scenes", "--allow-contradictions"]
    return ["--config", "sft/embedded", *data, "--max-steps", 1]


def center(root):
    return ["--root", root / "scenes", "--split", "test", "--predictor", "center-point"]


def arguments(command, root, folder):
    """A command line that writes a folder."""
    scenes, output = root / "scenes", ["--output", folder]
    image = next((scenes / "test" / "images").iterdir())
    small = ["--cache", root / "cache", "--threads", 1]
    words = {
        "demo": ["--train-samples", 12, "--test-samples", 6, "--epochs", 1, *output],
        "scenes": [folder.parent, "--split", folder.name, "--count", 30],
        "prepare": ["potsdam", "--root", root / "raw", "--only", *TILES, *output],
        "synth": ["--root", scenes, "--split", "train", *output],
        "quality": [root / "train", "--root", scenes, *output],
        "export": [root / "train", "--root", scenes, "--layout", "ms-swift", *output],
        "train sft": [*sft(root), *output],
        "train grpo": [
            *("--config", "grpo/embedded", "--adapter", root / "adapter", "--root", scenes),
            *("--max-steps", 1, *output),
        ],
        "merge": [root / "adapter", "--check-samples", 2, *output],
        "card": [folder],
        "predict": [image, "--text", "tank", *output],
        "evaluate": [*center(root), *output],
        "ablate": [
            *("--dataset", "loveda", "--root", root / "maps", "--first", 1, "--points-per-side", 4),
            *("--axes", "select", "--selections", "dense", *output),
        ],
        "compare": [root / "a", root / "b", *output],
        "embedded sam": [*small, "--scenes", 50, "--steps", 2, "--images", 1, "--objects", 2, *output],
        "embedded vlm": [*small, "--scenes", 60, "--steps", 2, "--questions", 12, *output],
        "embedded clip": [*small, "--scenes", 50, "--steps", 2, "--views", 4, *output],
    }
    return [*command.split(), *words[command]]


def prepared(command, root, folder):
    """The folder before the command: that of `card` holds an adapter."""
    if command == "card":
        shutil.copytree(root / "adapter", folder, ignore=shutil.ignore_patterns("checkpoint-*", "runs"))
    return folder


def lengths(folder):
    """The length in bytes of every file; the event files of TensorBoard have names of their own."""
    paths = (p for p in folder.rglob("*") if p.is_file() and "runs" not in p.relative_to(folder).parts)
    return {str(path.relative_to(folder)): path.stat().st_size for path in paths}


def predictions(folder):
    return {p.name: p.read_bytes() for p in folder.glob("*.jsonl") if p.name != "log.jsonl"}


def two_at_once(words, delay):
    """The exit codes and error streams of two equal commands."""
    first = start(words)
    time.sleep(delay)
    second = start(words)
    errors = [job.communicate()[1] for job in (first, second)]
    return [first.returncode, second.returncode], errors


def trials_of(command):
    return int(os.environ.get("GEOCLICK_TRIALS", 1 if command in HEAVY else 2))


@pytest.mark.slow
@pytest.mark.parametrize("command", [*(name for name in KINDS if name not in SERVERS), "card"])
def test_two_commands_at_once_lose_nothing(command, inputs, tmp_path):
    whole = prepared(command, inputs, tmp_path / "whole" / "same")
    whole.parent.mkdir(exist_ok=True)
    run(*arguments(command, inputs, whole))
    expected = lengths(whole)
    outcomes = {"refused": 0, "repeated": 0}
    for trial in range(trials_of(command)):
        folder = prepared(command, inputs, tmp_path / f"{trial:05}" / "same")
        folder.parent.mkdir(exist_ok=True)
        codes, errors = two_at_once(arguments(command, inputs, folder), DELAYS[trial % len(DELAYS)])
        assert 0 in codes, errors
        for code, error in zip(codes, errors, strict=True):
            assert "Traceback" not in error
            sentences = [line for line in error.splitlines() if line.startswith("error: ")]
            assert len(sentences) == (code != 0), error
            others = [one for one in error.splitlines() if one not in sentences and not PROGRESS.match(one)]
            assert not others or command in WITH_OTHER_LINES, error
        outcomes["refused" if any(codes) else "repeated"] += 1
        check_complete(folder, expected)
        assert predictions(folder) == predictions(whole)
        shutil.rmtree(folder.parent)
    print(f"\n{command}: {outcomes}")


def check_complete(folder: Path, expected):
    """The folder holds the same files, none of them shorter, and no lock."""
    now = lengths(folder)
    assert now.keys() == expected.keys()
    assert LOCK not in now
    short = {name: (now[name], size) for name, size in expected.items() if now[name] < (1 - VARYING) * size}
    assert not short
    assert not list(folder.parent.glob("*.partial"))
    assert not list(folder.parent.glob(f".*{LOCK}"))
