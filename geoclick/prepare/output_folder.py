"""The folder that a job writes: new, interrupted or whole."""

import json
import shutil
from pathlib import Path
from typing import Any

from geoclick.errors import GeoClickError, UsageError
from geoclick.files import write_whole
from geoclick.geo.tiles import Window
from geoclick.prepare import JOBS, manifest, tile_writer


def is_whole(output: Path, begun: dict[str, Any]) -> bool:
    """Whether a job has been finished there.

    Args:
        output: the folder.
        begun: what decides the bytes: `job`, `version`, `split`, `tile`, `overlap` and the names of the `images`.

    Raises:
        UsageError: it is another job's.
    """
    whole = manifest.read(output)
    if whole is not None:
        _compare(output, whole, begun)
    return whole is not None


def check_origin(output: Path, begun: dict[str, Any]) -> None:
    """Raise UsageError when an unfinished output is another job's, or holds pictures that no job has written."""
    path = _settings(output)
    if path.is_file():
        try:
            _compare(output, json.loads(path.read_text(encoding="utf-8")), begun)
        except ValueError as error:
            raise GeoClickError(
                f"{path} is broken; delete {output} and start the same command again."
            ) from error
        return
    for name in JOBS[begun["job"]].output(begun["split"], "", Window(0, 0, 0, 0)):
        folder = (output / name).parent
        if folder.is_dir() and any(folder.iterdir()):
            raise UsageError(f"{folder} holds files of another origin; name another --output.")


def begin(output: Path, begun: dict[str, Any]) -> None:
    """Say in the output which job it is, for a later start."""
    write_whole(_settings(output), json.dumps(begun) + "\n")


def finish(output: Path, begun: dict[str, Any]) -> dict[str, Any]:
    """Write the manifest, remove what only an interrupted job needs, and return the manifest.

    Beside what `begun` says it holds `tiles`, how many pictures there are, `unknown_pixels`, those of labels by image
    where there are any, and `files`. Raises GeoClickError when files were removed meanwhile.
    """
    unknown, written = {}, {}
    for name in begun["images"]:
        account = tile_writer.read_account(output, name)
        if account is None:
            raise GeoClickError(f"Files of {name} in {output} were removed; start the same command again.")
        written |= account["files"]
        if account["unknown_pixels"]:
            unknown[name] = account["unknown_pixels"]
    content = begun | {
        "tiles": len(written) // 2,
        "unknown_pixels": unknown,
        "files": dict(sorted(written.items())),
    }
    manifest.write(output, content)
    shutil.rmtree(output / tile_writer.FOLDER, ignore_errors=True)
    return content


def _settings(output: Path) -> Path:
    return output / tile_writer.FOLDER / "job.json"


def _compare(output: Path, old: dict[str, Any], begun: dict[str, Any]) -> None:
    if key := next((key for key, value in begun.items() if old.get(key) != value), None):
        raise UsageError(
            f"{output} was begun with another {key}; give the same options and raw files again, or name another "
            "--output."
        )
