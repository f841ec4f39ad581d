"""Synthesis with SAM 2.1 (tiny) against transformers' processor and model, one object at a time.

    python -m benchmarks.segmenters --output runs/segmenters

Both ways simulate the same clicks on the same random images and objects, with one model of random weights. The other
way is the plain loop of transformers' documentation: each object encodes its image, and each click is one call of the
model with the logits of the last mask. Writes segmenters.json.
"""

import copy
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from geoclick import files
from geoclick.clicks import ClickSequence
from geoclick.command import Command
from geoclick.config import option

if TYPE_CHECKING:
    from transformers import Sam2Model, Sam2Processor

    from geoclick.segmenters.transformers_sam import TransformersSam

UNREACHABLE = 2.0
"""An IoU target that no mask reaches, so that every sequence has the maximum number of clicks."""


@dataclass(frozen=True, kw_only=True)
class SegmenterOptions:
    """Options of `python -m benchmarks.segmenters`."""

    output: str = option(help="folder for segmenters.json")
    images: int = option(1, help="number of images", minimum=1)
    objects: int = option(8, help="objects of each image", minimum=1)
    clicks: int = option(3, help="clicks on each object", minimum=1)
    side: int = option(512, help="sides of the images in pixels", minimum=64)
    seed: int = option(0, help="random seed")
    repeats: int = option(3, help="measurements of each way, in turn; the medians are reported", minimum=1)
    device: str = option("cpu", help="cpu or cuda")


Scene = tuple[np.ndarray, list[np.ndarray]]
"""An image, uint8 [H, W, 3], and the masks of its objects, bool [H, W]."""


def scenes(options: SegmenterOptions) -> list[Scene]:
    """Random images with random ellipses as objects."""
    random = np.random.default_rng(options.seed)
    side = options.side
    rows, columns = np.mgrid[:side, :side]
    found = []
    for _ in range(options.images):
        image = random.integers(0, 256, (side, side, 3), dtype=np.uint8)
        masks = []
        for _ in range(options.objects):
            y, x, height, width = (*random.uniform(0.2, 0.8, 2) * side, *random.uniform(0.05, 0.2, 2) * side)
            masks.append(((rows - y) / height) ** 2 + ((columns - x) / width) ** 2 < 1)
        found.append((image, masks))
    return found


def load(device: str, seed: int) -> "tuple[Sam2Model, Sam2Processor, TransformersSam]":
    """SAM 2.1 of the tiny shape with random weights, its processor, and both as a segmenter."""
    from transformers import Sam2Config, Sam2ImageProcessor, Sam2Model, Sam2Processor

    from geoclick.segmenters.transformers_folders import SAM2
    from geoclick.segmenters.transformers_sam import TransformersSam

    torch.manual_seed(seed)
    model = Sam2Model(Sam2Config()).eval().to(device)
    processor = Sam2Processor(Sam2ImageProcessor())
    # Each way has a model of its own.
    segmenter = TransformersSam(
        copy.deepcopy(model), processor.image_processor, SAM2, name="sam2.1_hiera_tiny", device=device
    )
    return model, processor, segmenter


def simulated(segmenter: "TransformersSam", data: list[Scene], clicks: int) -> list[ClickSequence]:
    """The clicks of GeoClick's simulation: each image is encoded once, and its objects are decoded together."""
    from geoclick.data_synthesis.simulation.simulate import simulate

    found: list[ClickSequence] = []
    for image, masks in data:
        embeddings = segmenter.embed([image]) * len(masks)
        done = simulate(segmenter, embeddings, masks, max_clicks=clicks, iou_target=UNREACHABLE)
        found += [one.clicks for one in done]
    return found


@torch.inference_mode()
def one_by_one(
    model: "Sam2Model", processor: "Sam2Processor", data: list[Scene], clicks: int
) -> list[ClickSequence]:
    """The clicks of a loop over objects with transformers' processor and model."""
    from geoclick.segmenters.center_rule import next_click
    from geoclick.segmenters.clicking import FEEDBACK_LIMIT

    found = []
    for image, masks in data:
        for target in masks:
            pixels = processor(images=image, return_tensors="pt").to(model.device)
            levels = model.get_image_embeddings(pixels["pixel_values"])
            mask, previous = np.zeros_like(target), None
            sequence: ClickSequence = ()
            for _ in range(clicks):
                click = next_click(target, mask, sequence)
                if click is None:
                    break
                sequence = (*sequence, click)
                prompt = processor(
                    input_points=[[[[c.x, c.y] for c in sequence]]],
                    input_labels=[[[int(c.positive) for c in sequence]]],
                    original_sizes=pixels["original_sizes"],
                    return_tensors="pt",
                ).to(model.device)
                output = model(
                    image_embeddings=levels,
                    input_points=prompt["input_points"],
                    input_labels=prompt["input_labels"],
                    input_masks=previous,
                    multimask_output=len(sequence) == 1,
                )
                best = int(output.iou_scores[0, 0].argmax())
                low = output.pred_masks[:, :, best : best + 1]
                mask = processor.post_process_masks(low, pixels["original_sizes"])[0][0, 0].cpu().numpy()
                previous = low[:, 0].clamp(-FEEDBACK_LIMIT, FEEDBACK_LIMIT)
            found.append(sequence)
    return found


def timed(work: Callable[[], list[ClickSequence]]) -> tuple[list[ClickSequence], dict[str, float]]:
    """The result of a function and its times."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = work()
    return found, {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}


def medians(times: list[dict[str, float]]) -> dict[str, float]:
    """The median of each kind of time."""
    return {name: statistics.median(own[name] for own in times) for name in times[0]}


def run(options: SegmenterOptions) -> None:
    """Measure both ways, print the ratio and write segmenters.json."""
    data = scenes(options)
    model, processor, segmenter = load(options.device, options.seed)
    # The first calls allocate memory.
    simulated(segmenter, [(data[0][0], data[0][1][:1])], 1)
    ways = {
        "geoclick": lambda: simulated(segmenter, data, options.clicks),
        "transformers": lambda: one_by_one(model, processor, data, options.clicks),
    }
    found: dict[str, list[ClickSequence]] = {}
    times: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    for _ in range(options.repeats):
        for name, work in ways.items():
            found[name], own = timed(work)
            times[name].append(own)
    ours, theirs = (medians(times[name]) for name in ways)
    same = sum(one == two for one, two in zip(*found.values(), strict=True))
    result = {
        "objects": len(found["geoclick"]),
        "clicks": options.clicks,
        "repeats": options.repeats,
        "threads": torch.get_num_threads(),
        "geoclick": ours,
        "transformers": theirs,
        "ratio": theirs["seconds"] / ours["seconds"],
        "cpu_ratio": theirs["cpu_seconds"] / ours["cpu_seconds"],
        "same_sequences": same,
        "times": times,
    }
    files.write_whole(Path(options.output) / "segmenters.json", json.dumps(result, indent=1) + "\n")
    print(
        f"{result['objects']} objects, {options.clicks} clicks: GeoClick {ours['cpu_seconds']:.1f} CPU s "
        f"({ours['seconds']:.1f} s), one by one {theirs['cpu_seconds']:.1f} CPU s ({theirs['seconds']:.1f} s), "
        f"ratio {result['cpu_ratio']:.2f} ({result['ratio']:.2f}); {same} equal sequences"
    )


main = Command(
    prog="python -m benchmarks.segmenters",
    options=SegmenterOptions,
    run=run,
    description="Synthesis with SAM 2.1 against transformers' processor and model, one object at a time.",
    example="python -m benchmarks.segmenters --output runs/segmenters",
)


if __name__ == "__main__":
    sys.exit(main())
