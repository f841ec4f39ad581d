"""The commands on the pages are valid: known commands, flags, values and launcher files."""

import dataclasses
import importlib
import itertools
import re

import pytest

from geoclick import cli, launch, recipes
from geoclick.command import Command
from geoclick.errors import GeoClickError
from tests.docs import markdown
from tests.paths import REPO

WRITTEN = (
    "index.md",
    "launching.md",
    "measurements.md",
    "architecture.md",
    "datasets.md",
    "training_options.md",
)
"""Pages with command lines that are shortened, or none."""

PAGES = [page for page in markdown.navigation() if page not in WRITTEN]
MODULES = {"train.sft", "train.grpo", "inference.evaluate", "data_synthesis.run"}


def check(words):
    """Parse the arguments of `geoclick WORDS` without running it; raises an error with its sentence."""
    name = next(name for name in (" ".join(words[:2]), words[0]) if name in cli.COMMANDS)
    module, arguments = cli.COMMANDS[name][0], words[len(name.split()) :]
    if name in cli.LAUNCHED and launch.is_requested(arguments):
        line = launch.command_line(module, arguments)
        arguments = line[line.index(module) + 1 :]
    main = importlib.import_module(module).main
    if isinstance(main, Command):
        code = dataclasses.replace(main, run=lambda options: None, around=None)(arguments)
        assert code == 0, words
    else:
        options = importlib.import_module(f"geoclick.train.options.{name.split()[1]}")
        try:
            options.parse(arguments)
        except GeoClickError as error:
            # The flags were right: files of earlier commands and optional packages are looked for after them.
            if not re.search(r"Adapter folder .* does not exist|package .* is not installed", str(error)):
                raise


@pytest.mark.parametrize("page", PAGES)
def test_geoclick_commands_are_valid(page, capsys, monkeypatch):
    monkeypatch.chdir(REPO)
    for words in markdown.commands(page):
        if words[0] == "geoclick":
            check(words[1:])
            assert "error" not in capsys.readouterr().err


@pytest.mark.parametrize("page", [page for page in markdown.navigation() if page not in WRITTEN[2:]])
def test_launcher_files_and_modules_exist(page):
    for words in markdown.commands(page):
        for flag, value in itertools.pairwise(words):
            if flag == "--config_file":
                assert (REPO / value).is_file()
            if flag == "--accelerate_config":
                recipes.locate(value, recipes.accelerate_files(), "Accelerate file")
            if flag == "-m" and words[0] in ("accelerate", "torchrun"):
                assert value in MODULES


def test_a_wrong_flag_would_be_seen(capsys):
    with pytest.raises(AssertionError):
        check(["predict", "tile.png", "--txt", "building"])
    assert "--txt" in capsys.readouterr().err
