"""Tiny copies of public datasets: their names, folders and encodings, with scenes in place of their images."""

from collections.abc import Callable
from pathlib import Path

from geoclick.scenes.copies.raw import RAW
from geoclick.scenes.copies.referring import REFERRING
from geoclick.scenes.copies.semantic import SEMANTIC

LAYOUTS: dict[str, Callable[[Path, int, int], None]] = {**SEMANTIC, **REFERRING, **RAW}
"""Functions that write the copy of a dataset, with (folder, number of images of the scored split, seed)."""
