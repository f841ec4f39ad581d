"""`geoclick ablate` on the embedded models: its files, continuation, warm caches, and wrong input."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from geoclick import cli
from geoclick.inference import ablate
from geoclick.inference.ablation import rows
from tests.inference.pages import PageParser

SMALL = ("--points-per-side", "5", "--points", "3", "5", "--device", "cpu")


@pytest.fixture
def run(tmp_path, loveda, capsys):
    """Runs ablate on the copy of LoveDA and returns its exit code and lines."""

    def call(*words, output="out"):
        place = ("--dataset", "loveda", "--root", loveda, "--cache", tmp_path / "cache")
        code = cli.main(["ablate", *map(str, (*place, *SMALL, *words, "--output", tmp_path / output))])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return code, (captured.out + captured.err).splitlines()

    return call


def metrics(folder):
    return json.loads((folder / "metrics.json").read_text())


def scores(folder):
    names = ("place", "miou", "miou_interval", "per_class", "coverage", "proposals", "setting")
    return [{name: row[name] for name in names} for row in metrics(folder)["rows"]]


def test_table_curves_and_page(run, tmp_path):
    code, lines = run("--axes", "threshold", "points-per-side", "--thresholds", "0.2", "0.6")
    assert code == 0
    out = tmp_path / "out"
    assert sorted(path.name for path in out.iterdir()) == [
        "config.yaml",
        "curves.png",
        "metrics.json",
        "report.html",
        "rows",
        "table.csv",
        "table.md",
    ]
    places = [
        "base",
        "threshold 0.2",
        "threshold 0.3",
        "threshold 0.6",
        "points-per-side 3",
        "points-per-side 5",
    ]
    oracles = ["base", "points-per-side 3", "points-per-side 5"]
    found = metrics(out)
    assert [row["place"] for row in found["rows"]] == places + oracles
    assert found["rows"][0]["miou"] == found["rows"][2]["miou"] == found["rows"][5]["miou"]
    with (out / "table.csv").open(newline="") as file:
        table = list(csv.reader(file))
    assert [line[0] for line in table[1:]] == places + oracles
    assert table[0][-7:] == list(found["rows"][0]["per_class"])
    assert [float(line[2]) for line in table[1:]] == [round(row["miou"], 3) for row in found["rows"]]
    assert (out / "table.md").read_text().count("\n") == len(table) + 1
    # The base is in three places of the plan, and its oracle in two.
    assert len(list((out / "rows").iterdir())) == 9 - 3
    assert sum(line.startswith(("base", "threshold", "points", "oracle")) for line in lines) == 6
    page = (out / "report.html").read_text()
    assert not {"script", "link", "img"} & PageParser(page).tags
    assert page.count("<svg") == 2
    assert "oracle-proposals" in page
    assert np.asarray(Image.open(out / "curves.png")).std() > 0


def test_a_warm_cache_and_finished_rows_need_neither_model(run, tmp_path):
    assert run("--axes", "threshold", "--thresholds", "0.2")[0] == 0
    cheap = (
        "--axes",
        "threshold",
        "scale",
        "overlaps",
        "uncovered",
        "templates",
        "--thresholds",
        "0.2",
        "0.5",
    )
    code, lines = run(*cheap)
    assert code == 0
    assert not any(line.startswith(("base", "threshold 0.2", "threshold 0.3")) for line in lines)
    assert any(line.startswith("threshold 0.5") for line in lines)
    first, *others = metrics(tmp_path / "out")["rows"]
    assert first["computed"] > 0
    assert all(row["computed"] == 0 for row in others if row["setting"] != first["setting"])
    # Rows that were continued are those of an uninterrupted run.
    assert run(*cheap, output="other")[0] == 0
    assert scores(tmp_path / "other") == scores(tmp_path / "out")


@pytest.mark.slow
def test_a_killed_run_loses_at_most_one_row(run, tmp_path, loveda):
    words = ("--axes", "scale", "uncovered")
    assert run(*words, output="whole")[0] == 0
    out = tmp_path / "out"
    place = ("--dataset", "loveda", "--root", loveda, "--cache", tmp_path / "cache", "--output", out)
    command = [sys.executable, "-m", "geoclick.cli", "ablate", *map(str, (*place, *SMALL, *words))]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    while not len(list(out.glob("rows/*.json"))) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = {path.name: path.read_bytes() for path in out.glob("rows/*.json")}
    assert done
    assert run(*words)[0] == 0
    assert scores(out) == scores(tmp_path / "whole")
    assert all((out / "rows" / name).read_bytes() == content for name, content in done.items())


def test_changed_data_and_damaged_rows_are_measured_again(run, tmp_path, loveda):
    words = ("--axes", "uncovered", "--uncovered-rules", "dense")
    run(*words)
    rows_of = sorted((tmp_path / "out/rows").iterdir())
    rows_of[0].write_text("{")
    code, lines = run(*words)
    assert code == 0
    assert f"{rows_of[0]} is damaged; its row is measured again." in lines
    assert sorted((tmp_path / "out/rows").iterdir()) == rows_of
    run(*words, "--first", 1)
    assert len(list((tmp_path / "out/rows").iterdir())) == 2 * len(rows_of)
    assert metrics(tmp_path / "out")["rows"][0]["images"] == 1


def test_a_grid_of_two_axes_is_a_table_on_the_page(run, tmp_path):
    assert run("--grid", "scale", "overlaps", "--scales", "10", "50", "--overlap-orders", "margin")[0] == 0
    found = [row["place"] for row in metrics(tmp_path / "out")["rows"]]
    assert found == [
        "base",
        "scale 10, overlaps margin",
        "scale 10, overlaps small-on-top",
        "scale 50, overlaps margin",
        "scale 50, overlaps small-on-top",
        "base",
        "overlaps margin",
        "overlaps small-on-top",
    ]
    page = (tmp_path / "out/report.html").read_text()
    assert "mIoU over scale (rows) and overlaps (columns)" in page
    assert not (tmp_path / "out/curves.png").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--axes", "colour"), "invalid choice: 'colour'"),
        (("--points", "0"), "--points must be 1 or more, not 0"),
        (("--axes", "stability", "--stabilities", "1.5"), "--stabilities must be from 0 to 1, not 1.5"),
        (("--axes", "scale", "--scales", "-1"), "must be a number above 0, not -1"),
        (("--axes", "clip"), "axis clip cannot be varied: there is no --clips"),
        (("--axes", "clip", "--clips", "no/folder/here"), "does not exist"),
        (("--axes", "segmenter", "--segmenters", "sam_vit_b=missing.pth"), "missing.pth"),
        (("--dataset", "scenes-v1"), "has no class at each pixel; give a benchmark"),
        (("--dataset", "rrsis-d"), "has no class at each pixel; give a benchmark"),
        (("--limit", "1", "--first", "1"), "exclude each other"),
    ],
)
def test_wrong_input_is_one_sentence_and_measures_nothing(run, tmp_path, words, message):
    code, lines = run(*words)
    assert code in (1, 2)
    assert lines[-1].startswith("error: ")
    assert message in lines[-1]
    assert not (tmp_path / "out/rows").exists()


def test_folders_of_other_commands_are_refused(run, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/protocol.json").write_text("{}")
    code, lines = run("--axes", "scale")
    assert code == 2
    assert "was made by 'geoclick evaluate'; name another --output" in lines[-1]
    (tmp_path / "own").mkdir()
    (tmp_path / "own/table.md").write_text("mine")
    assert "table.md exists and was not written by 'geoclick ablate'" in run(output="own")[1][-1]


def test_the_rows_of_other_versions_are_not_read(run, tmp_path, monkeypatch):
    words = ("--axes", "uncovered", "--uncovered-rules", "dense")
    run(*words)
    monkeypatch.setattr(rows, "VERSION", rows.VERSION + 1)
    assert any(line.startswith("base") for line in run(*words)[1])


def test_the_example_of_the_command_is_valid():
    words = ablate.EXAMPLE.split()[2:]
    from geoclick.config import parse

    options = parse(ablate.AblateOptions, words, prog="", description="", example="")
    assert (options.dataset, options.limit) == ("loveda", 100)
