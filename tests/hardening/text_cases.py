"""Texts that are no UTF-8, hold control characters, are empty or far too long: options, samples and names of files."""

import dataclasses
import json
import os
import typing

from geoclick.cli import COMMANDS
from geoclick.option_values import kind_of
from tests.hardening.cases import Case
from tests.hardening.inputs import HEAVY, base, replaced
from tests.hardening.number_cases import options_of

TEXTS = {
    "empty": "",
    "blank": " \t ",
    "no UTF-8": "a\udcffb",
    "a surrogate": "a\ud800b",
    "a NUL byte": "a\0b",
    "a terminal escape": "a\x1b[31mred\x07",
    "a line break": "a\nerror: b",
    "right to left": "a\u202eb",
    "100,000 letters": "a" * 100_000,
}

MEANINGLESS = ("empty", "blank", "no UTF-8", "a surrogate", "a NUL byte", "100,000 letters")
"""Texts that no query and no class is."""

LEFT_OUT = r"(?i)left out|skipped|not read|broken|failed"
"""What a command says of samples that it does not use."""

QUERIES = ("text", "classes")
FREE = ("run_name", "project", "license", "name")

SAMPLES = {
    "synth": lambda root, folder: [
        "--root",
        root,
        "--sheet",
        0,
        "--max-clicks",
        1,
        "--output",
        folder / "out",
    ],
    "evaluate": lambda root, folder: [
        *("--root", root, "--split", "train", "--predictor", "center-point", "--output", folder / "out")
    ],
}
"""Commands that read samples.jsonl, with a short command line each."""


def cases():
    """The cases of this kind."""
    return [*option_cases(), *sample_cases(), *file_name_cases(), *latin_cases()]


def option_cases(commands=tuple(COMMANDS)):
    """A text as the value of an option of type text, or as a word too many."""
    for command in commands:
        options = options_of(command)
        hints = typing.get_type_hints(options)
        for field in dataclasses.fields(options):
            if kind_of(hints[field.name]).plain is not str or field.metadata["positional"]:
                continue
            name = field.metadata["name"] or field.name
            for kind, text in TEXTS.items():
                yield option_case(command, name, kind, text)
        for kind, text in TEXTS.items():
            yield Case(
                "text",
                command,
                f"{kind} as an unknown flag",
                lambda inputs, folder, c=command, t=text: [*base(c, inputs, folder), f"--no-such{t}"],
                heavy=command in HEAVY,
            )


def option_case(command, name, kind, text):
    flag = f"--{name.replace('_', '-')}"

    def words(inputs, folder):
        return [*replaced(base(command, inputs, folder), flag)[:-1], f"{flag}={text}"]

    refuse = name in QUERIES and kind in MEANINGLESS
    return Case("text", command, f"{flag}={kind}", words, refuse=refuse, heavy=command in HEAVY)


def copied(inputs, folder, change):
    """A copy of the training split whose lines of samples.jsonl `change` has rewritten."""
    root = folder / "data"
    (root / "train").mkdir(parents=True)
    source = inputs.scenes / "train"
    (root / "train" / "images").mkdir()
    for image in (source / "images").iterdir():
        os.link(image, root / "train" / "images" / image.name)
    lines = [json.loads(line) for line in (source / "samples.jsonl").read_text().splitlines()]
    change(lines)
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (root / "train" / "samples.jsonl").write_bytes(text.encode("utf-8", "surrogateescape"))
    return root


def sample_cases():
    """A text in a field of one sample."""
    for command, line in SAMPLES.items():
        for key in ("sample_id", "query", "image", "category", "task"):
            for kind, text in {**TEXTS, "a million letters": "a" * 1_000_000}.items():

                def words(inputs, folder, key=key, text=text, line=line):
                    def change(lines):
                        lines[0][key] = text

                    return line(copied(inputs, folder, change), folder)

                meaningless = (
                    kind in (*MEANINGLESS, "a million letters") and key in ("sample_id", "query", "image")
                ) or key == "task"
                said = LEFT_OUT if meaningless else ""
                yield Case("text", command, f"{kind} as {key}", words, refuse=False, says=said)


def latin_cases():
    """samples.jsonl in Latin-1 and in UTF-16, and with two byte order marks."""
    encodings = {
        "Latin-1": lambda text: text.replace("the ", "th\u00e9 ").encode("latin-1"),
        "UTF-16": lambda text: text.encode("utf-16"),
        "cut in a letter": lambda text: text.rstrip()[:-3].encode() + "\u00e9".encode()[:1],
    }
    for command, line in SAMPLES.items():
        for kind, encode in encodings.items():

            def words(inputs, folder, encode=encode, line=line):
                root = copied(inputs, folder, lambda lines: None)
                path = root / "train" / "samples.jsonl"
                path.write_bytes(encode(path.read_text()))
                return line(root, folder)

            yield Case("text", command, f"samples.jsonl {kind}", words, refuse=False, says=LEFT_OUT)


NAMES = {
    "no UTF-8": b"a\xff.png",
    "a terminal escape": b"a\x1b[31mred.png",
    "a line break": b"a\nb.png",
    "a leading dash": b"--a.png",
    "250 letters": b"a" * 250 + b".png",
    "a bell in a folder": b"b\x07/c.png",
}


def file_name_cases():
    """Names of images, in the folders of predict and of datasets."""
    for kind, name in NAMES.items():

        def predict(inputs, folder, name=name):
            place(inputs, os.fsencode(folder / "in"), name)
            return [folder / "in", "--text", "tank", "--output", folder / "out"]

        yield Case("text", "predict", f"image name: {kind}", predict, refuse=False)
        for command, line in SAMPLES.items():

            def words(inputs, folder, name=name, line=line):
                root = folder / "data"
                for part in ("images", "masks"):
                    place(inputs, os.fsencode(root / "train" / part), name)
                return line(root, folder)

            yield Case("text", command, f"image name: {kind}", words, refuse=False)


def place(inputs, folder, name):
    """Link an image under a name given as bytes."""
    path = os.path.join(folder, name)  # noqa: PTH118 (bytes)
    os.makedirs(os.path.dirname(path))  # noqa: PTH103, PTH120 (bytes)
    os.link(os.fsencode(inputs.image), path)
