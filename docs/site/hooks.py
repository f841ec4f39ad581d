"""Hooks of mkdocs: the packages as they are installed, for the pages made from docstrings.

The folders `data_synthesis`, `train` and `inference` are imported as `geoclick.data_synthesis` and so on. mkdocstrings
reads source files and imports nothing, so that it needs that tree on the disk: a temporary folder of symbolic links.
"""

import tempfile
from pathlib import Path
from typing import Any

from mkdocs.plugins import event_priority

ROOT = Path(__file__).resolve().parents[2]
_tree = tempfile.TemporaryDirectory()


@event_priority(100)  # before mkdocstrings reads its paths
def on_config(config: Any) -> Any:
    """Lay the packages out in a temporary folder and let mkdocstrings search there."""
    package = Path(_tree.name) / "geoclick"
    package.mkdir(exist_ok=True)
    folders = [ROOT / name for name in ("data_synthesis", "train", "inference")]
    for path in (*(ROOT / "geoclick").iterdir(), *folders):
        link = package / path.name
        if not link.exists():
            link.symlink_to(path)
    config.plugins["mkdocstrings"].config.handlers["python"]["paths"] = [_tree.name]
    return config
