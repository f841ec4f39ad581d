"""The checkpoints of a run: which are complete, and which run may resume from them."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from geoclick import config, secrets
from geoclick.errors import GeoClickError, UsageError, first_line

_NAME = re.compile(r"checkpoint-([0-9]+)")


def last_complete(output: Path, processes: int) -> Path | None:
    """The latest complete checkpoint, or None.

    The trainer writes `trainer_state.json` after the weights, the optimizer and the random states. A folder without it
    was interrupted by a kill or a full disk, and is skipped.

    Args:
        output: the run's folder.
        processes: of this run; each of them wrote its random state.
    """
    steps = {int(m[1]): path for path in output.glob("checkpoint-*") if (m := _NAME.fullmatch(path.name))}
    return next(
        (steps[step] for step in sorted(steps, reverse=True) if _is_complete(steps[step], processes)), None
    )


def _is_complete(folder: Path, processes: int) -> bool:
    try:
        json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    states = ["rng_state.pth"] if processes == 1 else [f"rng_state_{rank}.pth" for rank in range(processes)]
    return all((folder / state).is_file() for state in states)


def check_fresh(output: Path) -> None:
    """Refuse a folder that already holds a run; raises UsageError with the two ways out."""
    if any(output.glob("checkpoint-*")) or (output / "adapter_model.safetensors").exists():
        raise UsageError(
            f"{output} already holds a run; add --resume to continue it, or give another --output."
        )


CHANGEABLE = frozenset({"resume", "allow_contradictions"})
"""Options that a resumed run may change."""


def check_same(output: Path, resolved: dict[str, Any]) -> None:
    """Refuse to resume with options other than those of the run; raises UsageError naming the first."""
    before = secrets.without_secrets(config.read_yaml(output / "config.yaml"))
    for key in sorted((before.keys() | resolved.keys()) - CHANGEABLE):
        if before.get(key) != resolved.get(key):
            raise UsageError(
                f"The run in {output} was started with {key} {before.get(key)!r}, not {resolved.get(key)!r}; "
                "resume with the same options, or give another --output."
            )


def check_launcher(checkpoint: Path, *, deepspeed: bool) -> None:
    """Refuse the optimizer state of DeepSpeed without DeepSpeed, and that of PyTorch with it; raises UsageError."""
    if (checkpoint / "latest").is_file() != deepspeed:
        raise UsageError(
            f"{checkpoint} was written {'without' if deepspeed else 'with'} DeepSpeed; "
            "resume with the accelerate file that the run was started with, or give another --output."
        )


@contextmanager
def readable_errors(output: Path) -> Iterator[None]:
    """Turn errors of the libraries into a GeoClickError of one sentence.

    A failed write of weights is never an OSError: safetensors raises "I/O error", and torch.save a RuntimeError of its
    archive writer (inline_container.cc). An error in a data loader's worker has the worker's traceback as its message.
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
            f"{output} cannot be written ({reason}); free space, then rerun the command with --resume."
        ) from error
