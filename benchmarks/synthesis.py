"""How fast masks become clicks: the loop that people write around SamPredictor, against `geoclick synth`'s.

    python -m benchmarks.synthesis --root DATA --split train --output runs/speed

Both click on the same masks with the same weights and the same rule: the center rule, the best of three masks on the
first click, feedback, until the IoU target or the last click. The loop takes one object at a time, one
`SamPredictor.predict` a click and distance transforms of the whole image; it encodes an image once for all its objects,
as its users do who know about it. Each way is run beforehand on the first image, unmeasured; then they take turns,
image by image, so that whatever else the machine does meets both.

`--model vit_b` has SAM ViT-B's shape and random weights: what it costs does not depend on them.
"""

import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geoclick import config, files
from geoclick.command import Command
from geoclick.config import option
from geoclick.options import DatasetOptions

if TYPE_CHECKING:
    from segment_anything import SamPredictor
    from segment_anything.modeling import Sam

    from geoclick.data_synthesis.shards.job import Job
    from geoclick.datasets import Sample

SHAPES = {
    "vit_b": {"encoder_width": 768, "encoder_depth": 12, "encoder_heads": 12, "global_blocks": (2, 5, 8, 11)},
    "vit_h": {
        "encoder_width": 1280,
        "encoder_depth": 32,
        "encoder_heads": 16,
        "global_blocks": (7, 15, 23, 31),
    },
}
"""SAM's encoders; the rest is SamConfig's default."""


@dataclass(frozen=True, kw_only=True)
class SpeedOptions(DatasetOptions):
    """What `python -m benchmarks.synthesis` takes."""

    output: str = option(help="folder for speed.json")
    split: str = option("train", help="name of the split")
    model: str = option(
        "embedded", help="embedded, or SAM's shape with random weights", choices=("embedded", *SHAPES)
    )
    precision: str = option(
        "float32", help="arithmetic of geoclick's SAM; the loop's is float32", choices=("float32", "bfloat16")
    )
    compile: bool = option(False, help="geoclick's SAM by torch.compile; compiling is not timed")
    device: str = option("auto", help="auto, cpu, cuda or cuda:N")
    images: int = option(6, help="images of the split, drawn at random, that are clicked on", minimum=1)
    objects: int = option(20, help="masks of each image at most, drawn at random", minimum=1)
    clicks: int = option(6, help="clicks of a sequence at most", minimum=1)
    iou_target: float = option(0.9, help="a sequence ends when its mask has this IoU")
    batch: int = option(32, help="prompts that geoclick decodes together", minimum=1)
    threads: int | None = option(None, help="threads of the CPU; none takes PyTorch's", minimum=1)
    seed: int = option(0, help="of the weights, and of the images and masks drawn")


def plain_transform(mask: np.ndarray) -> np.ndarray:
    """The distance transform as the public clickers write it: the whole image, padded."""
    from scipy.ndimage import distance_transform_edt

    return distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]


Made = tuple[list[tuple[int, int, bool]], float]
"""The clicks (x, y, positive) on one mask, and the IoU that they reach."""


def plain_loop(predictor: "SamPredictor", samples: "Sequence[Sample]", options: SpeedOptions) -> list[Made]:
    """The clicks on the masks of one image, one object and one click at a time."""
    predictor.set_image(samples[0].read_image())
    found = []
    for sample in samples:
        target, mask, logits = sample.mask, np.zeros(sample.size, bool), None
        points, labels = [], []
        for turn in range(options.clicks):
            missed, surplus = plain_transform(target & ~mask), plain_transform(mask & ~target)
            for x, y in points:
                missed[y, x] = surplus[y, x] = 0
            if missed.max() == surplus.max() == 0:
                break
            positive = missed.max() > surplus.max()
            depths = missed if positive else surplus
            y, x = np.unravel_index(depths.argmax(), depths.shape)
            points.append((int(x), int(y)))
            labels.append(int(positive))
            masks, scores, low_res = predictor.predict(
                np.array(points), np.array(labels), mask_input=logits, multimask_output=turn == 0
            )
            best = scores.argmax()
            mask, logits = masks[best], low_res[best : best + 1].clip(-32, 32)
            iou = (mask & target).sum() / (mask | target).sum()
            if iou >= options.iou_target:
                break
        clicks = [(x, y, bool(label)) for (x, y), label in zip(points, labels, strict=True)]
        found.append((clicks, float(iou)))
    return found


def batched(job: "Job", samples: "Sequence[Sample]") -> list[Made]:
    """The same clicks by the job of `geoclick synth`."""
    from geoclick.data_synthesis.shards.job import run_shard

    rows = run_shard(job, samples, on_left_out=print, advance=lambda: None)
    return [([tuple(click) for click in row.clicks], row.ious[-1]) for row in rows]


def model(options: SpeedOptions) -> "Sam":
    """A SAM on the CPU as segment-anything writes it: the embedded one, or a shape with random weights."""
    import torch

    from geoclick import embedded
    from geoclick.segmenters.embedded import read_folder
    from geoclick.segmenters.sam import SamConfig, build

    if options.model == "embedded":
        return read_folder(embedded.folder("sam"))
    torch.manual_seed(options.seed)
    return build(SamConfig(**SHAPES[options.model]))


def drawn(samples: "Iterable[Sample]", options: SpeedOptions) -> "list[list[Sample]]":
    """The masks to click on, image by image."""
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        if sample.task != "no_target":
            groups.setdefault(sample.image, []).append(sample)
    random = np.random.default_rng(options.seed)
    names = random.permutation(sorted(groups))[: options.images]
    return [
        [groups[n][i] for i in sorted(random.permutation(len(groups[n]))[: options.objects])] for n in names
    ]


def measure(options: SpeedOptions, samples: "Iterable[Sample]") -> dict[str, Any]:
    """Seconds of both ways over the drawn masks, and how often they agree."""
    import copy

    import torch
    from segment_anything import SamPredictor

    from geoclick import devices
    from geoclick.data_synthesis.shards.job import Job
    from geoclick.data_synthesis.simulation.policies import Clicker
    from geoclick.segmenters.clicking import Prompting
    from geoclick.segmenters.sam import SamSegmenter

    if options.threads:
        torch.set_num_threads(options.threads)
    device = devices.choose(options.device)
    published = model(options).to(device)
    dtype = None if options.precision == "float32" else torch.bfloat16
    segmenter = SamSegmenter(copy.deepcopy(published), name=options.model, device=device, dtype=dtype)
    if options.compile:
        segmenter.compile()
    job = Job(
        segmenter=segmenter,
        max_clicks=options.clicks,
        iou_target=options.iou_target,
        prompting=Prompting(),
        seed=options.seed,
        batch=options.batch,
        image_batch=1,
        clicker=Clicker(),
        sequences=1,
    )
    predictor = SamPredictor(published)
    ways: dict[str, Callable[[Sequence[Sample]], Any]] = {
        "loop": lambda group: plain_loop(predictor, group, options),
        "geoclick": lambda group: batched(job, group),
        "encoder": lambda group: segmenter.embed([group[0].read_image()]),
    }
    groups = drawn(samples, options)
    seconds, results = dict.fromkeys(ways, 0.0), {"loop": [], "geoclick": []}
    for way in ways.values():
        way(groups[0][:2])
        way(groups[0][:1])
    for number, group in enumerate(groups, start=1):
        for name, way in ways.items():
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            began = time.perf_counter()
            made = way(group)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds[name] += time.perf_counter() - began
            if name in results:
                results[name] += made
        told = ", ".join(f"{name} {taken:.1f} s" for name, taken in seconds.items())
        print(f"{number} of {len(groups)} images: {told}", flush=True)
    pairs = [(a, b) for (a, _), (b, _) in zip(results["loop"], results["geoclick"], strict=True)]
    return {
        "model": options.model,
        "precision": options.precision,
        "compiled": options.compile,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "images": len(groups),
        "sizes": sorted({"x".join(map(str, group[0].size)) for group in groups}),
        "masks": len(pairs),
        "clicks": {name: sum(len(clicks) for clicks, _ in made) for name, made in results.items()},
        "mean_iou": {name: round(float(np.mean([i for _, i in made])), 4) for name, made in results.items()},
        "seconds": {name: round(taken, 3) for name, taken in seconds.items()},
        "ratio": round(seconds["loop"] / seconds["geoclick"], 2),
        "encoder_share": round(seconds["encoder"] / seconds["geoclick"], 3),
        "same_first_click": round(float(np.mean([a[:1] == b[:1] for a, b in pairs])), 4),
        "same_sequence": round(float(np.mean([a == b for a, b in pairs])), 4),
    }


def run(options: SpeedOptions) -> None:
    """Measure, print and write."""
    from geoclick import datasets

    samples = datasets.read(
        options.dataset,
        datasets.root_of(options.dataset, options.root),
        options.split,
        options=options.reading(),
        on_left_out=lambda left_out: None,
    )
    result = measure(options, samples)
    config.write_config(options, Path(options.output))
    files.write_whole(Path(options.output) / "speed.json", json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    print(f"geoclick is {result['ratio']:.1f} times as fast as the loop.")


main = Command(
    prog="python -m benchmarks.synthesis",
    options=SpeedOptions,
    run=run,
    description="Compare geoclick synth with a loop around SamPredictor.",
    example="python -m benchmarks.synthesis --root DATA --split train --output runs/speed",
)


if __name__ == "__main__":
    sys.exit(main())
