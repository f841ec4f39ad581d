"""Proposals stored by content: image, weights and settings, so that other selections need no segmenter."""

import dataclasses
import hashlib
import json
import os
from pathlib import Path

import numpy as np

from geoclick import masks
from geoclick.errors import GeoClickError
from geoclick.files import write_whole
from geoclick.inference.contrastive.proposals import Proposal, ProposalSettings, propose_with
from geoclick.segmenters.base import Segmenter
from geoclick.segmenters.sam import SamSegmenter

VERSION = 1
"""Changes when the same image, weights and settings give other proposals."""


def key(segmenter: Segmenter, image: np.ndarray, settings: ProposalSettings) -> str:
    """The name of the proposals of an image, 64 hexadecimal digits."""
    dtype = segmenter.dtype if isinstance(segmenter, SamSegmenter) else None
    content = {
        "version": VERSION,
        "segmenter": segmenter.name,
        "sha256": segmenter.sha256,
        "dtype": str(dtype),
        "settings": dataclasses.asdict(settings),
        "shape": image.shape,
        "pixels": hashlib.sha256(image.tobytes()).hexdigest(),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def cached(
    folder: Path, segmenter: Segmenter, image: np.ndarray, settings: ProposalSettings
) -> list[Proposal]:
    """The proposals of an image, read from a folder, or made and written to it.

    Args:
        folder: of the cache; several processes may use it at once.
        segmenter: the segmenter; one whose weights have no hash is not cached.
        image: uint8 [H, W, 3] RGB.
        settings: of the proposals.

    Raises:
        GeoClickError: a stored file is broken.
    """
    if not segmenter.sha256:
        return propose_with(segmenter, image, settings)
    name = key(segmenter, image, settings)
    path = folder / name[:2] / f"{name}.json"
    if path.is_file():
        return _read(path)
    proposals = propose_with(segmenter, image, settings)
    lines = [json.dumps(dataclasses.asdict(proposal)) for proposal in proposals]
    # A name for each process, since two may make the same proposals.
    own = path.with_name(f"{name}-{os.getpid()}")
    write_whole(own, "[" + ",\n".join(lines) + "]\n")
    own.replace(path)
    return proposals


def _read(path: Path) -> list[Proposal]:
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(records, list):
            raise ValueError("no list")
        proposals = [
            Proposal(
                record["rle"],
                float(record["predicted_iou"]),
                float(record["stability"]),
                (float(record["point"][0]), float(record["point"][1])),
                tuple(map(int, record["box"])),  # type: ignore[arg-type]
            )
            for record in records
        ]
        for proposal in proposals:
            masks.area(proposal.rle)
    except (OSError, ValueError, KeyError, TypeError, IndexError, GeoClickError) as error:
        raise GeoClickError(f"The stored proposals in {path} are broken; delete the file.") from error
    return proposals
