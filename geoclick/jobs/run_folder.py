"""The output folder of a job: new, interrupted or complete; opened by its first process, joined by the others.

The settings that decide the result are recorded in the folder, so that a later start continues the same job or is
refused. What only an interrupted job needs lies in a subfolder, which is removed at the end.
"""

import json
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

from geoclick import files, output_folder
from geoclick.errors import GeoClickError
from geoclick.files import write_whole
from geoclick.jobs import claims, failures, processes


class RunFolder(ABC):
    """The folder of one kind of job.

    Attributes:
        WORK: subfolder with what only an interrupted job needs.
        RECORD: file with the settings, relative to the folder.
        RESULT: file that is written last: the folder is complete when it exists.
        OF_DATA: settings that follow from the data, not from the command's options.
        JOB: what the job is called in messages.
        COMMAND: the command that makes such folders, a key of `output_folder.KINDS`.
        path: the folder.
        settings: everything that decides the result, as JSON returns it.
    """

    WORK: ClassVar[str]
    RECORD: ClassVar[str]
    RESULT: ClassVar[str]
    OF_DATA: ClassVar[tuple[str, ...]] = ()
    JOB: ClassVar[str] = "job"
    COMMAND: ClassVar[str]

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path = path
        self.settings: dict[str, Any] = json.loads(json.dumps(settings))  # tuples become lists

    @abstractmethod
    def check_new(self) -> None:
        """Raise GeoClickError if the folder, which has no record, holds files of something else."""

    @abstractmethod
    def refusal(self, key: str, recorded: Any) -> GeoClickError:
        """The error for a folder whose recorded value of `key` differs from that in the settings."""

    @property
    def work(self) -> Path:
        """The subfolder with what only an interrupted job needs."""
        return self.path / self.WORK

    def is_complete(self) -> bool:
        """Whether the result exists."""
        return (self.path / self.RESULT).is_file()

    def recorded(self) -> dict[str, Any] | None:
        """The recorded settings; None if there are none."""
        try:
            return read_record(self.path / self.RECORD, self.path)
        except FileNotFoundError:
            return None

    def check(self) -> bool:
        """Compare the settings with the recorded ones.

        Returns:
            Whether there are recorded ones; a folder without them is new.

        Raises:
            GeoClickError: the folder belongs to another job or to something else, or its record is broken.
        """
        recorded = self.recorded()
        if recorded is None:
            self.check_new()
            return False
        differing = [key for key in self.settings | recorded if self.settings.get(key) != recorded.get(key)]
        if differing:
            # An option that differs is the reason for other data.
            key = next((key for key in differing if key not in self.OF_DATA), differing[0])
            raise self.refusal(key, recorded.get(key))
        return True

    def record(self) -> None:
        """Record the settings."""
        write_whole(self.path / self.RECORD, json.dumps(self.settings, indent=2) + "\n")

    def join(self) -> BinaryIO | None:
        """Take part in the job: process 0 opens the folder, new or interrupted, and the others wait until it has.

        Returns:
            The claims, to be closed at the end; process 0 holds them also when the folder is complete, the others get
            None then.

        Raises:
            GeoClickError: as `check`, in process 0; another job is writing the folder; process 0 does not open it.
        """
        if not processes.is_first():
            return self._follow()
        self.check()
        held = claims.open_as_first(self.work / "claims")
        if held is None:
            raise GeoClickError(
                f"Another {self.JOB} is writing {self.path}; wait until it has ended, or stop it."
            )
        try:
            # Again: another job may have started and even ended since.
            if not self.check():
                self.record()
        except BaseException:
            held.close()
            raise
        return held

    def _follow(self) -> BinaryIO | None:
        joined: list[BinaryIO] = []

        def is_open() -> bool:
            # The record may be that of an earlier job with other settings: process 0 reports that.
            if self.recorded() != self.settings:
                return False
            if self.is_complete():
                return True
            if held := claims.open_as_other(self.work / "claims"):
                joined.append(held)
            return bool(joined)

        processes.wait_for_first(is_open, f"started to write {self.path}")
        return joined[0] if joined else None

    @contextmanager
    def open(self) -> Iterator[BinaryIO | None]:
        """Join the job for a block, in which one process reports the error when one fails.

        Yields the claims, or None if the folder is complete. No other job can write the folder before the block ends.
        When it succeeds, process 0 removes what only an interrupted job needs.
        """
        first = processes.is_first()
        with output_folder.opened(self.path, self.COMMAND) if first else nullcontext():
            held = self.join()
            with held or nullcontext(), failures.single_error(self.work, self.path):
                yield None if self.is_complete() else held
                if first:
                    self.end()

    def wait_until_complete(self, held: BinaryIO) -> None:
        """Wait until process 0 ends; raises failures.Ended if the folder is not complete then."""
        claims.wait_until_released(held, claims.FIRST)
        if not self.is_complete():
            raise failures.Ended

    def end(self) -> None:
        """Remove what only an interrupted job needs."""
        shutil.rmtree(self.work, ignore_errors=True)


def read_record(path: Path, output: Path) -> dict[str, Any]:
    """A JSON object that a job has written.

    Args:
        path: the file.
        output: folder of the job, named in the error.

    Raises:
        GeoClickError: the file is broken.
        FileNotFoundError: there is no such file.
    """
    files.refuse_special(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("no JSON object")
    except (ValueError, RecursionError) as error:
        raise GeoClickError(
            f"{path} is broken ({error}); delete {output} and rerun the command, or name another --output."
        ) from error
    return content
