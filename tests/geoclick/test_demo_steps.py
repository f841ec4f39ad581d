"""The steps of the demo run in copies of one process; their exit codes and outputs are those of commands."""

import pytest

from geoclick.demo_steps import step_runner


@pytest.mark.slow
def test_each_command_has_its_exit_code_and_its_output(capfd):
    with step_runner() as runner:
        assert runner.run(["--version"]) == 0
        assert runner.run(["no-such-command"]) == 2
        assert runner.run(["evaluate", "--root", "no-root", "--output", "no-output"]) in (1, 2)
        assert runner.run(["--version"]) == 0
        process = runner.process
    assert process.returncode == 0
    printed = capfd.readouterr()
    assert printed.out.count("geoclick ") == 2
    assert [line.partition(":")[0] for line in printed.err.splitlines()] == ["error", "error"]


def test_a_process_that_ended_is_a_failure():
    with step_runner() as runner:
        runner.process.kill()
        runner.process.wait()
        assert runner.run(["--version"]) != 0
