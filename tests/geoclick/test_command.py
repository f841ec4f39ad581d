import multiprocessing
import signal
import time
from dataclasses import dataclass

import pytest

from geoclick.command import Command, exit_code
from geoclick.config import option
from geoclick.errors import GeoClickError, UsageError


@dataclass(frozen=True)
class Options:
    output: str = option(help="folder")


def test_a_command_runs_with_its_options_or_says_what_is_wrong(capsys):
    ran = []
    command = Command("geoclick try", Options, ran.append, description="Tries.", example="geoclick try")
    assert command(["--output", "o"]) == 0
    assert ran == [Options(output="o")]
    assert command([]) == 2
    assert capsys.readouterr().err.startswith("error: Missing --output")


@pytest.mark.parametrize(("number", "word"), [(signal.SIGTERM, "Terminated"), (signal.SIGINT, "Interrupted")])
def test_a_signal_is_one_line_that_says_how_to_go_on(capsys, number, word):
    before = signal.getsignal(signal.SIGTERM)
    assert exit_code(lambda: (signal.raise_signal(number), time.sleep(1)), []) == 1
    assert capsys.readouterr().err == f"error: {word}; rerun the same command to continue.\n"
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_worker_that_is_terminated_ends_without_a_word(capfd):
    def body():
        worker = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
        worker.start()
        time.sleep(0.1)
        worker.terminate()
        worker.join()
        assert worker.exitcode == -signal.SIGTERM

    assert exit_code(body, []) == 0
    assert capfd.readouterr().err == ""


def test_several_processes_leave_termination_to_their_launcher(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert exit_code(lambda: signal.getsignal(signal.SIGTERM) == signal.SIG_DFL or 1 / 0, []) == 0


def fail(error):
    def body():
        raise error

    return body


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (GeoClickError("Broken; fix it."), 1, "error: Broken; fix it.\n"),
        (UsageError("Wrong; correct it."), 2, "error: Wrong; correct it.\n"),
        (OSError(28, "No space left on device", "x"), 1, "No space left on device: x"),
        (OSError(28, "No space left on device"), 1, "error: No space left on device; free space"),
        (KeyboardInterrupt(), 1, "Interrupted"),
    ],
)
def test_errors_are_one_line_and_an_exit_code(capsys, error, code, words):
    assert exit_code(fail(error), []) == code
    shown = capsys.readouterr().err
    assert words in shown
    assert shown.count("\n") == 1


QUOTED = "one\nerror: two\r\n\x1b[2Kthree\u2028four  five\x85six"


@pytest.mark.parametrize("error", [GeoClickError(QUOTED), OSError(2, "No such file", QUOTED)])
def test_what_an_error_quotes_from_a_file_cannot_look_like_another_error(capsys, error):
    assert exit_code(fail(error), []) == 1
    shown = capsys.readouterr().err
    assert len(shown.splitlines()) == 1
    assert "one error: two \\x1b[2Kthree four  five six" in shown


def test_a_gpu_whose_memory_is_too_small_is_one_line_and_other_errors_are_raised(capsys):
    torch = pytest.importorskip("torch")
    assert exit_code(fail(torch.OutOfMemoryError("CUDA out of memory.\nTried to")), []) == 1
    assert capsys.readouterr().err.startswith(
        "error: The memory of the GPU is too small; use a smaller model"
    )
    with pytest.raises(RuntimeError, match="another"):
        exit_code(fail(RuntimeError("another")), [])


def test_a_link_to_itself_is_one_line(tmp_path, capsys):
    link = tmp_path / "link"
    link.symlink_to(link)
    assert exit_code(link.resolve, []) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: Symlink loop")
    assert str(link) in error


def test_debug_shows_the_traceback(capsys):
    assert exit_code(fail(GeoClickError("Broken; fix it.")), ["--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err
    assert exit_code(lambda: None, []) == 0


def test_the_body_runs_inside_what_is_around_it():
    order = []

    def around(body):
        order.append("before")
        body()
        order.append("after")

    command = Command("c", Options, lambda options: order.append(options.output), "d", "e", around=around)
    assert command(["--output", "o"]) == 0
    assert order == ["before", "o", "after"]
