"""How far a job is in its output folder: new, unfinished or complete."""

from pathlib import Path
from typing import Any

from geoclick.errors import GeoClickError, UsageError
from geoclick.geo.tiles import Window
from geoclick.jobs.run_folder import RunFolder
from geoclick.output_folder import LOCK
from geoclick.prepare import JOBS, manifest, tile_writer
from geoclick.prepare.manifest import Identity, Manifest

WHAT = {
    "job": "another dataset",
    "version": "another version of geoclick",
    "split": "another --split",
    "tile": "another version of geoclick",
    "overlap": "another version of geoclick",
    "images": "other raw images",
}
"""What differs, by the key of the identity."""

FIX = {
    "version": "delete it and prepare it again",
    "tile": "delete it and prepare it again",
    "overlap": "delete it and prepare it again",
    "images": "restore the raw images and --only as they were",
}
"""The fix, by the key of the identity."""


class PreparedFolder(RunFolder):
    """The output folder of a job, whose manifest is written last; `identity` decides its bytes."""

    WORK, RECORD, RESULT = tile_writer.FOLDER, f"{tile_writer.FOLDER}/job.json", manifest.NAME
    COMMAND = "prepare"

    def __init__(self, path: Path, identity: Identity) -> None:
        super().__init__(path, dict(identity))
        self.identity = identity

    def recorded(self) -> dict[str, Any] | None:
        """The recorded identity, of a complete output that in its manifest; None if there is none."""
        finished = manifest.read(self.path)
        recorded = super().recorded() if finished is None else dict(finished)
        if recorded is None:
            return None
        return {key: value for key, value in recorded.items() if key in self.settings}

    def is_tidy(self) -> bool:
        """Whether the job is complete, and no run that was killed has left something besides the result."""
        return self.is_complete() and not self.work.exists() and not (self.path / LOCK).exists()

    def check(self) -> bool:
        """As `RunFolder.check`; raises UsageError also for an output with the folders of an earlier version."""
        if not super().check():
            return False
        written = manifest.read(self.path)
        records = [tile_writer.read_record(self.path, name) for name in self.identity["images"]]
        files = (
            written["files"]
            if written
            else {name for record in records if record for name in record["files"]}
        )
        expected = {Path(name).parent for name in self._places()}
        if other := sorted(
            {Path(name).parent.as_posix() for name in files if Path(name).parent not in expected}
        ):
            now = ", ".join(sorted(folder.as_posix() for folder in expected))
            raise UsageError(
                f"{self.path} was prepared by an earlier version, with {', '.join(other)} in place of {now} and other "
                "label values; name another --output, or delete that folder."
            )
        return True

    def _places(self) -> tuple[str, str]:
        """An image and a label of the job, relative to the output."""
        return JOBS[self.identity["job"]].output(self.identity["split"], "", Window(0, 0, 0, 0))

    def check_new(self) -> None:
        """Raise UsageError if the folder, which has no record, holds images that no job has written."""
        for name in self._places():
            folder = (self.path / name).parent
            if folder.is_dir() and any(folder.iterdir()):
                raise UsageError(f"{folder} holds files of another origin; name another --output.")

    def refusal(self, key: str, recorded: Any) -> UsageError:
        """The error for the output of another job."""
        return UsageError(
            f"{self.path} was started with {WHAT[key]}; {FIX.get(key, 'give the same options')}, or name another "
            "--output."
        )

    def finish(self) -> Manifest:
        """Write the manifest, remove the progress records, and return the manifest.

        Raises GeoClickError if files were removed meanwhile.
        """
        unknown: dict[str, int] = {}
        written: dict[str, str] = {}
        for name in self.identity["images"]:
            record = tile_writer.read_record(self.path, name)
            if record is None:
                raise GeoClickError(f"Files of {name} in {self.path} were removed; rerun the command.")
            written |= record["files"]
            if record["unknown_pixels"]:
                unknown[name] = record["unknown_pixels"]
        content: Manifest = {
            **self.identity,
            "tiles": len(written) // 2,
            "unknown_pixels": unknown,
            "files": dict(sorted(written.items())),
        }
        manifest.write(self.path, content)
        self.end()
        return content
