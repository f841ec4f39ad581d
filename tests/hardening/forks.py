"""Commands in forked copies of one process, in which the libraries are imported once, with limits on time and memory.

    with fork_server() as server:
        result = server.run(["scenes", "out", "--count", "0"])
        result = server.run(["scenes", "out"], stop=(signal.SIGTERM, 0.5))

A run costs the command itself and a few milliseconds; a new interpreter costs three seconds.
"""

import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

MEMORY = 6 << 30
"""Address space that a command may add to that of the libraries, in bytes."""

OUTPUT = 256 << 20
"""Largest file that a command may write, in bytes."""

CPU_SECONDS = 120
"""CPU time of a command, after which it counts as endless by default."""

MOST_PROCESSES = 200
"""Processes of a command, above which it counts as endless."""

ASLEEP_SECONDS = 25
"""Seconds without any CPU time, asleep, after which a command counts as endless."""

READY_SECONDS = 1
"""Seconds for which a server runs."""

LIBRARIES = (
    *("torch", "scipy.ndimage", "pandas", "pyarrow.parquet", "PIL.Image", "pycocotools.mask", "peft"),
    *("skimage.measure", "rasterio", "transformers.trainer", "trl.trainer.sft_trainer"),
    *("trl.trainer.grpo_trainer", "segment_anything"),
    *(f"transformers.models.qwen3_vl.{part}_qwen3_vl" for part in ("modeling", "processing")),
)


@dataclass(frozen=True)
class Result:
    """How a command ended.

    Attributes:
        code: exit code; negative for a signal that ended it, None if it was stopped because it would not end.
        stdout: its standard output.
        stderr: its standard error.
        cpu: seconds of CPU time, of all its processes that it waited for.
    """

    code: int | None
    stdout: str
    stderr: str
    cpu: float

    @property
    def text(self):
        """Both streams."""
        return self.stdout + self.stderr


@dataclass(frozen=True)
class ForkServer:
    """Runs commands; made by `fork_server`."""

    process: subprocess.Popen

    def run(self, words, folder=".", *, stop=None, ready="", most=CPU_SECONDS):
        """Run `geoclick WORDS` in a working folder and return its Result.

        Args:
            words: the arguments.
            folder: the working folder.
            stop: (signal, seconds of CPU time after which it is sent), or None.
            ready: what a server writes to its standard output when it runs; it is stopped READY_SECONDS later.
            most: seconds of CPU time after which it counts as endless.
        """
        own = {"stop": stop, "ready": ready, "most": most}
        request = {"folder": str(folder), "words": list(map(str, words)), **own}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return Result(**json.loads(self.process.stdout.readline()))


@contextmanager
def fork_server(*, libraries=True, **variables):
    """A ForkServer for a block.

    Args:
        libraries: whether it imports all libraries once; otherwise each command imports what it needs.
        variables: further variables of the environment.
    """
    offline = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment = {**os.environ, **offline, **variables}
    process = subprocess.Popen(
        [sys.executable, "-P", str(Path(__file__).resolve()), *(["libraries"] if libraries else [])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    with process:
        yield ForkServer(process)
        process.stdin.close()


def serve(libraries):
    """Read lines of JSON with the arguments of `run_in_copy`, and write a line with the result of each."""
    from geoclick import cli

    names = [module for module, _ in cli.COMMANDS.values()]
    if libraries:
        names += [*LIBRARIES, *(["geoclick.inference.app.server"] if find_spec("gradio") else [])]
    for name in names:
        importlib.import_module(name)
    reader = os.fdopen(os.dup(0), "rb", buffering=0)
    while line := read_line(reader):
        print(json.dumps(run_in_copy(**json.loads(line))), flush=True)


def read_line(reader):
    """A line, without reading ahead: a copy must not inherit later lines."""
    line = b""
    while not line.endswith(b"\n"):
        if not (part := reader.read(1 << 16)):
            return b""
        line += part
    return line


def run_in_copy(folder, words, stop, ready, most):
    """The attributes of the Result of one command; arguments as in `ForkServer.run`."""
    streams = [os.memfd_create(name) for name in ("stdout", "stderr")]
    child = os.fork()
    if child == 0:
        become(folder, streams)
        from geoclick import cli

        code = 70
        try:
            sys.argv = ["geoclick", *words]
            code = cli.main(words)
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code or 0)
    status, usage = wait(child, stop, most, lambda: bool(ready) and ready in peek(streams[0]))
    stdout, stderr = (text_of(stream) for stream in streams)
    code = None if status is None else os.waitstatus_to_exitcode(status)
    return {"code": code, "stdout": stdout, "stderr": stderr, "cpu": usage.ru_utime + usage.ru_stime}


def become(folder, streams):
    """Make this copy the process of a command: its streams, its folder, its limits, its group."""
    os.setsid()
    # A shell that starts the tests in the background lets them ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, stream in enumerate(streams, start=1):
        os.dup2(stream, number)
    os.chdir(folder)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY,) * 2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (OUTPUT,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def text_of(stream):
    """What a stream holds, which is closed."""
    text = peek(stream)
    os.close(stream)
    return text


def peek(stream):
    """What a stream holds."""
    size = os.fstat(stream).st_size
    return os.pread(stream, min(size, 1 << 20), 0).decode("utf-8", "backslashreplace")


def wait(child, stop, most, is_ready):
    """(status, usage) of a copy; the status is None if it was stopped because it would not end.

    Args:
        child: its process.
        stop: as in `ForkServer.run`.
        most: as in `ForkServer.run`.
        is_ready: whether it is a server that runs, which is stopped soon after.
    """
    last, since, end = -1.0, (start := time.monotonic()), float("inf")
    while True:
        pid, status, usage = os.wait4(child, os.WNOHANG)
        if pid:
            stop_group(child)
            return status, usage
        seconds, asleep, count = cpu_of(child)
        if stop and seconds >= stop[1]:
            os.kill(child, stop[0])
            stop = None
        if seconds != last or not asleep:
            last, since = seconds, time.monotonic()
        if is_ready():
            end = min(end, time.monotonic() + READY_SECONDS)
        late = time.monotonic() - since > ASLEEP_SECONDS or time.monotonic() > end
        if seconds > most or late or count > MOST_PROCESSES:
            stop_group(child)
            _, _, usage = os.wait4(child, 0)
            return None, usage
        time.sleep(0.01 if stop else min(max(0.01, (time.monotonic() - start) / 10), 0.5))


def cpu_of(child):
    """(seconds of CPU time, whether all are asleep, number) of the processes in the group of a copy."""
    seconds, asleep, count = 0.0, True, 0
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == child:
            seconds += sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
            asleep, count = asleep and fields[0] in "SDZ", count + 1
    return seconds, asleep, count


def stop_group(child):
    """End what a copy has started and left."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    serve("libraries" in sys.argv)
