import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from geoclick import cli
from tests.docs import markdown

SKIPPED = "sh"
"""Blocks that are not run: the installation, and what needs real models."""

SMALLER = {
    "--count 300": "--count 24",
    "--count 60": "--count 8",
    "--output runs/lora --dry-run": "--output runs/lora --answer-format json --dry-run",
    "--output runs/lora\n": "--output runs/lora --answer-format json --max-steps 4\n",
    "--points-per-side 12": "--points-per-side 6",
    "--max-steps 5": "--answer-format json --max-steps 2",
}
"""What the default run puts in place of parts of the page. Four steps do not teach a format of answers, so the adapter
keeps that of the base model."""


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


def smaller(blocks):
    """The blocks with SMALLER put in, each of whose parts is on the page once."""
    for old in SMALLER:
        assert sum(block.code.count(old) for block in blocks) == 1, old
    for block in blocks:
        code = block.code
        for old, new in SMALLER.items():
            code = code.replace(old, new)
        yield block._replace(code=code)


def run_here(block):
    """Run a code block in this process and the working folder, which spares the import of the libraries."""
    if block.language == "python":
        exec(compile(block.code, "tutorial.md", "exec"), {"__name__": "__main__"})
        return
    for words in markdown.command_lines(block.code):
        if words[0] == "geoclick":
            assert cli.main(words[1:]) == 0, words
        else:
            subprocess.run(words, check=True)


def metrics(folder, name):
    return json.loads((folder / "runs" / name / "metrics.json").read_text())


def check_files(folder):
    """The files that the page names exist, and the base model clicks on what is not there."""
    for name in (
        "first/000000.the-sports-court.overlay.png",
        "first/000000.the-airplane.json",
        "clicks/sheet.png",
        "quality/quality.html",
        "lora/adapter_model.safetensors",
        "lora/geoclick.json",
        "base/report.html",
        "tuned/report.html",
        "upper-bound/report.html",
        "base-and-tuned/compare.html",
        "map/000000.mask.png",
        "own-lora/adapter_model.safetensors",
    ):
        assert (folder / "runs" / name).is_file(), name
    assert (folder / "court.png").is_file()
    record = json.loads((folder / "runs/first/000000.the-sports-court.json").read_text())
    assert record["text"]
    assert record["clicks"]
    assert 0 < record["confidence"] <= 1
    assert json.loads((folder / "runs/first/000000.the-airplane.json").read_text())["clicks"]
    mask = Image.open(folder / "runs/second/000000.the-sports-court.mask.png")
    assert mask.getextrema()[1] > 0


def check_scores(folder):
    """The adapter gains, mostly by answering none."""
    base, tuned, bound = (metrics(folder, name) for name in ("base", "tuned", "upper-bound"))
    assert base["scores"]["miou"] + 0.1 < tuned["scores"]["miou"] < bound["scores"]["miou"]
    assert base["no_target"]["accuracy"] + 0.3 < tuned["no_target"]["accuracy"]


def test_smaller_code_blocks_run_in_order_and_print_what_the_page_says(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GEOCLICK_CACHE", str(tmp_path / "cache"))
    blocks = [block for block in markdown.blocks("tutorial.md") if block.language != SKIPPED]
    printed = []
    for block in smaller(blocks):
        run_here(block)
        printed.append(capsys.readouterr().out)
    check_files(tmp_path)
    assert metrics(tmp_path, "base")["scores"]["miou"] < metrics(tmp_path, "upper-bound")["scores"]["miou"]
    # Most commands print which one usually follows; the dry run prints memory and time.
    assert all(
        "next: geoclick" in text
        for block, text in zip(blocks, printed, strict=True)
        if block.language == "bash"
    )
    (training,) = (text for block, text in zip(blocks, printed, strict=True) if "--dry-run" in block.code)
    assert re.search(r"^memory .+\ntime .+ a step", training, re.MULTILINE)
    (python,) = (text for block, text in zip(blocks, printed, strict=True) if block.language == "python")
    court, airplane = python.splitlines()
    assert re.fullmatch(r".* [1-9]\d* 0\.\d+", court)
    assert re.fullmatch(r".* \d+", airplane)


@pytest.mark.slow
def test_the_code_blocks_run_in_order_and_do_what_the_page_says(tmp_path):
    (tmp_path / "work").mkdir()
    folder = tmp_path / "work"
    printed = [run(block, folder) for block in markdown.blocks("tutorial.md") if block.language != SKIPPED]
    assert any("none" in text for text in printed)
    check_files(folder)
    check_scores(folder)
