"""The small models that ship with the package, trained on its own scenes."""

from pathlib import Path

from geoclick.errors import GeoClickError


def folder(name: str) -> Path:
    """The folder of an embedded model, "sam", "vlm" or "clip"; raises GeoClickError if it is missing."""
    path = Path(__file__).parent / name
    if not path.is_dir():
        raise GeoClickError(f"This installation lacks the embedded model {path}; install the package again.")
    return path
