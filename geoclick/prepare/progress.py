"""How far a job is in its output folder: new, unfinished or complete."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from geoclick import files
from geoclick.errors import GeoClickError, UsageError
from geoclick.geo.tiles import Window
from geoclick.prepare import JOBS, manifest, tile_writer
from geoclick.prepare.manifest import Identity, Manifest


def is_complete(output: Path, identity: Identity) -> bool:
    """Whether the job has been finished; raises UsageError if another job has."""
    finished = manifest.read(output)
    if finished is not None:
        _compare(output, finished, identity)
    return finished is not None


def check_origin(output: Path, identity: Identity) -> None:
    """Raise UsageError if an unfinished output is that of another job, or holds images that no job has written."""
    path = _identity_path(output)
    if path.is_file():
        try:
            _compare(output, json.loads(path.read_text(encoding="utf-8")), identity)
        except ValueError as error:
            raise GeoClickError(f"{path} is broken; delete {output} and rerun the command.") from error
        return
    for name in JOBS[identity["job"]].output(identity["split"], "", Window(0, 0, 0, 0)):
        folder = (output / name).parent
        if folder.is_dir() and any(folder.iterdir()):
            raise UsageError(f"{folder} holds files of another origin; name another --output.")


def begin(output: Path, identity: Identity) -> None:
    """Record the job in its output, so that a rerun can resume it."""
    files.write_whole(_identity_path(output), json.dumps(identity) + "\n")


def finish(output: Path, identity: Identity) -> Manifest:
    """Write the manifest, remove the progress records, and return the manifest.

    Raises GeoClickError if files were removed meanwhile.
    """
    unknown: dict[str, int] = {}
    written: dict[str, str] = {}
    for name in identity["images"]:
        record = tile_writer.read_record(output, name)
        if record is None:
            raise GeoClickError(f"Files of {name} in {output} were removed; rerun the command.")
        written |= record["files"]
        if record["unknown_pixels"]:
            unknown[name] = record["unknown_pixels"]
    content: Manifest = {
        **identity,
        "tiles": len(written) // 2,
        "unknown_pixels": unknown,
        "files": dict(sorted(written.items())),
    }
    manifest.write(output, content)
    shutil.rmtree(output / tile_writer.FOLDER, ignore_errors=True)
    return content


def _identity_path(output: Path) -> Path:
    return output / tile_writer.FOLDER / "job.json"


def _compare(output: Path, recorded: Mapping[str, object], identity: Identity) -> None:
    if key := next((key for key, value in identity.items() if recorded.get(key) != value), None):
        raise UsageError(
            f"{output} was started with another {key}; give the same options and raw files again, or name another "
            "--output."
        )
