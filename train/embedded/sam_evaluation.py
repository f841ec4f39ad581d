"""How well a SAM answers clicks of the center rule on held-out objects, and the card that tells it."""

import datetime
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import spearmanr
from segment_anything.modeling import Sam

from geoclick.clicks import ClickSequence
from geoclick.data_synthesis.simulation.next_click import next_click
from geoclick.masks import iou
from geoclick.segmenters.base import Embedding, Prompt
from geoclick.segmenters.clicking import Clicking
from geoclick.segmenters.sam import SamSegmenter
from geoclick.train.embedded.sam_frames import SMALLEST, Tile, components
from geoclick.train.embedded.scene_cache import SceneCache

if TYPE_CHECKING:
    from geoclick.train.embedded.sam import EmbeddedSamOptions

CLICKS = 6


@dataclass(frozen=True, eq=False)
class Example:
    """An image uint8 [H, W, 3], targets on it bool [H, W], and the pixels that count, bool [H, W]."""

    image: np.ndarray
    targets: list[np.ndarray]
    valid: np.ndarray


def held_out_scenes(cache: SceneCache) -> list[Example]:
    """Every object of SMALLEST pixels or more in every scene, at most four a scene."""
    examples = []
    for image, ids in zip(cache.images, cache.ids, strict=True):
        numbers, areas = np.unique(ids[ids > 0], return_counts=True)
        kept = np.random.default_rng(0).permutation(numbers[areas >= SMALLEST])[:4]
        examples.append(Example(np.array(image), [ids == n for n in kept], np.ones(ids.shape, bool)))
    return [example for example in examples if example.targets]


def held_out_tiles(tiles: list[Tile], count: int = 30) -> list[Example]:
    """Components that cover 0.1 to 50 % of their tile, at most `count` a tile."""
    examples = []
    for tile in tiles:
        ids = components(tile.classes)
        numbers, areas = np.unique(ids[ids > 0], return_counts=True)
        kept = numbers[(areas >= 0.001 * ids.size) & (areas <= 0.5 * ids.size)]
        kept = np.random.default_rng(0).permutation(kept)[:count]
        examples.append(Example(tile.image, [ids == n for n in kept], tile.classes > 0))
    return examples


def evaluate(sam: Sam, examples: list[Example]) -> dict[str, float]:
    """How well clicks of the center rule are answered, with the default policy of Clicking.

    Returns:
        `iou@1` to `iou@6`, the mean IoU after so many clicks; `objects`, their number; and of the three masks that
        the first click gives: `chosen`, the mean IoU of the one that the SAM scores highest, `best` that of the best,
        `any` that of all three, and `rank_correlation`, Spearman's, of predicted and true IoU over all of them.
    """
    segmenter = SamSegmenter(sam, name="embedded", device=sam.device, image_batch=4)
    curves, scored = [], []
    for example in examples:
        embedding = segmenter.embed([example.image])[0]
        clicking = Clicking(segmenter, [embedding] * len(example.targets))
        history = []
        for _ in range(CLICKS):
            clicking.step(
                [
                    next_click(target, mask, sequence, example.valid)
                    for target, mask, sequence in zip(
                        example.targets, clicking.masks, clicking.sequences, strict=True
                    )
                ]
            )
            history.append(
                [iou(m, t, example.valid) for m, t in zip(clicking.masks, example.targets, strict=True)]
            )
        curves += np.array(history).T.tolist()
        scored += _three_masks(segmenter, embedding, example, [s[:1] for s in clicking.sequences])
    means = np.mean(curves, axis=0)
    measured = {f"iou@{n}": round(float(mean), 4) for n, mean in enumerate(means, start=1)}
    predicted, true = np.array(scored).transpose(1, 0, 2)
    chosen = np.take_along_axis(true, predicted.argmax(1)[:, None], 1)
    measured |= {"chosen": chosen.mean(), "best": true.max(1).mean(), "any": true.mean()}
    measured["rank_correlation"] = spearmanr(predicted.ravel(), true.ravel()).statistic
    return {name: round(float(value), 4) for name, value in measured.items()} | {"objects": len(curves)}


def _three_masks(
    segmenter: SamSegmenter, embedding: Embedding, example: Example, sequences: list[ClickSequence]
) -> list[list[list[float]]]:
    """Predicted and true IoUs, three each, of the masks that one click gives, for each target."""
    prompts = [Prompt(sequence) for sequence in sequences]
    scored = []
    for decoded, target in zip(
        segmenter.decode([embedding] * len(prompts), prompts, multimask=True), example.targets, strict=True
    ):
        masks = segmenter.masks(decoded.low_res, embedding).cpu().numpy()
        scored.append([decoded.scores.tolist(), [iou(mask, target, example.valid) for mask in masks]])
    return scored


def model_card(options: "EmbeddedSamOptions", metrics: dict) -> str:
    """The README of the embedded SAM: what it is, from what, how well, and where it ends."""
    values = asdict(options) | {"tiles": options.tiles and Path(options.tiles).name}
    shown = "\n".join(f"    {k}: {v}" for k, v in values.items() if k not in ("output", "cache"))
    held_out = {name: m for name, m in metrics.items() if isinstance(m, dict)}
    rows = "\n".join(
        f"| {name} | {m['objects']} | "
        + " | ".join(f"{m[f'iou@{n}']:.3f}" for n in range(1, CLICKS + 1))
        + " |"
        for name, m in held_out.items()
    )
    ranks = "\n".join(
        f"| {name} | {m['chosen']:.3f} | {m['best']:.3f} | {m['any']:.3f} | {m['rank_correlation']:.3f} |"
        for name, m in held_out.items()
    )
    return f"""# The embedded SAM of GeoClick

segment-anything's classes (ViT image encoder, prompt encoder, mask decoder) at 256 x 256 pixels with patches
of 8; numbers in config.json, weights in model.safetensors (float16). Made to learn the tool, for demos and for
tests; on real data use a released SAM. Licence: Apache-2.0, like GeoClick.

## Data
Procedural scenes of geoclick.scenes, and crops of the aerial tiles of Dubai by Humans in the Loop and the
Mohammed Bin Rashid Space Center (CC0 1.0), without the held-out tiles (`held_out` below). No other weights
were used.

## Training
`python -m train.embedded.sam --config configs/embedded_sam/default.yaml`: {metrics["steps"]} steps in
{metrics["minutes"]:.0f} minutes on {options.threads} thread of a CPU ({platform.machine()}),
{datetime.date.today():%d %B %Y}, with the options

{shown}

## Measured
Mean IoU after so many clicks of the center rule on held-out data, best of three on the first click, then the
single mask with feedback:

| held out | objects | 1 | 2 | 3 | 4 | 5 | 6 |
|---|---|---|---|---|---|---|---|
{rows}

Of the three masks that the first click gives: mean IoU of the one with the highest predicted IoU, of the best, of
all; and the rank correlation of predicted and true IoU.

| held out | chosen | best | any | rank correlation |
|---|---|---|---|---|
{ranks}

## Limits
Images are scaled to 256 pixels: on large tiles small things vanish. Never trained on anything but the scenes
and one city; on other imagery expect it to fail.
"""
