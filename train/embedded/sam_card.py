"""The model card of the embedded SAM."""

import datetime
import platform
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from geoclick.files import sha256
from geoclick.train.embedded.sam_evaluation import CLICKS
from geoclick.train.embedded.sam_options import EmbeddedSamOptions

STAGE = "### Stage "
"""Start of the headings in the Training section of a model that was trained in several runs."""


def model_card(
    options: EmbeddedSamOptions,
    scores: Mapping[str, Mapping[str, float]],
    *,
    steps: int,
    minutes: float,
    earlier: str = "",
) -> str:
    """The card as Markdown.

    Args:
        options: of the training run.
        scores: of each held-out set, as `sam_evaluation.evaluate` returns them.
        steps: number of optimizer steps.
        minutes: training time.
        earlier: the training of the weights that the run started from, as `earlier_stages` returns it; empty for
            random weights.
    """
    names = {
        key: path and Path(path).name
        for key, path in (("tiles", options.tiles), ("start_from", options.start_from))
    }
    values = asdict(options) | names
    listing = "\n".join(f"    {k}: {v}" for k, v in values.items() if k not in ("output", "cache"))
    stage = (
        f"{earlier}\n\n{STAGE}{earlier.count(STAGE) + 1}\nStarted from these weights.\n" if earlier else ""
    )
    versions = "1 and 2" if options.scenes_version == "2" else "1"
    return f"""# The embedded SAM of GeoClick

segment-anything's classes (ViT image encoder, prompt encoder, mask decoder) at 256 x 256 pixels with patches
of 8. The architecture is in config.json, the weights are in model.safetensors (float16). This model is for learning
the tool, for demos and for tests; on real data use a released SAM. License: Apache-2.0, like GeoClick.

## Data
Procedural scenes of geoclick.scenes (version {versions}), and crops of the aerial tiles of Dubai by Humans in the
Loop and the Mohammed Bin Rashid Space Center (CC0 1.0), without the held-out tiles (`held_out` below). No other
weights were used.

## Training
{stage}`python -m train.embedded.sam --config FILE --tiles FOLDER` (files: configs/embedded_sam): {steps} steps in
{minutes:.0f} minutes on {options.threads} thread of a CPU ({platform.machine()}),
{datetime.date.today():%d %B %Y}, with the options

{listing}

## Evaluation
Mean IoU on held-out data after 1 to {CLICKS} clicks of the center rule. The first click takes the mask with the highest
predicted IoU of three, later clicks take the single mask, with feedback. `box`: the single mask for the exact box,
without clicks:

{_iou_table(scores)}

Of the three masks for the first click: the mean IoU of the mask with the highest predicted IoU, of the best mask and
of all three, and the rank correlation of predicted and true IoU:

{_three_masks_table(scores)}

## Limitations
Images are scaled to 256 pixels, so that small objects on large tiles vanish. The model was trained on the scenes
and one city only; expect it to fail on other imagery.
"""


def earlier_stages(folder: Path) -> str:
    """The Training section of the card in a folder of weights, as numbered stages, and the hash of the weights."""
    card = folder / "README.md"
    text = card.read_text(encoding="utf-8") if card.exists() else ""
    section = re.search(r"^## Training\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    training = section[1].strip() if section else "Unknown: the weights have no card with a Training section."
    if not training.startswith(STAGE):
        training = f"{STAGE}1\n{training}"
    return f"{training}\n\nThe resulting weights have the SHA-256 {sha256(folder / 'model.safetensors')}."


def _iou_table(scores: Mapping[str, Mapping[str, float]]) -> str:
    head = ["held out", "objects", *(str(n) for n in range(1, CLICKS + 1)), "box"]
    keys = [*(f"iou@{n}" for n in range(1, CLICKS + 1)), "box"]
    rows = [[name, str(s["objects"]), *(f"{s[key]:.3f}" for key in keys)] for name, s in scores.items()]
    return _table(head, rows)


def _three_masks_table(scores: Mapping[str, Mapping[str, float]]) -> str:
    keys = ["chosen", "best", "any", "rank_correlation"]
    rows = [[name, *(f"{s[key]:.3f}" for key in keys)] for name, s in scores.items()]
    return _table(["held out", *(key.replace("_", " ") for key in keys)], rows)


def _table(head: list[str], rows: list[list[str]]) -> str:
    rule = f"|{'---|' * len(head)}"
    return "\n".join([f"| {' | '.join(head)} |", rule, *(f"| {' | '.join(row)} |" for row in rows)])
