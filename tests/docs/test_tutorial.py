import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.docs import markdown

SKIPPED = "sh"
"""Blocks that are not run: the installation, and what needs real models."""


def environment(folder):
    """The installed `geoclick` first on the path, one thread, and a cache folder of its own."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    return {**os.environ, "PATH": path, "GEOCLICK_CACHE": str(folder / "cache"), "HF_HUB_OFFLINE": "1"}


def run(block, folder):
    """Run a code block of the page in a folder and return what it prints."""
    words = ["bash", "-euo", "pipefail", "-c"] if block.language == "bash" else [sys.executable, "-c"]
    done = subprocess.run(
        [*words, block.code],
        cwd=folder,
        env=environment(folder),
        text=True,
        capture_output=True,
        timeout=3600,
    )
    assert done.returncode == 0, f"{block.code}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_page_has_blocks_of_known_languages():
    languages = [block.language for block in markdown.blocks("tutorial.md")]
    assert set(languages) == {"bash", "python", SKIPPED}
    assert languages.count("bash") >= 7


def check(folder):
    """The files that the page names exist, and the scores and answers are as it says."""
    for name in (
        "first/000000.the-sports-court.overlay.png",
        "first/000000.the-airplane.json",
        "clicks/sheet.png",
    ):
        assert (folder / "runs" / name).is_file()
    assert (folder / "runs/quality/quality.html").is_file()
    for name in ("base", "tuned", "upper-bound"):
        assert (folder / "runs" / name / "report.html").is_file()
    assert (folder / "runs/base-and-tuned/compare.html").is_file()
    assert (folder / "runs/map/000000.mask.png").is_file()
    assert (folder / "court.png").is_file()
    base, tuned, bound = (
        json.loads((folder / "runs" / name / "metrics.json").read_text())
        for name in ("base", "tuned", "upper-bound")
    )
    assert base["scores"]["miou"] + 0.1 < tuned["scores"]["miou"] < bound["scores"]["miou"]
    # The base model clicks on something that is not there; the tuned one mostly answers none.
    assert json.loads((folder / "runs/first/000000.the-airplane.json").read_text())["clicks"]
    none = [
        json.loads((folder / "runs" / name / "metrics.json").read_text())["no_target"]
        for name in ("base", "tuned")
    ]
    assert none[0]["accuracy"] + 0.3 < none[1]["accuracy"]
    mask = Image.open(folder / "runs/second/000000.the-sports-court.mask.png")
    assert mask.getextrema()[1] > 0
    assert (folder / "runs/own-lora/adapter_model.safetensors").is_file()


@pytest.mark.slow
def test_the_code_blocks_run_in_order_and_do_what_the_page_says(tmp_path):
    (tmp_path / "work").mkdir()
    folder = tmp_path / "work"
    printed = [run(block, folder) for block in markdown.blocks("tutorial.md") if block.language != SKIPPED]
    assert any("none" in text for text in printed)
    check(folder)
