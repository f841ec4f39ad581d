"""Speed of `geoclick synth`, compared with a simple loop around SamPredictor.

    python -m benchmarks.synthesis --root DATA --split train --output runs/speed

Both click on the same masks with the same weights and the same rule: the center rule, the best of three masks on the
first click, and feedback, until the IoU target or the last click. The loop handles one object at a time, with one
`SamPredictor.predict` per click and distance transforms of the complete image; it encodes an image once for all its
objects. After a warm-up on the first image, both run in turns, image by image, so that the load of the machine affects
both.

`--model vit_b` has SAM ViT-B's architecture and random weights, on which the time does not depend.
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
from geoclick.errors import GeoClickError
from geoclick.options import DatasetOptions

if TYPE_CHECKING:
    import torch
    from segment_anything import SamPredictor
    from segment_anything.modeling import Sam

    from geoclick.data_synthesis.shards.job import Job
    from geoclick.datasets import Sample
    from geoclick.segmenters.sam import SamSegmenter

ARCHITECTURES = ("vit_b", "vit_h")
"""SAM's architectures, without the prefix of `geoclick.segmenters.NAMES`."""


@dataclass(frozen=True, kw_only=True)
class SpeedOptions(DatasetOptions):
    """Options of `python -m benchmarks.synthesis`."""

    output: str = option(help="folder for speed.json")
    split: str = option("train", help="name of the split")
    model: str = option(
        "embedded",
        help="embedded, or an architecture of SAM with random weights",
        choices=("embedded", *ARCHITECTURES),
    )
    precision: str = option(
        "float32", help="dtype of geoclick's SAM; the loop uses float32", choices=("float32", "bfloat16")
    )
    compile: bool = option(False, help="use torch.compile for geoclick's SAM; compilation is not timed")
    device: str = option("auto", help="auto, cpu, cuda or cuda:N")
    images: int = option(6, help="number of random images of the split", minimum=1)
    objects: int = option(20, help="maximum number of random masks per image", minimum=1)
    clicks: int = option(6, help="maximum clicks per sequence", minimum=1)
    iou_target: float = option(0.9, help="IoU at which a sequence ends")
    batch: int = option(32, help="prompts per batch of geoclick", minimum=1)
    threads: int | None = option(None, help="CPU threads (default: PyTorch's)", minimum=1)
    seed: int = option(0, help="random seed (weights, images, masks)")


Methods = dict[str, Callable[["Sequence[Sample]"], list[Any]]]
"""Functions that click on the masks of one image, by name."""


def padded_transform(mask: np.ndarray) -> np.ndarray:
    """The distance transform as public click simulations compute it: of the complete, padded image."""
    from scipy.ndimage import distance_transform_edt

    return distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]


Result = tuple[list[tuple[int, int, bool]], float]
"""The clicks (x, y, positive) on one mask, and the IoU after the last one."""


def click_in_a_loop(
    predictor: "SamPredictor", samples: "Sequence[Sample]", options: SpeedOptions
) -> list[Result]:
    """The clicks on the masks of one image, one mask and one click at a time."""
    predictor.set_image(samples[0].read_image())
    return [_click_on_mask(predictor, sample.mask, options) for sample in samples]


def _click_on_mask(predictor: "SamPredictor", target: np.ndarray, options: SpeedOptions) -> Result:
    mask, logits, iou = np.zeros(target.shape, bool), None, 0.0
    points: list[tuple[int, int]] = []
    labels: list[int] = []
    for number in range(options.clicks):
        missed, surplus = padded_transform(target & ~mask), padded_transform(mask & ~target)
        for x, y in points:
            missed[y, x] = surplus[y, x] = 0
        if missed.max() == surplus.max() == 0:
            break
        positive = missed.max() > surplus.max()
        depths = missed if positive else surplus
        row, column = np.unravel_index(depths.argmax(), depths.shape)
        points.append((int(column), int(row)))
        labels.append(int(positive))
        masks, scores, low_res = predictor.predict(
            np.array(points), np.array(labels), mask_input=logits, multimask_output=number == 0
        )
        best = scores.argmax()
        mask, logits = masks[best], low_res[best : best + 1].clip(-32, 32)
        iou = float((mask & target).sum() / (mask | target).sum())
        if iou >= options.iou_target:
            break
    return [(x, y, bool(label)) for (x, y), label in zip(points, labels, strict=True)], iou


def click_with_geoclick(job: "Job", samples: "Sequence[Sample]") -> list[Result]:
    """The same clicks by the job of `geoclick synth`."""
    from geoclick.data_synthesis.shards.make import make

    return [
        ([(int(click.x), int(click.y), click.positive) for click in row.clicks], row.ious[-1])
        for row in make(job, samples).rows
    ]


def build_sam(options: SpeedOptions) -> "Sam":
    """The published implementation of a SAM on the CPU: the embedded model, or one with random weights."""
    import torch

    from geoclick import embedded
    from geoclick.segmenters.architectures import OFFICIAL
    from geoclick.segmenters.embedded import read_folder
    from geoclick.segmenters.sam import build

    if options.model == "embedded":
        return read_folder(embedded.folder("sam"))
    torch.manual_seed(options.seed)
    return build(OFFICIAL[f"sam_{options.model}"])


def draw_samples(samples: "Iterable[Sample]", options: SpeedOptions) -> "list[list[Sample]]":
    """Random masks to click on, grouped by image."""
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        if sample.task != "no_target":
            groups.setdefault(sample.image, []).append(sample)
    random = np.random.default_rng(options.seed)
    names = random.permutation(sorted(groups))[: options.images]
    return [
        [groups[n][i] for i in sorted(random.permutation(len(groups[n]))[: options.objects])] for n in names
    ]


def geoclick_job(options: SpeedOptions, segmenter: "SamSegmenter") -> "Job":
    """The job of `geoclick synth` with the options of the benchmark."""
    from geoclick.data_synthesis.shards.job import Job
    from geoclick.data_synthesis.simulation.part_rules import PartRules
    from geoclick.data_synthesis.simulation.policies import Clicker
    from geoclick.segmenters.clicking import Prompting

    return Job(
        segmenter=segmenter,
        max_clicks=options.clicks,
        iou_target=options.iou_target,
        prompting=Prompting(),
        seed=options.seed,
        batch=options.batch,
        image_batch=1,
        clicker=Clicker(),
        sequences=1,
        parts=PartRules(),
    )


def measure(options: SpeedOptions, samples: "Iterable[Sample]") -> dict[str, Any]:
    """Seconds of both methods on the drawn masks, and how often they agree."""
    import copy

    import torch
    from segment_anything import SamPredictor

    from geoclick import devices
    from geoclick.segmenters.sam import SamSegmenter

    if options.threads:
        torch.set_num_threads(options.threads)
    device = devices.choose(options.device)
    sam = build_sam(options).to(device)
    dtype = None if options.precision == "float32" else torch.bfloat16
    segmenter = SamSegmenter(copy.deepcopy(sam), name=options.model, device=device, dtype=dtype)
    if options.compile:
        segmenter.compile()
    job, predictor = geoclick_job(options, segmenter), SamPredictor(sam)

    def encode(group: "Sequence[Sample]") -> list[Any]:
        segmenter.embed([group[0].read_image()])
        return []

    methods: Methods = {
        "loop": lambda group: click_in_a_loop(predictor, group, options),
        "geoclick": lambda group: click_with_geoclick(job, group),
        "encoder": encode,
    }
    groups = draw_samples(samples, options)
    if not groups:
        raise GeoClickError("The split has no target to click on; give another --root or --split.")
    seconds, results = time_methods(methods, groups, device)
    setup = {
        "model": options.model,
        "precision": options.precision,
        "compiled": options.compile,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "images": len(groups),
        "sizes": sorted({"x".join(map(str, group[0].size)) for group in groups}),
    }
    return setup | summarize(seconds, results["loop"], results["geoclick"])


def time_methods(
    methods: Methods, groups: "list[list[Sample]]", device: "torch.device"
) -> tuple[dict[str, float], dict[str, list[Any]]]:
    """Run the methods in turns, image by image; seconds and results by method.

    The first image is used for an untimed warm-up.
    """
    import torch

    seconds: dict[str, float] = dict.fromkeys(methods, 0.0)
    results: dict[str, list[Any]] = {name: [] for name in methods}
    for method in methods.values():
        method(groups[0][:2])
        method(groups[0][:1])
    for number, group in enumerate(groups, start=1):
        for name, method in methods.items():
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            start = time.perf_counter()
            results[name] += method(group)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds[name] += time.perf_counter() - start
        times = ", ".join(f"{name} {taken:.1f} s" for name, taken in seconds.items())
        print(f"{number} of {len(groups)} images: {times}", flush=True)
    return seconds, results


def summarize(seconds: dict[str, float], loop: list[Result], geoclick: list[Result]) -> dict[str, Any]:
    """The figures of both methods, by name."""
    results = {"loop": loop, "geoclick": geoclick}
    pairs = [(a, b) for (a, _), (b, _) in zip(loop, geoclick, strict=True)]
    return {
        "masks": len(pairs),
        "clicks": {name: sum(len(clicks) for clicks, _ in r) for name, r in results.items()},
        "mean_iou": {name: round(float(np.mean([i for _, i in r])), 4) for name, r in results.items()},
        "seconds": {name: round(taken, 3) for name, taken in seconds.items()},
        "ratio": round(seconds["loop"] / seconds["geoclick"], 2),
        "encoder_share": round(seconds["encoder"] / seconds["geoclick"], 3),
        "same_first_click": round(float(np.mean([a[:1] == b[:1] for a, b in pairs])), 4),
        "same_sequence": round(float(np.mean([a == b for a, b in pairs])), 4),
    }


def run(options: SpeedOptions) -> None:
    """Measure, and print and write the results."""
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
