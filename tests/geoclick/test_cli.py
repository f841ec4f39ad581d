import importlib
import sys
import types

import pytest

from geoclick import __version__, cli


def test_help_names_every_command(capsys):
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in cli.COMMANDS)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_the_help_of_a_command_ends_with_an_example(capsys, name):
    with pytest.raises(SystemExit) as caught:
        cli.main([*name.split(), "--help"])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: geoclick {name} ")
    assert f"example:\n  geoclick {name}" in shown


def test_no_argument_is_wrong_usage(capsys):
    assert cli.main([]) == 2
    assert "usage:" in capsys.readouterr().out


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"geoclick {__version__}\n"


@pytest.mark.parametrize("words", [["synthesise"], ["train"], ["train", "sgd"], ["--color"]])
def test_unknown_commands_name_the_known(capsys, words):
    assert cli.main(words) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: Unknown command")
    assert "train sft" in shown
    assert shown.count("\n") == 1


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_the_command_gets_the_arguments_after_its_name(monkeypatch, name):
    got = []
    module = types.SimpleNamespace(main=lambda argv: got.append(argv) or 7)
    asked = []
    monkeypatch.setattr(importlib, "import_module", lambda path: asked.append(path) or module)
    assert cli.main([*name.split(), "--seed", "3"]) == 7
    assert got == [["--seed", "3"]]
    assert asked == [cli.COMMANDS[name][0]]


def test_arguments_come_from_the_command_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["geoclick", "--version"])
    assert cli.main() == 0
