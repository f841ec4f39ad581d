"""No file that a command writes holds a token, the user's home or an absolute path, if the user gave none."""

import io
import os
import zipfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from geoclick.cli import COMMANDS
from geoclick.vlms import loading
from tests.hardening.forks import fork_server
from tests.hardening.inputs import SERVERS, Inputs, base, replaced
from tests.paths import REPO

TOKEN = "hf_planted0token0that0nobody0knows"
KEY = "sk-planted0key0that0nobody0knows"
SECRETS = {"HF_TOKEN": TOKEN, "HUGGING_FACE_HUB_TOKEN": TOKEN, "OPENAI_API_KEY": KEY, "WANDB_API_KEY": KEY}
WORDS = ("planted0token", "planted0key")

DEMO_SECONDS = 600
"""CPU time of the longest command."""

QUICK = ("scenes", "configs")
"""Commands of the tests that are not slow."""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A user's home with a token of the hub, and a working folder in it."""
    home = tmp_path_factory.mktemp("planted-home")
    (home / ".cache/huggingface").mkdir(parents=True)
    (home / ".cache/huggingface/token").write_text(TOKEN)
    (home / "work").mkdir()
    return home


@pytest.fixture(scope="module")
def server(place):
    """Runs commands of that user; the working folder is not the one of the tests."""
    with fork_server(libraries=False, HOME=str(place), **SECRETS) as one:
        yield one


class RelativeInputs(Inputs):
    """Inputs that are made without absolute paths, which their records would hold."""

    def run(self, *words):
        super().run(*relative(words, self.root))


@pytest.fixture(scope="module")
def inputs(server, place):
    return RelativeInputs(place / "work", server)


def relative(words, folder):
    """A command line without absolute paths."""
    return [os.path.relpath(word, folder) if str(word).startswith("/") else str(word) for word in words]


def texts_of(path):
    """The bytes in a file, those of archives and tables unpacked."""
    content = path.read_bytes()
    yield content
    if path.suffix == ".parquet":
        yield str(pq.read_table(path).to_pydict()).encode()
    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(path) as archive:
            yield from map(archive.read, archive.namelist())


def found_in(folder, words):
    """(file, word) of each word in the files of a folder, and in their names."""
    found = set()
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        found |= {(name, word) for word in words if word in name}
        if path.is_file() and not path.is_symlink():
            for content in texts_of(path):
                # PEFT's AutoPeftModel looks for the base there.
                content = content.replace(str(loading.EMBEDDED).encode(), b"")
                found |= {(name, word) for word in words if word.encode() in content}
    return found


@pytest.mark.parametrize(
    "command",
    [
        name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
        for name in COMMANDS
        if name not in SERVERS
    ],
)
def test_no_file_holds_a_secret_or_a_place(command, server, inputs, place):
    work = place / "work"
    folder = work / f"of {command}"
    folder.mkdir()
    words = relative(base(command, inputs, folder), work)
    # Other tools need absolute paths of the images, unless they are to be relative.
    words += ["--paths", "relative"] if command == "export" else []
    result = server.run([*command.split(), *words], work, most=DEMO_SECONDS)
    assert result.code == 0, result.text
    assert list(folder.iterdir())
    places = {str(place), str(place.resolve()), str(REPO), str(Path.home())}
    assert not found_in(folder, {*WORDS, *places - {"/"}})
    assert not [word for word in WORDS if word in result.text]


@pytest.mark.slow
@pytest.mark.parametrize("command", ["train sft", "train grpo"])
def test_a_token_among_the_options_is_refused_and_written_nowhere(command, server, inputs, place, tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(f"hub_token: {TOKEN}\n")
    own = base(command, inputs, tmp_path)
    for words in (
        [*own, "--hub_token", TOKEN],
        [*own, f"--hub-token={TOKEN}"],
        replaced(own, "--config", config),
    ):
        result = server.run([*command.split(), *words], tmp_path)
        assert result.code == 2, result.text
        assert not [word for word in WORDS if word in result.text]
        config_only = {name for name, _ in found_in(tmp_path, WORDS)}
        assert config_only <= {"config.yaml"}


@pytest.mark.slow
def test_a_token_in_a_name_is_replaced(server, inputs, tmp_path):
    words = [*base("train sft", inputs, tmp_path), "--run_name", f"run {TOKEN}"]
    result = server.run(["train", "sft", *words], tmp_path)
    assert result.code == 0, result.text
    assert not found_in(tmp_path, WORDS)


def test_the_search_finds_what_it_looks_for(tmp_path):
    (tmp_path / "a.json").write_text(f'{{"token": "{TOKEN}"}}')
    with zipfile.ZipFile(tmp_path / "b.bin", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("c", "a" * 1000 + TOKEN)
    (tmp_path / WORDS[1]).mkdir()
    assert found_in(tmp_path, WORDS) == {
        ("a.json", WORDS[0]),
        ("b.bin", WORDS[0]),
        (WORDS[1], WORDS[1]),
    }
