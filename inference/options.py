"""What `geoclick predict` and `geoclick evaluate` share: which models are asked, and how."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from geoclick.config import option

if TYPE_CHECKING:
    from geoclick.segmenters import Segmenter
    from geoclick.vlms.loading import Vlm


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """The options that name the VLM and the segmenter and say how answers are taken and decoded."""

    vlm: str = option("embedded", help="'embedded', a hub id or a model folder")
    adapter: str | None = option(None, help="adapter folder of geoclick train")
    answer_format: str | None = option(
        None, choices=("json", "compact"), help="the adapter's own when none, else json"
    )
    max_new_tokens: int | None = option(
        None, help="where an answer is cut; by the answer format when none", minimum=1
    )
    min_pixels: int | None = option(None, help="least area of the image that the VLM sees", minimum=1)
    max_pixels: int | None = option(None, help="largest area of the image that the VLM sees", minimum=1)
    segmenter: str = option(
        "embedded", help="'embedded', or sam_vit_b, sam_vit_l, sam_vit_h with --checkpoint"
    )
    checkpoint: str | None = option(None, help="the segmenter's .pth file")
    decode: str = option(
        "replay",
        choices=("replay", "joint"),
        help="replay: click by click with feedback; joint: all clicks at once",
    )
    device: str = option("auto", help="auto, cpu, cuda or cuda:N")


def load_vlm(options: ModelOptions) -> "tuple[Vlm, str]":
    """The VLM, with its adapter if one is named, and the answer format to ask in."""
    from geoclick.vlms import loading

    vlm = loading.load(
        options.vlm,
        adapter=options.adapter,
        device=options.device,
        min_pixels=options.min_pixels,
        max_pixels=options.max_pixels,
    )
    return vlm, options.answer_format or (vlm.record.answer_format if vlm.record else "json")


def load_segmenter(options: ModelOptions) -> "Segmenter":
    """The frozen segmenter."""
    from geoclick import segmenters

    return segmenters.load(options.segmenter, checkpoint=options.checkpoint, device=options.device)
