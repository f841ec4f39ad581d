import json

import pytest

from geoclick import cli
from geoclick.inference import compare
from tests.inference import evaluated


@pytest.fixture
def runs(tmp_path):
    """Run folders `a` and `b`, of which B has the higher IoU."""
    target = evaluated.square(8, 8, 16)
    sides = {"a": (16, 8, 4), "b": (16, 16, 8)}
    for name, own in sides.items():
        records = [
            evaluated.record(f"s{i}", target, evaluated.square(8, 8, side)) for i, side in enumerate(own)
        ]
        evaluated.write(tmp_path / name, records)
    return [str(tmp_path / name) for name in sides]


def test_the_command_writes_both_files_and_prints_the_result(runs, tmp_path, capsys):
    output = tmp_path / "out"
    assert cli.main(["compare", *runs, "--output", str(output), "--gallery", "1", "--seed", "3"]) == 0
    shown = capsys.readouterr().out
    assert "mIoU of A 0.438, of B 0.750" in shown
    assert f"report: {output / 'compare.html'}" in shown
    result = json.loads((output / "compare.json").read_text())
    assert (result["a"], result["b"], result["seed"], result["wins"]) == (*runs, 3, 2)
    # One sample that gained: image, target and both predictions.
    assert (output / "compare.html").read_text().count("<img ") == 4


def test_evaluate_compare_gives_the_same_files(runs, tmp_path, capsys):
    assert cli.main(["compare", *runs, "--output", str(tmp_path / "x")]) == 0
    assert cli.main(["evaluate", "--compare", *runs, "--output", str(tmp_path / "y")]) == 0
    for name in (compare.NAME, compare.PAGE):
        assert (tmp_path / "x" / name).read_bytes() == (tmp_path / "y" / name).read_bytes()


@pytest.mark.parametrize("count", [0, 1, 3])
def test_other_numbers_of_runs_are_usage_errors(runs, tmp_path, capsys, count):
    folders = [*runs, runs[0]][:count]
    assert cli.main(["compare", *folders, "--output", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith("error:")


def test_a_folder_without_an_evaluation_is_an_error(runs, tmp_path, capsys):
    assert cli.main(["compare", runs[0], str(tmp_path), "--output", str(tmp_path / "out")]) == 1
    assert "holds no metrics.json" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
