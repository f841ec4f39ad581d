"""Runs bad inputs and prints how many ended how, as the table of docs/measurements.md.

python -m tests.hardening.table --count 2000 --seed 0 --output hardening.jsonl

The output has a line for each run. The same command again runs what is missing; with `--again` also what was not as it
must be.
"""

import argparse
import json
import shutil
import tempfile
from collections import Counter
from pathlib import Path

from tests.hardening import file_cases, folder_cases, number_cases, store_cases, text_cases
from tests.hardening.cases import GOOD, OUTCOMES, drawn, run_case
from tests.hardening.forks import fork_server
from tests.hardening.inputs import MISSING, Inputs

MODULES = (text_cases, number_cases, store_cases, file_cases, folder_cases)


def all_cases(heavy=True):
    """Every case, in a fixed order."""
    return [case for module in MODULES for case in module.cases() if heavy or not case.heavy]


def run_all(cases, on_result=lambda case, outcome, result: None, *, libraries=True):
    """[(case, outcome)] of some cases, in one process; `libraries` as in `fork_server`."""
    outcomes = []
    with tempfile.TemporaryDirectory() as name, fork_server(libraries=libraries) as server:
        inputs = Inputs(Path(name) / "inputs", server)
        inputs.root.mkdir()
        for number, case in enumerate(cases):
            folder = Path(name) / f"{number:05}"
            outcome, result = run_case(case, server, inputs, folder)
            outcomes.append((case, outcome))
            on_result(case, outcome, result)
            shutil.rmtree(folder, ignore_errors=True)
    return outcomes


def table_of(outcomes):
    """The counts of each kind, as lines of a Markdown table."""
    counts = Counter((case.kind, outcome) for case, outcome in outcomes)
    kinds = sorted({kind for kind, _ in counts})
    lines = [f"| kind | runs | {' | '.join(OUTCOMES)} |", "|---" * (len(OUTCOMES) + 2) + "|"]
    for kind in (*kinds, "all"):
        row = [sum(n for (k, o), n in counts.items() if kind in (k, "all") and o == one) for one in OUTCOMES]
        lines.append(f"| {kind} | {sum(row)} | {' | '.join(map(str, row))} |")
    return lines


def read_runs(path):
    """{title: line} of the runs in a file, the last one of each case."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return {line["case"]: line for line in map(json.loads, lines)}


def main():
    """Run the cases and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="cases whose title has this text")
    parser.add_argument("--light", action="store_true", help="without commands that need an adapter")
    parser.add_argument("--output", type=Path, required=True, help="file for a line of JSON for each run")
    parser.add_argument("--again", action="store_true", help="run those again that were not as they must be")
    options = parser.parse_args()
    if MISSING and not options.light:
        parser.error(f"{MISSING[0]} cannot run here; pip install geoclick[{MISSING[0]}], or give --light.")
    every = all_cases()
    cases = [case for case in every if options.only in str(case) and not (options.light and case.heavy)]
    cases = drawn(cases, min(options.count, len(cases)), options.seed)
    runs = read_runs(options.output)
    keep = {title for title, run in runs.items() if run["outcome"] in GOOD or not options.again}
    with options.output.open("a", encoding="utf-8") as file:

        def note(case, outcome, result):
            line = {"case": str(case), "outcome": outcome, "code": result.code, "cpu": round(result.cpu, 2)}
            if outcome not in GOOD:
                line["output"] = result.text[-1500:]
            file.write(json.dumps(line) + "\n")
            file.flush()

        run_all([case for case in cases if str(case) not in keep], note)
    runs = read_runs(options.output)
    print("\n".join(table_of((case, runs[str(case)]["outcome"]) for case in cases)))
    seconds = sum(runs[str(case)]["cpu"] for case in cases)
    print(f"{seconds:.0f} s of CPU time in {len(cases)} runs of {len(every)} cases")


if __name__ == "__main__":
    main()
