"""The checkpoints of a run: which are complete and readable."""

import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import safetensors

from geoclick.errors import GeoClickError, first_line

STATE = "trainer_state.json"
"""The file that the trainer writes last; a folder without it was interrupted by a kill or a full disk."""

_NAME = re.compile(r"checkpoint-([0-9]+)")


class Damaged(Exception):
    """A file of a checkpoint is missing or unreadable; the message is its name."""


def newest_first(output: Path) -> list[Path]:
    """The folders of all checkpoints of a run."""
    steps = {int(m[1]): path for path in output.glob("checkpoint-*") if (m := _NAME.fullmatch(path.name))}
    return [steps[step] for step in sorted(steps, reverse=True)]


def last_complete(output: Path) -> Path | None:
    """The latest checkpoint that a run can resume from, or None."""
    return next(
        (folder for folder in newest_first(output) if is_finished(folder) and not damage(folder)), None
    )


def is_finished(folder: Path) -> bool:
    """Whether the checkpoint was written to its end."""
    return (folder / STATE).exists()


def damage(folder: Path) -> str:
    """The name of a missing or unreadable file of a finished checkpoint; empty if there is none."""
    from geoclick.vlms import adapter

    try:
        _check_state(folder)
        count = processes(folder)
        for path in [*sorted(folder.rglob("*.pt")), *sorted(folder.rglob("*.bin"))]:
            _check_archive(path)
        for name in ["rng_state.pth"] if count == 1 else [f"rng_state_{rank}.pth" for rank in range(count)]:
            _check_archive(folder / name)
            _check_values(folder / name, ("python", "numpy", "cpu"))
        if not is_partitioned(folder):
            _check_values(folder / "optimizer.pt", ("state", "param_groups"))
            _check_values(folder / "scheduler.pt", ("last_epoch",))
        _check_weights(folder / adapter.WEIGHTS)
    except Damaged as error:
        return str(error)
    return ""


def processes(folder: Path) -> int:
    """The number of processes that wrote a checkpoint; raises Damaged."""
    from geoclick.vlms import adapter

    try:
        recorded = adapter.read_record(folder).processes
    except GeoClickError as error:
        raise Damaged(adapter.RECORD) from error
    # Earlier versions did not record it. Each process writes its random state.
    return recorded or len(list(folder.glob("rng_state_*.pth"))) or 1


def is_deepspeed(folder: Path) -> bool:
    """Whether DeepSpeed wrote a checkpoint."""
    return (folder / "latest").is_file()


def is_fsdp(folder: Path) -> bool:
    """Whether FSDP wrote a checkpoint."""
    return (folder / "optimizer.bin").is_file() or (folder / "optimizer_0").is_dir()


def is_partitioned(folder: Path) -> bool:
    """Whether each process wrote a part of the optimizer's state, or DeepSpeed or FSDP gathered it."""
    return is_deepspeed(folder) or is_fsdp(folder)


def _check_state(folder: Path) -> None:
    from transformers import TrainerState

    try:
        state = TrainerState.load_from_json(str(folder / STATE))
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise Damaged(STATE) from error
    history = state.log_history
    if f"checkpoint-{state.global_step}" != folder.name or not (
        isinstance(history, list) and all(isinstance(entry, dict) for entry in history)
    ):
        raise Damaged(STATE)


def _check_archive(path: Path) -> None:
    """Compare the checksums in a file of `torch.save`; raises Damaged if it is cut or changed."""
    try:
        with zipfile.ZipFile(path) as archive:
            is_whole = archive.testzip() is None
    except (OSError, zipfile.BadZipFile, NotImplementedError, EOFError) as error:
        raise Damaged(path.name) from error
    if not is_whole:
        raise Damaged(path.name)


def _check_values(path: Path, keys: tuple[str, ...]) -> None:
    import torch
    from transformers.trainer_pt_utils import safe_globals

    try:
        with safe_globals():
            values = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    # torch.load raises errors of many types for a file that is not its own.
    except Exception as error:
        raise Damaged(path.name) from error
    if not isinstance(values, dict) or not values.keys() >= set(keys):
        raise Damaged(path.name)


def _check_weights(path: Path) -> None:
    try:
        with safetensors.safe_open(path, framework="np") as file:
            names = list(file.keys())
    except (OSError, safetensors.SafetensorError) as error:
        raise Damaged(path.name) from error
    if not names:
        raise Damaged(path.name)


@contextmanager
def readable_damage(checkpoint: str | None) -> Iterator[None]:
    """Turn errors of loading a checkpoint into one GeoClickError."""
    try:
        yield
    except GeoClickError:
        raise
    # What a library raises for a file of another run is of many types.
    except Exception as error:
        raise GeoClickError(
            f"{checkpoint} cannot be loaded ({first_line(error)}); remove it, then rerun the command with --resume to "
            "continue from an older checkpoint."
        ) from error


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
    except (safetensors.SafetensorError, RuntimeError) as error:
        reading = "PytorchStreamReader" in str(error)
        writing = any(
            words in str(error) for words in ("I/O error", "PytorchStreamWriter", "inline_container")
        )
        if reading or not writing:
            raise
        reason = first_line(error)
        raise GeoClickError(
            f"{output} cannot be written ({reason}); free space, then rerun the command with --resume."
        ) from error
