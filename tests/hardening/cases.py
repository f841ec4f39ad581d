"""A bad input, and what became of it."""

import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.hardening.inputs import SERVERS

REFUSED, ACCEPTED = "refused", "accepted rightly"
TRACEBACK, SILENT, ENDLESS = "traceback", "accepted though wrong", "no end"
OUTCOMES = (REFUSED, ACCEPTED, TRACEBACK, SILENT, ENDLESS)
GOOD = (REFUSED, ACCEPTED)

SERVING = "GeoClick: http://"
"""What a server prints when it runs."""

KINDS = ("text", "numbers", "stores", "sizes", "files", "folders", "devices")


@dataclass(frozen=True)
class Case:
    """A command with a bad input.

    Attributes:
        kind: one of KINDS.
        command: a key of `geoclick.cli.COMMANDS`.
        name: of the bad input.
        words: makes the arguments after the command, given the Inputs and an empty folder for this case.
        refuse: whether the command must refuse it; otherwise it may also accept it.
        says: what the output must then match, such as the number of samples that were left out.
        heavy: whether its inputs need a trained adapter, or it runs long if it is accepted.
    """

    kind: str
    command: str
    name: str
    words: Callable
    refuse: bool = True
    says: str = ""
    heavy: bool = False

    def __str__(self):
        return f"{self.kind} | {self.command} | {self.name}"


def outcome(case, result):
    """The outcome of a case, one of OUTCOMES."""
    if result.code is None and not (case.command in SERVERS and SERVING in result.text):
        return ENDLESS
    if "Traceback (most recent call last)" in result.text or result.code not in (None, 0, 1, 2):
        return TRACEBACK
    if has_control_characters(result.text):
        return SILENT
    if not result.code:
        return SILENT if case.refuse or not re.search(case.says, result.text) else ACCEPTED
    sentences = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    return REFUSED if len(sentences) == 1 else TRACEBACK


def has_control_characters(text):
    """Whether a text would control a terminal; progress lines return to their start."""
    return any((c < " " and c not in "\n\t\r") or "\x7f" <= c <= "\x9f" for c in text)


def run_case(case, server, inputs, folder: Path):
    """(outcome, Result) of a case, whose files are made in an empty folder."""
    folder.mkdir(parents=True)
    words = case.words(inputs, folder)
    ready = SERVING if case.command in SERVERS else ""
    result = server.run([*case.command.split(), *words], folder, ready=ready)
    return outcome(case, result), result


def drawn(cases, count, seed):
    """Some cases in random order, as many of each kind as there are; within a kind, of each command."""
    chance = random.Random(seed)
    groups = defaultdict(list)
    for number in chance.sample(range(len(cases)), len(cases)):
        groups[cases[number].kind, cases[number].command].append(number)
    chosen, drawn_of = [], Counter()
    while groups and len(chosen) < count:
        # Of the kind, and then of the command, that has been drawn least.
        key = min(groups, key=lambda one: (drawn_of[one[0]], drawn_of[one], one))
        chosen.append(groups[key].pop())
        drawn_of.update([key[0], key])
        if not groups[key]:
            del groups[key]
    return [cases[number] for number in chance.sample(chosen, len(chosen))]
