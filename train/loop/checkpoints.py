"""Which checkpoint of a run is whole."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from geoclick import config
from geoclick.errors import GeoClickError, UsageError, first_line

_NAME = re.compile(r"checkpoint-([0-9]+)")


def last_whole(output: Path, processes: int) -> Path | None:
    """The latest checkpoint that was written to its end, or None.

    The trainer writes `trainer_state.json` after the weights, the optimizer and the random states, so that a
    folder without it was cut short by a kill or a full disk; such folders are passed over.

    Args:
        output: the run's folder.
        processes: of this run; each one wrote its own random state.
    """
    steps = {int(m[1]): path for path in output.glob("checkpoint-*") if (m := _NAME.fullmatch(path.name))}
    return next((steps[step] for step in sorted(steps, reverse=True) if _whole(steps[step], processes)), None)


def _whole(folder: Path, processes: int) -> bool:
    try:
        json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    states = ["rng_state.pth"] if processes == 1 else [f"rng_state_{rank}.pth" for rank in range(processes)]
    return all((folder / state).is_file() for state in states)


def check_fresh(output: Path) -> None:
    """Refuse a folder that already holds a run; raises UsageError with the two ways out."""
    if any(output.glob("checkpoint-*")) or (output / "adapter_model.safetensors").exists():
        raise UsageError(f"{output} already holds a run; add --resume to go on, or give another --output.")


def check_same(output: Path, resolved: dict[str, Any]) -> None:
    """Refuse to go on with other options than the run began with; raises UsageError naming the first."""
    began = config.read_yaml(output / "config.yaml")
    for key in sorted((began.keys() | resolved.keys()) - {"resume"}):
        if began.get(key) != resolved.get(key):
            raise UsageError(
                f"The run in {output} began with {key} {began.get(key)!r}, not {resolved.get(key)!r}; "
                "resume with the same options, or give another --output."
            )


def check_launcher(checkpoint: Path, *, deepspeed: bool) -> None:
    """Refuse a checkpoint whose optimizer state is of the other kind: DeepSpeed's own, or PyTorch's.

    Raises:
        UsageError: with the launcher that fits.
    """
    if (checkpoint / "latest").is_file() != deepspeed:
        raise UsageError(
            f"{checkpoint} was written {'without' if deepspeed else 'with'} DeepSpeed; "
            "resume by the accelerate file that the run began with, or give another --output."
        )


@contextmanager
def explained(output: Path) -> Iterator[None]:
    """Say in one sentence, as GeoClickError, what libraries say in their own ways.

    A failed write of weights is an OSError nowhere: safetensors says "I/O error", and torch.save a RuntimeError of its
    archive writer (inline_container.cc). What a data loader's worker raises comes with the worker's traceback as its
    message.
    """
    try:
        yield
    except GeoClickError as error:
        if "Original Traceback" not in str(error):
            raise
        raise GeoClickError(str(error).rstrip().rpartition(f"{GeoClickError.__name__}: ")[2]) from error
    except (SafetensorError, RuntimeError) as error:
        if not any(words in str(error) for words in ("I/O error", "PytorchStreamWriter", "inline_container")):
            raise
        reason = first_line(error)
        raise GeoClickError(
            f"{output} cannot be written ({reason}); free space, then start the same command with --resume."
        ) from error
