"""Commands that are interrupted, terminated or killed, or whose disk is full: one sentence, and rerunning goes on.

GEOCLICK_KILLS sets the number of kills of each command in the slow test. With GEOCLICK_IMPORTED the libraries are
imported before a command starts, so that it is stopped while it works.
"""

import os
import random
import shutil
import signal
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from geoclick.output_folder import LOCK
from tests.hardening.forks import fork_server
from tests.hardening.inputs import Inputs, base

QUICK = ("scenes",)
"""Commands of the tests that are not slow."""

OTHERS = (
    *(
        "evaluate",
        "prepare",
        "synth",
        "quality",
        "export",
        "train sft",
        "train grpo",
        "merge",
        "card",
        "predict",
    ),
    *("ablate", "compare"),
)
ALL = [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)]

VARYING = (
    "*.json",
    "*.html",
    "README.md",
    "config.yaml",
    "*.bin",
    "*.pt",
    "*.pth",
    "events.*",
    "model-index.yaml",
)
"""Files that hold times, paths or the order of events; all others must have the same bytes."""

PAGE = 4096
ROOM = 256 << 20
"""Bytes of a disk with enough space."""

SIGNALS = {signal.SIGINT: "Interrupted", signal.SIGTERM: "Terminated"}


@dataclass(frozen=True)
class Whole:
    """An uninterrupted run.

    Attributes:
        files: contents of its output.
        size: bytes that they take.
        cpu: seconds of CPU time of the run.
    """

    files: dict
    size: int
    cpu: float


@pytest.fixture(scope="module")
def server():
    with fork_server(libraries="GEOCLICK_IMPORTED" in os.environ) as one:
        yield one


@pytest.fixture(scope="module")
def inputs(server, tmp_path_factory):
    return Inputs(tmp_path_factory.mktemp("inputs"), server)


@pytest.fixture(scope="module")
def whole(server, inputs, tmp_path_factory):
    """Makes the Whole of a command; each runs once."""
    known = {}

    def of(command):
        if command not in known:
            folder = tmp_path_factory.mktemp(command.replace(" ", "-"))
            result = server.run(words_of(command, inputs, folder), folder)
            assert result.code == 0, result.text
            known[command] = Whole(contents(folder / "out"), used(folder), result.cpu)
        return known[command]

    return of


def words_of(command, inputs, folder):
    """A command line that writes FOLDER/out, and can be given again."""
    words = base(command, inputs, folder)
    if command in ("train sft", "train grpo"):
        words = [*words, "--resume", "--save-steps", 1]
    return [*command.split(), *words]


def contents(folder):
    """{name: bytes} of the files of a folder; None for those that vary, and tables without their times."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): None if any(map(path.match, VARYING)) else content_of(path)
        for path in files
        if "runs" not in path.relative_to(folder).parts  # events of TensorBoard, whose names have times
    }


def content_of(path):
    """The bytes of a file; a table, which `ablate` writes, as rows without its columns of seconds."""
    if path.name not in ("table.csv", "table.md"):
        return path.read_bytes()
    rows = [line.split("," if path.suffix == ".csv" else "|") for line in path.read_text().splitlines()]
    kept = [number for number, title in enumerate(rows[0]) if "seconds" not in title]
    return [[row[number] for number in kept] for row in rows]


def check_complete(folder, expected):
    found = contents(folder)
    assert found.keys() == expected.keys()
    assert not [name for name, content in expected.items() if found[name] != content]


def check_stopped(result):
    """Exit code 1 and one sentence."""
    assert result.code == 1, result.text
    assert "Traceback" not in result.text
    sentences = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(sentences) == 1, result.stderr
    return sentences[0]


@pytest.mark.parametrize("command", ALL)
@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_signal_is_one_sentence_and_the_command_goes_on(command, number, server, inputs, whole, tmp_path):
    expected = whole(command)
    words = words_of(command, inputs, tmp_path)
    result = server.run(words, tmp_path, stop=(number, 0.5 * expected.cpu))
    if result.code:
        sentence = check_stopped(result)
        assert SIGNALS[number] in sentence
        assert "rerun" in sentence
        # Before the output is opened nothing is there to resume, and after the last file nothing is left to do.
        names = [path.name for path in (tmp_path / "out").glob("*")]
        unfinished = names and "metrics.json" not in names
        assert ("--resume" in sentence) <= command.startswith("train")
        assert ("--resume" in sentence) >= bool(command.startswith("train") and unfinished)
    assert not list(tmp_path.rglob("*.partial"))
    assert not list(tmp_path.rglob(LOCK))
    result = server.run(words, tmp_path)
    assert is_whole(result), result.text
    check_complete(tmp_path / "out", expected.files)


@pytest.mark.slow
@pytest.mark.parametrize("command", [*QUICK, *OTHERS])
def test_kills_lose_and_double_nothing(command, server, inputs, whole, tmp_path):
    expected = whole(command)
    chance, kills, completed = random.Random(command), 0, 0
    while kills < int(os.environ.get("GEOCLICK_KILLS", 4)):
        folder = tmp_path / f"{completed:03}"
        folder.mkdir(exist_ok=True)
        words = [*command.split(), *words_again(command, inputs, folder)]
        result = server.run(words, folder, stop=(signal.SIGKILL, chance.uniform(0, expected.cpu)))
        kills += result.code == -signal.SIGKILL
        assert result.code == -signal.SIGKILL or is_whole(result), result.text
        if result.code != -signal.SIGKILL or chance.random() < 0.3:
            result = server.run(words, folder)
            assert is_whole(result), result.text
            if result.code:
                # A command that refuses removes nothing, also no lock of a killed run, which nobody holds.
                (folder / "out" / LOCK).unlink(missing_ok=True)
            check_complete(folder / "out", expected.files)
            completed += 1
            shutil.rmtree(folder)


def is_whole(result):
    """Whether a command has succeeded, or found that it had; `scenes` and `export` refuse to write an output again."""
    complete = any(
        words in result.text for words in ("samples.jsonl exists already", "a complete output already")
    )
    return result.code == 0 or (result.code == 2 and complete)


def words_again(command, inputs, folder):
    """As `words_of`, of which `card` must not copy the adapter again."""
    if command == "card" and (folder / "out").exists():
        return [folder / "out"]
    return words_of(command, inputs, folder)[len(command.split()) :]


@contextmanager
def small_disk(folder):
    """A file system in memory at a new folder; yields a function that sets its size in bytes."""
    folder.mkdir()

    def mount(options, *words):
        done = subprocess.run(["mount", "-o", options, *words, folder], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"no file system can be mounted: {done.stderr.strip()}")

    mount(f"size={ROOM}", "-t", "tmpfs", "tmpfs")
    try:
        yield lambda size: mount(f"remount,size={size}")
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def used(folder):
    """Bytes of the pages of the files of a folder."""
    return sum(-(-path.stat().st_size // PAGE) * PAGE for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("share", [0.15, 0.5, 0.9])
@pytest.mark.parametrize("command", ALL)
def test_a_full_disk_is_one_sentence_and_the_command_goes_on(command, share, server, inputs, whole, tmp_path):
    expected = whole(command)
    with small_disk(tmp_path / "disk") as resize:
        folder = tmp_path / "disk"
        words = words_of(command, inputs, folder)
        before = used(folder)
        # A size of 0 would be no limit.
        resize(max(before + int(share * (expected.size - before)) // PAGE * PAGE, PAGE))
        result = server.run(words, folder)
        if result.code:
            sentence = check_stopped(result)
            assert "No space left on device" in sentence or "free space" in sentence
        assert not list(folder.rglob("*.partial"))
        assert not list(folder.rglob(LOCK))
        resize(ROOM)
        result = server.run(words, folder)
        assert result.code == 0, result.text
        check_complete(folder / "out", expected.files)
