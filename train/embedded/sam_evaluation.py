"""How well a SAM segments held-out objects from simulated clicks."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr

from geoclick.clicks import ClickSequence
from geoclick.masks import iou
from geoclick.segmenters.base import Embedding, Prompt
from geoclick.segmenters.center_rule import next_click
from geoclick.segmenters.clicking import Clicking, boxed
from geoclick.segmenters.sam import SamSegmenter
from geoclick.segmenters.sam_library import Sam
from geoclick.train.embedded.sam_frames import SMALLEST, Tile, components
from geoclick.train.embedded.sam_loss import exact_box
from geoclick.train.embedded.scene_cache import SceneCache

CLICKS = 6


@dataclass(frozen=True, eq=False)
class Example:
    """An image uint8 [H, W, 3], targets on it bool [H, W], and the pixels that count, bool [H, W]."""

    image: np.ndarray
    targets: list[np.ndarray]
    valid: np.ndarray


def held_out_scenes(cache: SceneCache) -> list[Example]:
    """At most four objects of SMALLEST pixels or more from every scene."""
    examples = []
    for image, ids in zip(cache.images, cache.ids, strict=True):
        numbers, areas = np.unique(ids[ids > 0], return_counts=True)
        chosen = np.random.default_rng(0).permutation(numbers[areas >= SMALLEST])[:4]
        examples.append(Example(np.array(image), [ids == n for n in chosen], np.ones(ids.shape, bool)))
    return [example for example in examples if example.targets]


def held_out_tiles(tiles: list[Tile], count: int = 30) -> list[Example]:
    """At most `count` components from every tile, each covering 0.1 to 50 % of it."""
    examples = []
    for tile in tiles:
        ids = components(tile.classes)
        numbers, areas = np.unique(ids[ids > 0], return_counts=True)
        chosen = numbers[(areas >= 0.001 * ids.size) & (areas <= 0.5 * ids.size)]
        chosen = np.random.default_rng(0).permutation(chosen)[:count]
        examples.append(Example(tile.image, [ids == n for n in chosen], tile.classes > 0))
    return examples


def evaluate(sam: Sam, examples: list[Example]) -> dict[str, float]:
    """Click on every target by the center rule, prompting in the default way of Clicking, and measure the masks.

    Returns:
        `iou@1` to `iou@6`, the mean IoU after that number of clicks, and `objects`, the number of targets. Of the
        three masks for the first click: `chosen`, the mean IoU of the mask with the highest predicted IoU, `best` of
        the best mask, `any` of all three, and `rank_correlation`, Spearman's, of predicted and true IoU. `box` is the
        mean IoU of the mask for the exact box of the target.
    """
    segmenter = SamSegmenter(sam, name="embedded", device=sam.device, image_batch=4)
    curves: list[list[float]] = []
    of_boxes: list[float] = []
    predicted_and_true: list[list[list[float]]] = []
    for example in examples:
        embedding = segmenter.embed([example.image])[0]
        curve, sequences = _click_on_targets(segmenter, embedding, example)
        curves += curve
        of_boxes += _iou_of_boxes(segmenter, embedding, example)
        predicted_and_true += _three_masks(segmenter, embedding, example, [s[:1] for s in sequences])
    means = np.mean(curves, axis=0)
    scores = {f"iou@{n}": round(float(mean), 4) for n, mean in enumerate(means, start=1)}
    predicted, true = np.array(predicted_and_true).transpose(1, 0, 2)
    chosen = np.take_along_axis(true, predicted.argmax(1)[:, None], 1)
    scores["box"] = float(np.mean(of_boxes))
    scores |= {"chosen": chosen.mean(), "best": true.max(1).mean(), "any": true.mean()}
    scores["rank_correlation"] = spearmanr(predicted.ravel(), true.ravel()).statistic
    return {name: round(float(value), 4) for name, value in scores.items()} | {"objects": len(curves)}


def _click_on_targets(
    segmenter: SamSegmenter, embedding: Embedding, example: Example
) -> tuple[list[list[float]], list[ClickSequence]]:
    """The IoU of each target after each click, and the clicks."""
    clicking = Clicking(segmenter, [embedding] * len(example.targets))
    history = []
    for _ in range(CLICKS):
        state = zip(example.targets, clicking.masks, clicking.sequences, strict=True)
        clicking.step([next_click(target, mask, clicks, example.valid) for target, mask, clicks in state])
        masks = zip(clicking.masks, example.targets, strict=True)
        history.append([iou(mask, target, example.valid) for mask, target in masks])
    return np.array(history).T.tolist(), clicking.sequences


def _iou_of_boxes(segmenter: SamSegmenter, embedding: Embedding, example: Example) -> list[float]:
    """The IoU of the mask for the exact box of each target."""
    boxes = [exact_box(target) for target in example.targets]
    masks = boxed(segmenter, [embedding] * len(boxes), boxes)
    return [iou(mask, target, example.valid) for mask, target in zip(masks, example.targets, strict=True)]


def _three_masks(
    segmenter: SamSegmenter, embedding: Embedding, example: Example, sequences: list[ClickSequence]
) -> list[list[list[float]]]:
    """Predicted and true IoU of the three masks for one click, [2, 3] for each target."""
    prompts = [Prompt(sequence) for sequence in sequences]
    answers = segmenter.decode([embedding] * len(prompts), prompts, multimask=True)
    scores = []
    for decoded, target in zip(answers, example.targets, strict=True):
        masks = segmenter.masks(decoded.low_res, embedding).cpu().numpy()
        scores.append([decoded.scores.tolist(), [iou(mask, target, example.valid) for mask in masks]])
    return scores
