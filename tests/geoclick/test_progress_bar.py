import re

import pytest

from geoclick import progress_bar
from geoclick.progress_bar import clock, progress, speed, track


@pytest.fixture
def seconds(monkeypatch):
    """The time of the clock, to be moved by the test."""
    now = [100.0]
    monkeypatch.setattr(progress_bar.time, "monotonic", lambda: now[0])
    return now


def test_without_a_terminal_there_is_a_line_every_so_often(seconds, capsys):
    with progress("Training", 1000, done=200) as bar:
        for step in range(300):
            seconds[0] += 0.5
            bar.note = f"loss {1 - step / 1000:.3f}"
            bar.advance()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Training: 260/1,000, loss 0.941, 2.0/s, 0:06:10 left"
    assert lines[-1] == "Training: 500/1,000, loss 0.701, 0:02:30 in total"
    assert len(lines) == 6


def test_short_work_prints_nothing(seconds, capsys):
    assert list(track(range(5), "Drawing")) == list(range(5))
    assert capsys.readouterr() == ("", "")


def test_the_rate_is_that_of_the_last_interval(seconds, capsys):
    """What an earlier start has finished is counted at once."""
    with progress("evaluate", 1000) as bar:
        bar.advance(900)
        seconds[0] += 31
        bar.advance(1)
        seconds[0] += 31
        bar.advance(1)
    assert ", 31.0 s each, 0:50:38 left" in capsys.readouterr().err.splitlines()[1]


def test_hidden_progress_counts_without_output(seconds, capsys):
    with progress("evaluate", 10, shown=False) as bar:
        seconds[0] += 99
        bar.advance(3)
        bar.print("a line")
        assert bar.done == 3
    assert capsys.readouterr() == ("", "")


def test_a_terminal_has_a_bar(monkeypatch, capsys):
    monkeypatch.setattr(progress_bar.sys.stderr, "isatty", lambda: True, raising=False)
    with progress("Drawing [x]", 3) as bar:
        for _ in range(3):
            bar.advance()
        bar.print("tile.png: ok")
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().err)
    assert "tile.png: ok" in shown
    assert "Drawing [x]" in shown
    assert "3/3" in shown


def test_unknown_totals_show_the_count(seconds, capsys):
    with progress("scanning the samples") as bar:
        seconds[0] += 40
        bar.advance(12000)
    assert capsys.readouterr().err.startswith("scanning the samples: 12,000, 300.0/s\n")


def test_figures():
    assert (clock(3671), clock(59.6)) == ("1:01:11", "0:01:00")
    assert speed(0, 3, 5) == ""
    assert speed(10, 5, None) == ", 2.0/s"
