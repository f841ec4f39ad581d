import dataclasses
import importlib
import json
import os
import subprocess
import sys

import pytest

from geoclick import cli, launch, recipes
from geoclick.errors import UsageError
from tests import tiny


def test_the_launcher_gets_its_flags_and_the_command_the_others(tmp_path):
    words = [
        "--lora-r",
        "4",
        "--accelerate_config",
        "zero2",
        "--num-processes=4",
        "--clicks",
        "c",
        "--resume",
    ]
    line = launch.command_line("geoclick.train.sft", words)
    zero2 = str(recipes.accelerate_files()["zero2"])
    assert line == [
        *(sys.executable, "-m", "accelerate.commands.launch", "--config_file", zero2, "--num_processes", "4"),
        *("-m", "geoclick.train.sft", "--lora-r", "4", "--clicks", "c", "--resume"),
    ]
    own = tmp_path / "own.yaml"
    own.write_text("num_processes: 1", encoding="utf-8")
    machines = ["--num_machines", "2", "--machine_rank", "0", "--main_process_ip", "10.0.0.1"]
    line = launch.command_line(
        "m", ["--accelerate-config", str(own), *machines, "--main_process_port", "29500"]
    )
    assert line[4] == str(own)
    assert line[5:] == [*machines, "--main_process_port", "29500", "-m", "m"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--num_processes", "4"], "--num_processes needs --accelerate_config, such as"),
        (["--accelerate_config"], "--accelerate_config needs a value"),
        (["--accelerate_config", "--resume"], "--accelerate_config needs a value"),
        (["--accelerate_config", "zero4"], "Accelerate file zero4 does not exist; did you mean 'zero"),
    ],
)
def test_wrong_flags_are_usage_errors(words, message, capsys):
    with pytest.raises(UsageError, match=message):
        launch.command_line("m", words)
    assert cli.main(["train", "sft", *words]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_process_becomes_the_launcher(monkeypatch):
    calls = []
    monkeypatch.setattr(os, "execve", lambda *call: calls.append(call))
    cli.main(["train", "grpo", "--accelerate_config", "cpu2", "--adapter", "a"])
    ((program, words, environment),) = calls
    assert program == sys.executable
    assert words[-4:] == ["-m", "geoclick.train.grpo", "--adapter", "a"]
    assert environment["PYTHONSAFEPATH"] == "1"


def test_help_is_shown_without_a_launcher():
    assert not launch.is_requested(["--accelerate_config", "zero2", "--help"])
    assert not launch.is_requested(["--output", "num_processes"])


def test_flags_are_those_of_accelerate_and_of_no_command():
    from accelerate.commands.launch import launch_command_parser
    from trl import GRPOConfig, SFTConfig

    from geoclick.train.options.grpo import GrpoOptions
    from geoclick.train.options.sft import SftOptions

    actions = {name: action for action in launch_command_parser()._actions for name in action.option_strings}
    assert all(actions[f"--{name}"].nargs is None for name in launch.FLAGS)
    classes = [SftOptions, SFTConfig, GrpoOptions, GRPOConfig]
    for command in ("synth", "evaluate"):
        classes.append(importlib.import_module(cli.COMMANDS[command][0]).main.options)
    taken = {field.name for one in classes for field in dataclasses.fields(one)}
    assert not taken & {launch.CONFIG, *launch.FLAGS}


@pytest.mark.slow
def test_two_processes_train(tmp_path):
    clicks, root = tiny.click_store(tmp_path / "data", rows=16)
    # What lies in the working folder must not be imported.
    for name in ("train", "inference", "datasets"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a foreign module ran')", encoding="utf-8")
    words = [sys.executable, "-P", "-m", "geoclick.cli", "train", "sft", "--accelerate_config", "cpu2"]
    words += ["--main_process_port", "0", "--mixed_precision", "no", "--clicks", clicks, "--root", root]
    words += [
        "--lora-r",
        4,
        "--max_steps",
        2,
        "--use_cpu",
        "true",
        "--save_strategy",
        "no",
        "--output",
        "run",
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [str(word) for word in words],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["processes"] == 2
