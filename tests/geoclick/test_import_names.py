"""Our modules start whatever lies in the working folder: a user's own train.py, or another package called inference."""

import os
import subprocess
import sys

import pytest

from geoclick.cli import COMMANDS
from tests.paths import REPO

FOREIGN = "raise SystemExit('a foreign module ran')"
MODULES = {
    "train.sft": "train sft",
    "train.grpo": "train grpo",
    "inference.evaluate": "evaluate",
    "inference.predict": "predict",
    "data_synthesis.run": "synth",
}
"""Modules as they are started from a checkout, and their commands."""
PYTHON_PATHS = [pytest.param(None, marks=pytest.mark.slow), "."]
"""With the working folder among the paths, which is the harder case, and without."""


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """A folder with modules of a user that are called as our folders."""
    folder = tmp_path_factory.mktemp("foreign")
    for name in ("train", "inference", "data_synthesis"):
        (folder / f"{name}.py").write_text(FOREIGN, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A checkout with the same modules of a user in it."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("geoclick", "train", "inference", "data_synthesis"):
        (folder / name).symlink_to(REPO / name)
        if name != "geoclick":
            (folder / f"{name}.py").write_text(FOREIGN, encoding="utf-8")
    return folder


def check_help(words, folder, command, python_path=None):
    """The words, run in a folder, show the help of a command."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    if python_path:
        environment["PYTHONPATH"] = python_path
    done = subprocess.run(
        [sys.executable, *words, "--help"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: geoclick {command} ")


@pytest.mark.parametrize("python_path", PYTHON_PATHS)
@pytest.mark.parametrize("module", MODULES)
def test_a_module_starts_from_a_checkout(module, python_path, checkout):
    check_help(["-m", module], checkout, MODULES[module], python_path)


@pytest.mark.parametrize("python_path", PYTHON_PATHS)
@pytest.mark.parametrize("module", MODULES)
def test_an_installed_module_starts_in_any_folder(module, python_path, foreign):
    check_help(["-m", f"geoclick.{module}"], foreign, MODULES[module], python_path)


@pytest.mark.parametrize("python_path", PYTHON_PATHS)
@pytest.mark.parametrize("command", MODULES.values())
def test_a_command_starts_its_module_in_any_folder(command, python_path, foreign):
    check_help(["-m", "geoclick.cli", *command.split()], foreign, command, python_path)


def test_every_command_lies_in_our_package():
    assert all(module.startswith("geoclick.") for module, _ in COMMANDS.values())
