"""The model card of the embedded SAM."""

import datetime
import platform
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from geoclick.train.embedded.sam_evaluation import CLICKS
from geoclick.train.embedded.sam_options import EmbeddedSamOptions


def model_card(
    options: EmbeddedSamOptions, scores: Mapping[str, Mapping[str, float]], *, steps: int, minutes: float
) -> str:
    """The card as Markdown.

    Args:
        options: of the training run.
        scores: of each held-out set, as `sam_evaluation.evaluate` returns them.
        steps: number of optimizer steps.
        minutes: training time.
    """
    values = asdict(options) | {"tiles": options.tiles and Path(options.tiles).name}
    listing = "\n".join(f"    {k}: {v}" for k, v in values.items() if k not in ("output", "cache"))
    return f"""# The embedded SAM of GeoClick

segment-anything's classes (ViT image encoder, prompt encoder, mask decoder) at 256 x 256 pixels with patches
of 8. The architecture is in config.json, the weights are in model.safetensors (float16). This model is for learning
the tool, for demos and for tests; on real data use a released SAM. License: Apache-2.0, like GeoClick.

## Data
Procedural scenes of geoclick.scenes, and crops of the aerial tiles of Dubai by Humans in the Loop and the
Mohammed Bin Rashid Space Center (CC0 1.0), without the held-out tiles (`held_out` below). No other weights
were used.

## Training
`python -m train.embedded.sam --config configs/embedded_sam/default.yaml --tiles FOLDER`: {steps} steps in
{minutes:.0f} minutes on {options.threads} thread of a CPU ({platform.machine()}),
{datetime.date.today():%d %B %Y}, with the options

{listing}

## Evaluation
Mean IoU on held-out data after 1 to {CLICKS} clicks of the center rule. The first click takes the mask with the highest
predicted IoU of three, later clicks take the single mask, with feedback:

{_iou_table(scores)}

Of the three masks for the first click: the mean IoU of the mask with the highest predicted IoU, of the best mask and
of all three, and the rank correlation of predicted and true IoU:

{_three_masks_table(scores)}

## Limitations
Images are scaled to 256 pixels, so that small objects on large tiles vanish. The model was trained on the scenes
and one city only; expect it to fail on other imagery.
"""


def _iou_table(scores: Mapping[str, Mapping[str, float]]) -> str:
    head = ["held out", "objects", *(str(n) for n in range(1, CLICKS + 1))]
    rows = [
        [name, str(s["objects"]), *(f"{s[f'iou@{n}']:.3f}" for n in range(1, CLICKS + 1))]
        for name, s in scores.items()
    ]
    return _table(head, rows)


def _three_masks_table(scores: Mapping[str, Mapping[str, float]]) -> str:
    keys = ["chosen", "best", "any", "rank_correlation"]
    rows = [[name, *(f"{s[key]:.3f}" for key in keys)] for name, s in scores.items()]
    return _table(["held out", *(key.replace("_", " ") for key in keys)], rows)


def _table(head: list[str], rows: list[list[str]]) -> str:
    rule = f"|{'---|' * len(head)}"
    return "\n".join([f"| {' | '.join(head)} |", rule, *(f"| {' | '.join(row)} |" for row in rows)])
