"""The commands on the pages are valid: known commands, flags, values and launcher files."""

import dataclasses
import importlib
import itertools
import re

import pytest

from geoclick import cli, config, launch, recipes
from geoclick.command import Command
from geoclick.errors import UsageError
from geoclick.train.options import trl_rules
from geoclick.train.options.trl_table import RULES
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
        command = importlib.import_module(f"geoclick.train.options.{name.split()[1]}").COMMAND
        texts = {"prog": command.prog, "description": "", "example": ""}
        options, rest = config.parse_known(command.options, arguments, **texts)
        flags, rules = trl_rules.of_flags(rest.flags), RULES[command.trl_class]
        # As the command does, without importing TRL.
        assert flags.keys() | rest.values.keys() <= rules.keys()
        for values in (rest.values, flags):
            try:
                trl_rules.check(
                    rules, values, vars(options) | dict(command.defaults) | rest.values | flags, "x"
                )
            except UsageError as error:
                # The flags were right; what is missing is an optional package.
                if not re.search(r"needs the package \w+, which is not installed", str(error)):
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
    with pytest.raises(AssertionError, match="lerning_rate"):
        check(["train", "sft", "--clicks", "a", "--root", "b", "--output", "c", "--lerning-rate", "1"])
