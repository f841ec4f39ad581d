"""Corrections as rows of a click store, from which `geoclick train sft` continues.

The output folder is a dataset: `images/` holds a copy of each corrected image, named by its content, and `clicks/` the
click store, whose paths are relative to the output folder. A correction of the same image and query replaces the
earlier one.
"""

import hashlib
import shutil
import threading
from pathlib import Path

import numpy as np

from geoclick import files, masks, output_folder, store
from geoclick.codec import Part
from geoclick.errors import GeoClickError, UsageError
from geoclick.geo.reading import PixelOptions, recorded_rule
from geoclick.inference.app import editing
from geoclick.inference.app.editing import Parts
from geoclick.inference.app.options import AppOptions
from geoclick.inference.app.session import Layer, Session
from geoclick.inference.app.sources import Opened
from geoclick.store import Row

IMAGES, CLICKS = "images", "clicks"
POLICY = "app"
"""`policy` of the rows."""


class Corrections:
    """The click store of an output folder, which one process writes.

    Args:
        folder: the output folder.
        pixels: how images are read, recorded in the manifest.

    Raises:
        UsageError: the folder has corrections of images that were read by another rule.
        GeoClickError: its store is broken.
    """

    def __init__(self, folder: Path, pixels: PixelOptions) -> None:
        self.folder, self.pixels = folder, pixels
        self._lock = threading.Lock()
        self._rows: dict[str, Row] = {}
        if (folder / CLICKS / "manifest.json").is_file():
            earlier = recorded_rule(store.read_manifest(folder / CLICKS))
            if earlier != pixels:
                raise UsageError(
                    f"{folder} has corrections of images shown with other --bands or --stretch; give the same ones, or "
                    "another --output."
                )
            self._rows = {row.sample_id: row for row in store.read(folder / CLICKS)}

    def __len__(self) -> int:
        return len(self._rows)

    def save(self, session: Session, layer: Layer) -> bool:
        """Write the row of a layer; returns whether it replaces an earlier one of the same image and query.

        Raises:
            GeoClickError: the parts cannot be taught, or the image has changed.
        """
        editing.check_teachable(layer.parts)
        if layer.parts and not layer.decoded.mask.any():
            raise GeoClickError(
                "The mask is empty; move a click, or delete all clicks to teach that there is no target."
            )
        image = self._copy(session.opened)
        row = row_of(session, layer, image)
        with self._lock:
            replaced = row.sample_id in self._rows
            rows = {**self._rows, row.sample_id: row}
            self._write(rows)
            self._rows = rows
        return replaced

    def _copy(self, opened: Opened) -> str:
        """Copy an image unless it is there; returns its path relative to the folder.

        Raises:
            GeoClickError: the file is no longer the one that was opened.
        """
        name = f"{IMAGES}/{opened.sha256[:16]}{opened.path.suffix.lower()}"
        target = self.folder / name
        with self._lock:
            files.refuse_link(target)
            if not target.is_file():
                if not opened.path.is_file() or files.sha256(opened.path) != opened.sha256:
                    raise GeoClickError(f"{opened.name} has changed since it was opened; open it again.")
                target.parent.mkdir(parents=True, exist_ok=True)
                with files.whole(target) as partial:
                    shutil.copyfile(opened.path, partial)
        return name

    def _write(self, rows: dict[str, Row]) -> None:
        """Write the store; the shard is replaced as a whole, so that a kill leaves the old or the new one."""
        folder = self.folder / CLICKS
        store.write_shard(folder, 0, 1, rows.values())
        store.write_manifest(
            folder,
            {
                "dataset": "app",
                "split": "train",
                "policy": POLICY,
                "bands": list(self.pixels.bands),
                "stretch": list(self.pixels.stretch),
                "samples": len(rows),
            },
        )


def row_of(session: Session, layer: Layer, image: str) -> Row:
    """The row of a layer: the target is the mask of its clicks.

    Args:
        session: with the image.
        layer: the corrected answer.
        image: its path relative to the dataset.
    """
    height, width = session.opened.size
    segmenter = session.segmenter
    clicks = tuple(click for _, click in editing.clicks_of(layer.parts))
    target = layer.decoded.mask
    return Row(
        sample_id=f"{Path(image).stem}-{hashlib.sha256(layer.query.encode()).hexdigest()[:12]}",
        dataset="app",
        split="train",
        task="referring" if clicks else "no_target",
        image=image,
        width=width,
        height=height,
        query=layer.query,
        mask=masks.encode_rle(target),
        clicks=clicks,
        ious=ious_of(session, layer.parts, target),
        segmenter=segmenter.name,
        segmenter_sha256=segmenter.sha256,
        policy=f"{POLICY}+{session.decode}",
        seed=0,
        parts=tuple(len(part.clicks) for part in layer.parts),
    )


def ious_of(session: Session, parts: Parts, target: np.ndarray) -> tuple[float, ...]:
    """The IoU of the mask after each click with the target, bool [H, W]; the parts before count as a whole."""
    beginnings = [
        (*parts[:index], Part(part.clicks[: length + 1]))
        for index, part in enumerate(parts)
        for length in range(len(part.clicks))
    ]
    return tuple(masks.iou(one.mask, target) for one in map(session.decoded, beginnings))


def open_folder(options: AppOptions) -> Corrections:
    """The corrections of the output folder, which the caller has locked; writes config.yaml."""
    folder = Path(options.output)
    output_folder.write_config(options, folder, "app")
    return Corrections(folder, options.pixels())
