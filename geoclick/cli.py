"""The `geoclick` program: `geoclick COMMAND ...` imports the module of that command and nothing else."""

import importlib
import sys
from collections.abc import Sequence

from geoclick import __version__

COMMANDS = {
    "demo": ("geoclick.demo", "run the whole pipeline offline on the small models of the package"),
    "configs": ("geoclick.list_recipes", "list the recipes and accelerate files of the package, or copy one"),
    "scenes": ("geoclick.scenes.run", "generate procedural overhead scenes with masks and queries"),
    "prepare": ("geoclick.prepare.run", "cut and decode the downloads of public benchmarks for evaluation"),
    "synth": (
        "geoclick.data_synthesis.run",
        "simulate click sequences for ground-truth masks with a frozen SAM",
    ),
    "quality": ("geoclick.data_synthesis.quality_report", "report how good the clicks of a click store are"),
    "export": ("geoclick.data_synthesis.export", "export a click store as chat JSONL for other trainers"),
    "train sft": ("geoclick.train.sft", "LoRA-tune a Qwen-VL to write clicks"),
    "train grpo": ("geoclick.train.grpo", "improve an adapter by reinforcement learning on mask quality"),
    "merge": ("geoclick.train.merge", "merge an adapter into its base model and check the result"),
    "card": ("geoclick.train.card", "write the model card of an adapter or merged model; publish it"),
    "predict": ("geoclick.inference.predict", "segment images by a text query"),
    "app": ("geoclick.inference.app.command", "edit and save the clicks of answers in the browser"),
    "evaluate": ("geoclick.inference.evaluate", "score a model on a dataset"),
    "ablate": (
        "geoclick.inference.ablate",
        "measure the training-free pipeline over thresholds, rules, proposals and models",
    ),
    "compare": (
        "geoclick.inference.compare",
        "compare two evaluations: significance, and the samples that changed",
    ),
}
"""Each command with its module and what it does."""

LAUNCHED = ("synth", "train sft", "train grpo", "evaluate")
"""Commands that run in several processes with `--accelerate_config`."""

EXAMPLE = 'geoclick predict tile.png --text "the largest building" --output runs/predict'


def usage() -> str:
    """The text of `geoclick --help`."""
    width = max(map(len, COMMANDS))
    rows = "\n".join(f"  {name:<{width}}  {text}" for name, (_, text) in COMMANDS.items())
    return (
        "usage: geoclick COMMAND [options]\n\n"
        "Segment overhead imagery by text: a vision-language model writes clicks, a frozen SAM decodes them.\n\n"
        f"commands:\n{rows}\n\n"
        "options:\n"
        "  -h, --help  show this help; 'geoclick COMMAND --help' shows the options of a command\n"
        "  --version   show the version\n\n"
        f"{', '.join(LAUNCHED)} run in several processes with --accelerate_config NAME --num_processes N.\n\n"
        f"example:\n  {EXAMPLE}\n"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0 success, 1 failure, 2 wrong usage."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(usage(), end="")
        return 0 if words else 2
    if words[0] == "--version":
        print(f"geoclick {__version__}")
        return 0
    name = next((n for n in (" ".join(words[:2]), words[0]) if n in COMMANDS), None)
    if name is None:
        print(f"error: Unknown command {words[0]!r}; choose one of {', '.join(COMMANDS)}.", file=sys.stderr)
        return 2
    return run_command(name, words[len(name.split()) :])


def run_command(name: str, arguments: list[str]) -> int:
    """Run a command, in several processes if the arguments ask for it, and return its exit code."""
    module = COMMANDS[name][0]
    if name in LAUNCHED:
        from geoclick import launch

        if launch.is_requested(arguments):
            from geoclick.command import exit_code

            return exit_code(lambda: launch.start(module, arguments), arguments)
    return importlib.import_module(module).main(arguments)


if __name__ == "__main__":
    sys.exit(main())
