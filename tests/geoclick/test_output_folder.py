"""No command replaces the files of another one, of the user, or through a link; two at once: the second is refused."""

import dataclasses
import importlib
import json
import subprocess
import sys

import pytest
import yaml

from geoclick import output_folder
from geoclick.cli import COMMANDS
from geoclick.errors import UsageError
from geoclick.output_folder import KINDS
from tests.paths import REPO

OLD_FOLDERS = {
    "demo": "finished.json",
    "prepare": "prepared.json",
    "synth": "clicks-00000-of-00001.parquet",
    "quality": "quality.json",
    "train sft": "adapter_model.safetensors",
    "evaluate": "protocol.json",
    "compare": "compare.json",
}
"""A file by which a folder of an earlier version is recognized."""

IN_PLACE = ("configs", "card")
"""Commands that write one file, with checks of their own."""

EMBEDDED = {f"embedded {name}": f"train.embedded.{name}" for name in ("sam", "vlm", "clip")}
"""The modules that train the embedded models; they are no commands of `geoclick`."""

MODULES = {name: COMMANDS[name][0] if name in COMMANDS else f"geoclick.{EMBEDDED[name]}" for name in KINDS}


def arguments(command, folder, tmp_path):
    """A command line that writes to a folder; the inputs do not exist, except the image of `predict`."""
    tile = tmp_path / "tile.png"
    tile.touch()
    inputs = {"clicks": "no-store", "root": "no-root"}
    words = {
        "demo": ["--output", folder],
        "scenes": [folder.parent, "--split", folder.name],
        "prepare": ["potsdam", "--root", tmp_path, "--output", folder],
        "synth": ["--root", "no-root", "--output", folder],
        "quality": ["no-store", "--output", folder],
        "export": ["no-store", "--root", "no-root", "--layout", "ms-swift", "--output", folder],
        "train sft": [*(w for key, value in inputs.items() for w in (f"--{key}", value)), "--output", folder],
        "train grpo": ["--adapter", "no-adapter", "--root", "no-root", "--output", folder],
        "merge": ["no-adapter", "--output", folder],
        "predict": [tile, "--text", "a", "--output", folder],
        "app": ["--output", folder],
        "evaluate": ["--root", "no-root", "--output", folder],
        "ablate": ["--dataset", "loveda", "--root", "no-root", "--output", folder],
        "compare": ["no-run", "no-run", "--output", folder],
        "embedded sam": ["--output", folder],
        "embedded vlm": ["--output", folder],
        "embedded clip": ["--output", folder],
    }
    return [str(word) for word in words[command]]


def run(command, words, capsys):
    code = importlib.import_module(MODULES[command]).main(words)
    return code, capsys.readouterr().err


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_every_command_with_an_output_has_a_kind():
    assert set(KINDS) == set(COMMANDS) - set(IN_PLACE) | set(EMBEDDED)


@pytest.mark.parametrize("command", KINDS)
def test_a_command_refuses_the_folder_of_another_one(command, tmp_path, capsys):
    for maker in ("merge", "evaluate", "synth"):
        folder = tmp_path / maker
        if maker == command:
            continue
        folder.mkdir()
        if maker == "merge":
            (folder / "geoclick.json").write_text(json.dumps({"kind": "merged"}))
        else:
            (folder / "config.yaml").write_text(output_folder.header(maker) + "seed: 0\n")
        before = contents(folder)
        code, error = run(command, arguments(command, folder, tmp_path), capsys)
        assert (code, error.count("\n")) == (2, 1), error
        assert str(folder) in error
        assert contents(folder) == before


@pytest.mark.parametrize("command", KINDS)
def test_a_command_refuses_a_file_of_the_user_and_a_link(command, tmp_path, capsys):
    for number, name in enumerate(["config.yaml", KINDS[command].writes[0].replace("*", "x")]):
        folder = tmp_path / f"user-{number}"
        folder.mkdir()
        (folder / name).write_text("mine: 1\n")
        if name not in KINDS[command].marks and (command, name) != ("compare", "config.yaml"):
            code, error = run(command, arguments(command, folder, tmp_path), capsys)
            assert (code, error.count("\n")) == (2, 1), error
            assert contents(folder) == {name: b"mine: 1\n"}
        (folder / name).unlink()
        (folder / name).symlink_to(tmp_path / "elsewhere")
        code, error = run(command, arguments(command, folder, tmp_path), capsys)
        if (command, name) != ("compare", "config.yaml"):
            assert (code, error.count("\n")) == (2, 1), error
            assert str(folder) in error
        assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(("maker", "name"), OLD_FOLDERS.items())
def test_folders_of_earlier_versions_are_recognized(maker, name, tmp_path):
    (tmp_path / name).touch()
    output_folder.check(tmp_path, maker)
    for other in set(KINDS) - {maker, "train grpo"}:
        with pytest.raises(UsageError, match=f"made by 'geoclick {maker}'|made by 'geoclick train"):
            output_folder.check(tmp_path, other)


@pytest.mark.parametrize("command", [name for name, kind in KINDS.items() if kind.keys])
def test_an_earlier_config_is_recognized_by_its_keys(command, tmp_path):
    module = importlib.import_module(MODULES[command])
    options = module.main.options if hasattr(module.main, "options") else options_of(module)
    values = {field.name: 0 for field in dataclasses.fields(options)}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    assert output_folder.made_by(tmp_path) == [{command}]


def options_of(module):
    return next(
        value
        for name, value in vars(module).items()
        if name.endswith("Options") and dataclasses.is_dataclass(value) and name[0] in "SG"
    )


@pytest.mark.parametrize("split", ["../evil", "/tmp/evil", "a/b", "..", ""])
def test_a_split_of_scenes_stays_in_its_folder(split, tmp_path, capsys):
    from geoclick.scenes.run import main

    assert main([str(tmp_path / "out"), "--split", split, "--count", "3"]) == 2
    assert ("--split is the name of a folder" if split else "--split is empty") in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_scenes_are_not_drawn_through_a_link(tmp_path, capsys):
    from geoclick.scenes.run import main

    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out/train").symlink_to(tmp_path / "elsewhere")
    assert main([str(tmp_path / "out"), "--count", "3"]) == 2
    assert list((tmp_path / "elsewhere").iterdir()) == []


WRITER = """
import sys
from pathlib import Path
from geoclick import output_folder
with output_folder.opened(Path(sys.argv[1]), "evaluate"):
    print("open", flush=True)
    sys.stdin.readline()
"""


@pytest.mark.parametrize("end", ["finish", "kill"])
def test_one_command_at_a_time_writes_a_folder(tmp_path, end):
    folder = tmp_path / "run"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    job = subprocess.Popen([sys.executable, "-c", WRITER, folder], cwd=REPO, **pipes)
    assert job.stdout.readline() == "open\n"
    for command in ("evaluate", "train sft"):
        with (
            pytest.raises(UsageError, match="Another geoclick evaluate is writing"),
            output_folder.opened(folder, command, patience=0.1),
        ):
            pass
    if end == "finish":
        job.communicate("\n")
    else:
        job.kill()
        job.wait()
    with output_folder.opened(folder, "evaluate"):
        assert (folder / output_folder.LOCK).read_text() == "geoclick evaluate"
    assert not (folder / output_folder.LOCK).exists()


@pytest.mark.parametrize("name", ["a\nerror: b", "a\tb", "a\rb"])
def test_a_name_with_a_line_break_is_refused(tmp_path, name):
    with pytest.raises(UsageError, match="has a line break or a tab; name another --output"):
        output_folder.check(tmp_path / name, "predict")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_a_command_is_writing_is_checked_when_it_has_ended(tmp_path):
    (tmp_path / "parts").mkdir()
    with pytest.raises(UsageError, match="parts exists and was not written by"):
        output_folder.check(tmp_path, "evaluate")
    (tmp_path / output_folder.LOCK).touch()
    output_folder.check(tmp_path, "evaluate")
    with pytest.raises(UsageError, match="parts exists"), output_folder.opened(tmp_path, "evaluate"):
        pytest.fail("the folder is opened")
