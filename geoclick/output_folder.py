"""The output folder of a command: which command made it, which files it may replace, and one command at a time.

A command writes into a folder that is new, its own, or holds none of the names that it writes. The first line of
config.yaml names the command; folders of earlier versions are recognized by the keys of config.yaml and by their files.
"""

import fcntl
import json
import os
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from geoclick import config, plain_text
from geoclick.errors import UsageError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

LOCK = ".geoclick.lock"
"""File that a command locks while it writes the folder; it holds the command's name and is removed at the end."""

PATIENCE = 2.0
"""Seconds that a command waits for one that is just ending, or for the workers of one that was killed."""

_HEADER = re.compile(r"# geoclick ([a-z]+(?: [a-z]+)?)\n")
_CONFIG_BYTES = 1 << 20


@dataclass(frozen=True)
class Kind:
    """The output folders of one command.

    Attributes:
        writes: patterns of the names that the command writes directly in the folder.
        keys: keys that only its config.yaml has together.
        marks: patterns of files that only its folders have.
        place: what names the folder on the command line.
    """

    writes: tuple[str, ...]
    keys: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()
    place: str = "--output"


_JOB = "progress/job.json*"
"""The record of an unfinished job, complete or not; both synth and prepare write it."""

_ADAPTER = (
    *("config.yaml", "geoclick.json", "metrics.json", "README.md", "adapter_*", "checkpoint-*", "runs"),
    *(
        "images.sha256",
        "augmented.png",
        "training_args.bin",
        "tokenizer*",
        "*processor_config.json",
        "chat_template*",
    ),
    *("special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt"),
)

KINDS = {
    "demo": Kind(
        ("config.yaml", "finished.json", "summary.json", "report.html"),
        keys=("train_samples", "test_samples"),
        marks=("finished.json",),
    ),
    "scenes": Kind(("config.yaml", "samples.jsonl", "images"), keys=("count", "tasks"), place="OUT"),
    "prepare": Kind(
        ("config.yaml", "prepared.json", "progress"),
        keys=("job", "verify"),
        marks=("prepared.json", "progress/images", _JOB),
    ),
    "synth": Kind(
        (
            *("config.yaml", "clicks-*.parquet", "manifest.json", "metrics.json", "failures.jsonl"),
            *("dropped.jsonl", "sheet.png", "progress", ".huggingface.yaml"),
        ),
        keys=("iou_target", "policy"),
        marks=("clicks-*-of-*.parquet", "progress/claims", _JOB),
    ),
    "quality": Kind(
        ("config.yaml", "quality.html", "quality.json", "flags.jsonl", "clean", "clean.partial"),
        keys=("store", "duplicate_iou"),
        marks=("quality.json", "clean.partial"),
    ),
    "export": Kind(
        ("config.yaml", "manifest.json", "dataset_info.json"), keys=("store", "layout", "answer_format")
    ),
    "train sft": Kind(_ADAPTER, keys=("lora_r", "tune"), marks=("adapter_model.safetensors",)),
    "train grpo": Kind(_ADAPTER, keys=("iou_weight", "format_weight"), marks=("adapter_model.safetensors",)),
    "merge": Kind(("*",)),
    "predict": Kind(("config.yaml", "records.jsonl", "failures.jsonl", "requests"), keys=("images", "text")),
    "app": Kind(("config.yaml", "clicks", "images"), keys=("max_upload", "max_megapixels")),
    "evaluate": Kind(
        (
            *("config.yaml", "protocol.json", "predictions.jsonl", "metrics.json", "run.json"),
            *("report.html", "model-index.yaml", "parts", "requests", "failures.jsonl"),
        ),
        keys=("predictor", "mode"),
        marks=("protocol.json", "predictions.jsonl", "parts/claims"),
    ),
    "ablate": Kind(
        ("config.yaml", "metrics.json", "rows", "table.md", "table.csv", "curves.png", "report.html"),
        keys=("axes", "grid"),
        marks=("curves.png", "table.csv"),
    ),
    "compare": Kind(("compare.json", "compare.html"), marks=("compare.json", "compare.html")),
    "embedded sam": Kind(
        ("config.yaml", "checkpoint.pt*", "log.jsonl", "metrics.json", "model"),
        keys=("scenes", "crop_share"),
        marks=("checkpoint.pt",),
    ),
    "embedded vlm": Kind(
        ("config.yaml", "state.pt", "state.partial", "log.jsonl", "model"),
        keys=("scenes", "questions"),
        marks=("state.pt",),
    ),
    "embedded clip": Kind(
        ("config.yaml", "state.pt", "state.partial", "log.jsonl", "metrics.json", "model"),
        keys=("scenes", "views"),
        marks=("state.pt",),
    ),
}
"""Every command that writes a folder, and the trainings of the embedded models."""

BESIDE_DATASETS = ("scenes", "prepare", "demo", "app")
"""Commands that write datasets."""


def header(command: str) -> str:
    """The first line of a command's config.yaml; a comment, so that `--config` reads the file as before."""
    return f"# geoclick {command}\n"


def title(command: str) -> str:
    """A key of KINDS as the user types it."""
    if command.startswith("embedded "):
        return f"python -m train.{command.replace(' ', '.')}"
    return f"geoclick {command}"


def write_config(options: "DataclassInstance", folder: Path, command: str) -> None:
    """Write config.yaml with the options of a command, and its name."""
    config.write_config(options, folder, header(command))


def made_by(folder: Path) -> list[set[str]]:
    """What the contents of a folder say about its origin: one set of possible commands for each sign."""
    signs = []
    if command := _from_config(folder / "config.yaml"):
        signs.append({command})
    if _is_merged(folder / "geoclick.json"):
        signs.append({"merge"})
    marks = {mark for kind in KINDS.values() for mark in kind.marks}
    for mark in sorted(marks):
        if any(folder.glob(mark)):
            signs.append({name for name, kind in KINDS.items() if mark in kind.marks})
    return signs


def check(folder: Path, command: str, names: Iterable[str] = ()) -> None:
    """Refuse a folder into which a command must not write.

    A folder that another command is just writing is not refused here: it holds some of that command's files without
    the others. `opened` checks it when that command has ended.

    Args:
        folder: the output folder, which may not exist.
        command: a key of KINDS.
        names: of further files that the command writes this time.

    Raises:
        UsageError: another command made the folder, it holds files of another origin that would be replaced, or a
            link where the command writes; or its name has a line break.
    """
    names = tuple(names)
    if set(plain_text.ALLOWED) & set(str(folder)):
        raise UsageError(f"{str(folder)!r} has a line break or a tab; name another {KINDS[command].place}.")
    try:
        _check(folder, command, names)
    except UsageError:
        if not (folder / LOCK).exists():
            # Again: the other command may have ended since.
            _check(folder, command, names)


def _check(folder: Path, command: str, names: Iterable[str]) -> None:
    """The check of a folder that no other command is writing; as `check`."""
    kind = KINDS[command]
    # In this order: another command may create the folder in between.
    if not os.path.lexists(folder):
        return
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder; name another {kind.place}.")
    signs = check_origin(folder, command)
    if not signs and command not in BESIDE_DATASETS and _is_dataset(folder):
        raise UsageError(f"{folder} holds a dataset; name another {kind.place}.")
    # Path.glob leaves out links that lead nowhere.
    exact = set(names)
    present = [path for path in sorted(folder.iterdir()) if path.name != LOCK]
    existing = [
        path
        for path in present
        if path.name in exact or any(fnmatchcase(path.name, one) for one in kind.writes)
    ]
    for path in existing:
        if path.is_symlink():
            raise UsageError(f"{path} is a link to another place; remove it, or name another {kind.place}.")
        if not signs:
            raise not_own(path, command)


def check_origin(folder: Path, command: str) -> list[set[str]]:
    """Refuse a folder that another command made; returns the signs of its origin, as `made_by`."""
    signs = made_by(folder)
    for sign in signs:
        if command not in sign:
            raise UsageError(
                f"{folder} was made by '{title(min(sign))}'; name another {KINDS[command].place}."
            )
    return signs


def _is_dataset(folder: Path) -> bool:
    """Whether a folder is a dataset, a split of one, or its images or masks."""
    inner = [folder, *(one for one in folder.iterdir() if one.is_dir())]
    return any(map(_has_samples, inner)) or (
        folder.name in ("images", "masks") and _has_samples(folder.absolute().parent)
    )


def _has_samples(folder: Path) -> bool:
    return (folder / "samples.jsonl").is_file() or (
        (folder / "images").is_dir() and (folder / "masks").is_dir()
    )


def not_own(path: Path, command: str) -> UsageError:
    """The error for a file of another origin, which a command would replace."""
    return UsageError(
        f"{path} exists and was not written by '{title(command)}'; move it, or name another "
        f"{KINDS[command].place}."
    )


@contextmanager
def opened(
    folder: Path, command: str, names: Iterable[str] = (), *, patience: float = PATIENCE
) -> Iterator[None]:
    """Check a folder, create it, and let no other command write it before the block ends.

    Processes that are forked inside the block share the lock; the kernel releases it when all of them have ended.

    Args:
        folder: the output folder.
        command: as in `check`.
        names: as in `check`.
        patience: seconds to wait for another command to end.

    Raises:
        UsageError: as `check`, or another command is writing the folder.
    """
    names = tuple(names)
    check(folder, command, names)
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with locked(folder / LOCK, folder, command, patience=patience):
            _check(folder, command, names)
            yield
    finally:
        if is_new:
            with suppress(OSError):  # not empty
                folder.rmdir()


@contextmanager
def locked(path: Path, folder: Path, command: str, *, patience: float = PATIENCE) -> Iterator[None]:
    """Hold the lock on a file, which is created and at the end removed.

    Args:
        path: the file.
        folder: what it protects, named in the error.
        command: whose name it holds.
        patience: seconds to wait for another command to end.

    Raises:
        UsageError: another command holds it.
    """
    deadline = time.monotonic() + patience
    while (descriptor := _try_lock(path)) is None:
        if time.monotonic() > deadline:
            raise UsageError(
                f"Another {_holder(path)} is writing {folder}; wait until it has ended, or stop it."
            )
        time.sleep(0.05)
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, title(command).encode())
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _try_lock(path: Path) -> int | None:
    """The descriptor of a locked file; None if another process holds it or has just removed it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    except FileNotFoundError:  # the folder was removed meanwhile
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(path.stat(), os.fstat(descriptor)):
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(descriptor)
    return None


def _holder(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")[:40] or "command"
    except OSError:
        return "command"


def _from_config(path: Path) -> str | None:
    """The command that wrote a config.yaml: named in its first line, or else recognized by its keys."""
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(_CONFIG_BYTES)
    except (OSError, UnicodeDecodeError):
        return None
    if (match := _HEADER.match(text)) and match[1] in KINDS:
        return match[1]
    keys = set(re.findall(r"^([A-Za-z_]+):", text, re.MULTILINE))
    return next((name for name, kind in KINDS.items() if kind.keys and keys.issuperset(kind.keys)), None)


def _is_merged(path: Path) -> bool:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and content.get("kind") == "merged"
