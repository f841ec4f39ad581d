"""Proposals stored by content: image, weights and settings, so that other selections need no segmenter."""

import dataclasses
import json

import numpy as np

from geoclick.inference.contrastive.cache import Cache, Stored, image_key
from geoclick.inference.contrastive.proposals import Proposal, ProposalSettings, propose_with
from geoclick.segmenters.base import Segmenter
from geoclick.segmenters.sam import SamSegmenter
from geoclick.segmenters.transformers_sam import TransformersSam
from geoclick.yaml_file import Yaml

VERSION = 2
"""Changes when the same image, weights and settings give other proposals, or their form changes."""


def content(segmenter: Segmenter, image: np.ndarray, settings: ProposalSettings) -> dict[str, Yaml]:
    """Everything that the proposals of an image depend on."""
    dtype = segmenter.dtype if isinstance(segmenter, SamSegmenter | TransformersSam) else None
    return {
        "version": VERSION,
        "segmenter": segmenter.name,
        "sha256": segmenter.sha256,
        "dtype": str(dtype),
        "settings": dataclasses.asdict(settings),
        **image_key(image),
    }


def cached(
    cache: Cache | None, segmenter: Segmenter, image: np.ndarray, settings: ProposalSettings
) -> list[Proposal]:
    """The proposals of an image, read from a cache, or made and written to it.

    Args:
        cache: None makes them.
        segmenter: the segmenter; one whose weights have no hash is not cached.
        image: uint8 [H, W, 3] RGB.
        settings: of the proposals.
    """
    if not segmenter.sha256:
        cache = None
    about = {} if cache is None else content(segmenter, image, settings)
    return STORED.value(cache, about, lambda: propose_with(segmenter, image, settings))


def _encode(proposals: list[Proposal]) -> bytes:
    lines = [json.dumps(dataclasses.asdict(proposal)) for proposal in proposals]
    return ("[" + ",\n".join(lines) + "]\n").encode()


def _decode(stored: bytes) -> list[Proposal]:
    return [
        Proposal(
            record["rle"],
            record["predicted_iou"],
            record["stability"],
            (record["point"][0], record["point"][1]),
            (record["box"][0], record["box"][1], record["box"][2], record["box"][3]),
        )
        for record in json.loads(stored)
    ]


STORED = Stored("proposals", _encode, _decode)
