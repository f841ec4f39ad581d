"""The front door: `geoclick COMMAND ...` imports the chosen command's module and nothing else."""

import importlib
import sys
from collections.abc import Sequence

from geoclick import __version__

COMMANDS = {
    "demo": ("geoclick.demo", "the whole chain, offline, on the embedded models"),
    "scenes": ("geoclick.scenes.run", "procedural overhead scenes with masks and queries"),
    "prepare": ("geoclick.prepare.run", "the public downloads of benchmarks, cut and decoded for evaluation"),
    "synth": (
        "geoclick.data_synthesis.run",
        "ground-truth masks to click sequences, with a frozen SAM in the loop",
    ),
    "export": ("geoclick.data_synthesis.export", "a click store as chat JSONL for LLaMA-Factory or ms-swift"),
    "quality": (
        "geoclick.data_synthesis.quality_report",
        "how good the clicks of a store are, and which are suspect",
    ),
    "train sft": ("geoclick.train.sft", "LoRA-tune a Qwen-VL to write the clicks"),
    "train grpo": ("geoclick.train.grpo", "reinforce an adapter by the masks that its clicks make"),
    "merge": ("geoclick.train.merge", "an adapter and its base as one model, checked to answer the same"),
    "card": ("geoclick.train.card", "the model card of an adapter or merged model, and the way to the hub"),
    "predict": ("geoclick.inference.predict", "masks of images from a sentence"),
    "evaluate": ("geoclick.inference.evaluate", "score a checkpoint on a dataset"),
}

EXAMPLE = 'geoclick predict tile.png --text "the largest building" --output runs/predict'


def usage() -> str:
    """The text of `geoclick --help`."""
    width = max(map(len, COMMANDS))
    rows = "\n".join(f"  {name:<{width}}  {text}" for name, (_, text) in COMMANDS.items())
    return (
        "usage: geoclick COMMAND [options]\n\n"
        "From a sentence to a mask of overhead imagery, through clicks.\n\n"
        f"commands:\n{rows}\n\n"
        "geoclick COMMAND --help shows a command's options; --version the version.\n\n"
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
        known = ", ".join(COMMANDS)
        print(f"error: Unknown command {words[0]!r}; choose one of {known}.", file=sys.stderr)
        return 2
    module = importlib.import_module(COMMANDS[name][0])
    return module.main(words[len(name.split()) :])


if __name__ == "__main__":
    sys.exit(main())
