"""Running a command in several processes: `--accelerate_config` starts `accelerate launch`, as TRL's CLI does.

geoclick train sft --accelerate_config zero2 --num_processes 4 --config sft/qwen3_vl_2b ...
"""

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from geoclick import recipes
from geoclick.errors import UsageError

CONFIG = "accelerate_config"
FLAGS = (
    *("num_processes", "num_machines", "machine_rank", "main_process_ip", "main_process_port"),
    *("mixed_precision", "gpu_ids", "num_cpu_threads_per_process", "rdzv_backend", "rdzv_conf"),
    *("max_restarts", "monitor_interval", "log_dir", "tee", "role"),
    *("deepspeed_hostfile", "deepspeed_multinode_launcher"),
)
"""Flags of `accelerate launch` that are passed on; each takes one value, and no command has one of that name."""


def is_requested(arguments: Sequence[str]) -> bool:
    """Whether the arguments of a command have a flag of the launcher, and do not only ask for help."""
    return not {"-h", "--help"} & set(arguments) and any(_launcher_flag(word) for word in arguments)


def command_line(module: str, arguments: Sequence[str]) -> list[str]:
    """The `accelerate launch` command line that runs a module.

    Args:
        module: name of the module, such as `geoclick.train.sft`.
        arguments: flags of the launcher and arguments of the command, in any order.

    Raises:
        UsageError: a flag of the launcher has no value, or `accelerate_config` is missing or names no file.
    """
    launcher, own = _split(arguments)
    config = launcher.pop(CONFIG, None)
    if config is None:
        raise UsageError(f"--{next(iter(launcher))} needs --{CONFIG}, such as --{CONFIG} multi_gpu.")
    path = recipes.locate(config, recipes.accelerate_files(), "Accelerate file")
    flags = [word for name, value in launcher.items() for word in (f"--{name}", value)]
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(path), *flags]
    return [*launch, "-m", module, *own]


def start(module: str, arguments: Sequence[str]) -> NoReturn:
    """Replace this process by the launcher; arguments and errors as in `command_line`."""
    words = command_line(module, arguments)
    # A train.py or datasets.py in the working folder must not be imported in place of an installed package.
    os.execve(words[0], words, {**os.environ, "PYTHONSAFEPATH": "1"})


def _launcher_flag(word: str) -> str | None:
    """The name of the launcher's flag that a word is; None for other words."""
    name = word.partition("=")[0].removeprefix("--").replace("-", "_")
    return name if word.startswith("--") and name in (CONFIG, *FLAGS) else None


def _split(arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The values of the launcher's flags by name, and the other arguments."""
    launcher: dict[str, str] = {}
    own: list[str] = []
    rest = iter(arguments)
    for word in rest:
        name = _launcher_flag(word)
        if name is None:
            own.append(word)
            continue
        value = word.partition("=")[2] if "=" in word else next(rest, "")
        if not value or value.startswith("--"):
            raise UsageError(f"--{name} needs a value.")
        launcher[name] = value
    return launcher, own
