"""How far a job is in its output folder: new, unfinished or complete."""

from pathlib import Path
from typing import Any

from geoclick.errors import GeoClickError, UsageError
from geoclick.geo.tiles import Window
from geoclick.jobs.run_folder import RunFolder
from geoclick.prepare import JOBS, manifest, tile_writer
from geoclick.prepare.manifest import Identity, Manifest


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

    def check_new(self) -> None:
        """Raise UsageError if the folder, which has no record, holds images that no job has written."""
        for name in JOBS[self.identity["job"]].output(self.identity["split"], "", Window(0, 0, 0, 0)):
            folder = (self.path / name).parent
            if folder.is_dir() and any(folder.iterdir()):
                raise UsageError(f"{folder} holds files of another origin; name another --output.")

    def refusal(self, key: str, recorded: Any) -> UsageError:
        """The error for the output of another job."""
        return UsageError(
            f"{self.path} was started with another {key}; give the same options and raw files again, or name another "
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
