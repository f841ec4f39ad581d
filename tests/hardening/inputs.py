"""Valid inputs of every command, made on first use, and a small command line of each that is accepted."""

import shutil
import socket
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

TILES = ("2_13", "2_14")
HEAVY = ("demo", "train grpo", "merge", "card", "app")
"""Commands that need an adapter, or run for minutes."""

SERVERS = ("app",)
"""Commands that run until they are stopped."""

MISSING = () if find_spec("gradio") else ("app",)
"""Commands that need an extra which is not installed, and would refuse any input for that reason."""


@dataclass(frozen=True)
class Inputs:
    """Tiny inputs in a folder.

    Attributes:
        root: of the inputs.
        server: a ForkServer that makes them.
    """

    root: Path
    server: object

    def run(self, *words):
        result = self.server.run(words, self.root)
        assert result.code == 0, f"{words}: {result.text}"

    @cached_property
    def scenes(self):
        folder = self.root / "scenes"
        for split, count in (("train", 8), ("test", 4)):
            self.run("scenes", folder, "--split", split, "--count", count, "--workers", 1)
        return folder

    @cached_property
    def image(self):
        return sorted((self.scenes / "test" / "images").iterdir())[0]

    @cached_property
    def clicks(self):
        folder = self.root / "clicks"
        self.run("synth", "--root", self.scenes, "--output", folder, "--sheet", 0, "--max-clicks", 2)
        return folder

    @cached_property
    def adapter(self):
        folder = self.root / "adapter"
        self.run("train", "sft", *sft(self, folder))
        return folder

    def evaluation(self, name):
        """The folder of a finished evaluation."""
        folder = self.root / name
        if not folder.exists():
            self.run("evaluate", *center(self, folder))
        return folder

    @cached_property
    def maps(self):
        """A tiny copy of LoveDA."""
        folder = self.root / "maps"
        self.run("scenes", folder, "--layout", "loveda", "--count", 1, "--workers", 1)
        return folder

    @cached_property
    def raw(self):
        """Two tiles of Potsdam."""
        folder = self.root / "raw"
        folder.mkdir()
        rng = np.random.default_rng(0)
        for name in TILES:
            picture = rng.integers(0, 256, (64, 96, 3), np.uint8)
            label = rng.choice(np.array([[0, 0, 255], [255, 255, 255]], np.uint8), (64, 96))
            Image.fromarray(picture).save(folder / f"top_potsdam_{name}_RGB.tif")
            Image.fromarray(label).save(folder / f"top_potsdam_{name}_label_noBoundary.tif")
        return folder


def sft(inputs, folder):
    data = ["--clicks", inputs.clicks, "--root", inputs.scenes, "--allow-contradictions"]
    small = ["--max-steps", 1, "--per-device-train-batch-size", 2]
    return ["--config", "sft/embedded", *data, *small, "--output", folder]


def center(inputs, folder):
    return ["--root", inputs.scenes, "--split", "test", "--predictor", "center-point", "--output", folder]


def base(command, inputs, folder):
    """A short command line of a command, without its name, whose output lies in a folder."""
    output = ["--output", folder / "out"]
    if command == "demo":
        return ["--train-samples", 12, "--test-samples", 6, "--epochs", 1, *output]
    if command == "configs":
        return ["sft/embedded", "--output", folder / "out.yaml"]
    if command == "scenes":
        return [folder / "out", "--count", 2, "--workers", 1]
    if command == "prepare":
        return ["potsdam", "--root", inputs.raw, "--only", *TILES, "--workers", 1, *output]
    if command == "synth":
        return ["--root", inputs.scenes, "--sheet", 0, "--max-clicks", 1, *output]
    if command == "quality":
        return [inputs.clicks, "--root", inputs.scenes, *output]
    if command == "export":
        return [inputs.clicks, "--root", inputs.scenes, "--layout", "ms-swift", *output]
    if command == "train sft":
        return sft(inputs, folder / "out")
    if command == "train grpo":
        small = ["--max-steps", 1, "--num-generations", 2, "--per-device-train-batch-size", 2]
        data = ["--adapter", inputs.adapter, "--root", inputs.scenes]
        return ["--config", "grpo/embedded", *data, *small, *output]
    if command == "merge":
        return [inputs.adapter, "--check-samples", 1, *output]
    if command == "card":
        shutil.copytree(inputs.adapter, folder / "out")
        return [folder / "out"]
    if command == "predict":
        return [inputs.image, "--text", "tank", *output]
    if command == "app":
        return ["--port", free_port(), *output]
    if command == "evaluate":
        return center(inputs, folder / "out")
    if command == "ablate":
        small = ["--first", 1, "--points-per-side", 4, "--axes", "select", "--selections", "dense"]
        return ["--dataset", "loveda", "--root", inputs.maps, *small, *output]
    if command == "compare":
        return [inputs.evaluation("a"), inputs.evaluation("b"), *output]
    raise KeyError(f"Add a short command line of {command} to {__file__}.")


def free_port():
    """A port that no server listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def replaced(words, flag, *values):
    """A command line with other values of a flag, which is added if it is missing."""
    words = list(map(str, words))
    if flag in words:
        start = words.index(flag)
        end = start + 1
        while end < len(words) and not words[end].startswith("--"):
            end += 1
        words[start:end] = []
    return [*words, flag, *map(str, values)]
