"""`geoclick configs`: list the recipes and accelerate files of the package, or copy one.

geoclick configs
geoclick configs sft/embedded --output my.yaml
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from geoclick import files, recipes
from geoclick.command import Command, print_next
from geoclick.config import option
from geoclick.errors import UsageError

EXAMPLE = "geoclick configs sft/qwen3_vl_2b --output my.yaml"


@dataclass(frozen=True)
class ConfigsOptions:
    """Options of `geoclick configs`."""

    name: str | None = option(None, help="recipe or accelerate file; omit it to list all", positional=True)
    output: str | None = option(None, help="file to copy it to; omit it to print the file")


def listing() -> str:
    """The names of all files with their first lines."""
    groups = {
        "recipes (--config NAME)": recipes.recipes(),
        "accelerate files (--accelerate_config NAME)": recipes.accelerate_files(),
    }
    width = max(len(name) for paths in groups.values() for name in paths)
    parts = []
    for title, paths in groups.items():
        rows = (f"  {name:<{width}}  {recipes.summary(path)}" for name, path in paths.items())
        parts.append("\n".join([f"{title}:", *rows]))
    return "\n\n".join(parts)


def run(options: ConfigsOptions) -> None:
    """List the files, print one, or copy one."""
    if options.name is None:
        if options.output:
            raise UsageError("--output needs the NAME of a recipe; 'geoclick configs' lists them.")
        print(listing())
        return
    paths = recipes.recipes() | recipes.accelerate_files()
    if options.name not in paths:
        raise UsageError(f"There is no recipe {options.name!r}; 'geoclick configs' lists them.")
    text = paths[options.name].read_text(encoding="utf-8")
    if options.output is None:
        print(text, end="")
        return
    if Path(options.output).exists():
        raise UsageError(f"{options.output} exists; choose another --output.")
    files.write_whole(Path(options.output), text)
    print(f"Copied {options.name} to {options.output}.")
    if options.name.startswith("sft/"):
        data = ["--clicks", "STORE", "--root", "DATASET"]
        print_next("train", "sft", "--config", options.output, *data, "--output", "runs/lora")
    elif options.name.startswith("grpo/"):
        data = ["--adapter", "ADAPTER", "--root", "DATASET"]
        print_next("train", "grpo", "--config", options.output, *data, "--output", "runs/grpo")


main = Command(
    prog="geoclick configs",
    options=ConfigsOptions,
    run=run,
    description="List the recipes and accelerate files that come with GeoClick, or copy one.",
    example=EXAMPLE,
)


if __name__ == "__main__":
    sys.exit(main())
