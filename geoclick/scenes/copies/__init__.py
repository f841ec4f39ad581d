"""Tiny copies of public layouts: true names, folders, encodings and traps, with drawn pictures."""

from collections.abc import Callable
from pathlib import Path

from geoclick.scenes.copies.raw import RAW

LAYOUTS: dict[str, Callable[[Path, int, int], None]] = {**RAW}
"""(root, count, seed) -> writes `count` images of the split that is scored, the same ones for the same seed."""
