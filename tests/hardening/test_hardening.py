"""Bad inputs of every kind for every command: one sentence, or a right result; no traceback and no run without an end.

GEOCLICK_CASES sets the number of cases of the slow test.
"""

import os

import pytest

from geoclick.cli import COMMANDS
from tests.hardening import folder_cases, number_cases, text_cases
from tests.hardening.cases import ACCEPTED, GOOD, KINDS, Case, drawn
from tests.hardening.inputs import MISSING, base
from tests.hardening.table import all_cases, run_all, table_of

SEED = 18

LIGHT = ("scenes", "prepare", "synth", "predict", "evaluate", "ablate", "demo", "app")
"""Commands of the quick test; the others need a click store, an adapter or TRL."""


@pytest.mark.slow
def test_the_short_command_lines_without_bad_inputs_are_accepted():
    """Else their bad inputs would be refused for another reason."""
    outcomes = run_all([good(command) for command in COMMANDS if command not in MISSING])
    assert not [case.command for case, outcome in outcomes if outcome != ACCEPTED]


def good(command):
    def words(inputs, folder):
        return base(command, inputs, folder)

    return Case("none", command, "no bad input", words, refuse=False)


@pytest.mark.slow
def test_every_command_and_kind_has_cases():
    cases = all_cases()
    assert {case.kind for case in cases} == set(KINDS)
    for kind in ("text", "numbers", "folders"):
        commands = {case.command for case in cases if case.kind == kind}
        assert commands >= set(COMMANDS) - ({"configs", "card"} if kind == "numbers" else set())
    assert len(set(map(str, cases))) == len(cases)


def test_a_few_bad_inputs_are_refused():
    """A tenth of a percent of the cases, of commands that refuse them before a library is imported."""
    modules = (
        text_cases.option_cases,
        number_cases.cases,
        folder_cases.output_cases,
        folder_cases.device_cases,
    )
    cases = [case for of in modules for case in of(LIGHT) if case.refuse]
    assert {case.command for case in cases} == set(LIGHT)
    check(drawn(cases, 12, SEED), libraries=False)


@pytest.mark.slow
def test_bad_inputs_are_refused_or_rightly_accepted():
    cases = [case for case in all_cases() if case.command not in MISSING]
    check(drawn(cases, int(os.environ.get("GEOCLICK_CASES", 2000)), SEED))


def check(cases, *, libraries=True):
    faults = []

    def note(case, outcome, result):
        if outcome not in GOOD:
            faults.append(f"{case}: {outcome}\n{result.text[-600:]}")

    outcomes = run_all(cases, note, libraries=libraries)
    assert not faults, "\n".join([*table_of(outcomes), *faults])
