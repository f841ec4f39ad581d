"""The files that are installed with the package: recipes of the commands, and files for `accelerate launch`.

A recipe is named by its path without the suffix, such as `sft/embedded`; an accelerate file by its name, such as
`zero2`. `--config` and `--accelerate_config` take these names.
"""

import difflib
from pathlib import Path

from geoclick.errors import UsageError


def recipes() -> dict[str, Path]:
    """The path of each recipe, by its name."""
    return _yaml_files("geoclick.configs")


def accelerate_files() -> dict[str, Path]:
    """The path of each accelerate file, by its name."""
    return _yaml_files("geoclick.accelerate_configs")


def summary(path: Path) -> str:
    """The first line of a file, a comment that says what the file is for."""
    with path.open(encoding="utf-8") as file:
        return file.readline().lstrip("#").strip()


def locate(name: str | Path, installed: dict[str, Path], kind: str) -> Path:
    """The file that a flag names: a path, or the name of an installed file if no such file exists.

    Args:
        name: value of the flag.
        installed: `recipes()` or `accelerate_files()`.
        kind: what is missing, for the message, such as "Config file".

    Raises:
        UsageError: there is neither such a file nor an installed one of that name.
    """
    path = Path(name)
    if path.exists():
        return path
    if str(name) in installed:
        return installed[str(name)]
    near = difflib.get_close_matches(str(name).removesuffix(".yaml"), installed, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"give a path or one of {', '.join(installed)}."
    raise UsageError(f"{kind} {name} does not exist; {hint}")


def _yaml_files(package: str) -> dict[str, Path]:
    # Only a run with such a name pays for this import.
    from importlib.resources import files

    root = Path(str(files(package)))
    paths = sorted(root.rglob("*.yaml"))
    return {path.relative_to(root).with_suffix("").as_posix(): path for path in paths}
