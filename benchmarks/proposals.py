"""Speed and memory of proposals, compared with segment-anything's SamAutomaticMaskGenerator.

    python -m benchmarks.proposals --output runs/proposals
    python -m benchmarks.proposals --output runs/proposals --model vit_b --side 1024
    python -m benchmarks.proposals --output runs/large --model vit_b --side 3000 --methods geoclick --window 1024

Both have the same weights, settings and images. They run in turns, image by image, so that the load of the machine
affects both; the CPU time depends less on it than the wall-clock time. On a GPU there is a warm-up. Every mask of the
generator must have a partner of IoU 0.99 or more. Peak memory is that of a process with one method and one image.

`vit_b` and the other architectures have random weights. Their predicted IoUs are shifted so that `--passing` of the
masks are above the limit, and their logits are scaled so that masks are stable: real weights pass about half.
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import measured_command
from geoclick import config, files
from geoclick.command import Command
from geoclick.config import option
from geoclick.errors import GeoClickError

if TYPE_CHECKING:
    import torch
    from segment_anything.modeling import Sam

    from geoclick.inference.contrastive.proposals import ProposalSettings

ARCHITECTURES = ("vit_b", "vit_l", "vit_h")
METHODS = ("generator", "geoclick")
LOGITS = 1000.0
"""Factor of the logits of random weights."""


@dataclass(frozen=True, kw_only=True)
class ProposalSpeedOptions:
    """Options of `python -m benchmarks.proposals`."""

    output: str = option(help="folder for proposals.json")
    model: str = option(
        "embedded",
        help="embedded, or an architecture of SAM with random weights",
        choices=("embedded", *ARCHITECTURES),
    )
    methods: tuple[str, ...] = option(METHODS, help="what to measure", choices=METHODS)
    image: str | None = option(None, help="an image file (default: generated scenes)")
    side: int = option(512, help="long side of the images in pixels", minimum=16)
    images: int = option(2, help="number of generated images", minimum=1)
    points: int = option(29, help="points per side of the grid", minimum=1)
    predicted_iou: float = option(0.88, help="limit of the predicted IoU")
    stability: float = option(0.95, help="limit of the stability")
    window: int = option(
        0, help="side of the windows of larger images; geoclick only, 0 never cuts", minimum=0
    )
    passing: float = option(0.5, help="share of masks above the limit, for random weights")
    device: str = option("auto", help="auto, cpu, cuda or cuda:N")
    threads: int | None = option(None, help="CPU threads (default: PyTorch's)", minimum=1)
    memory: bool = option(True, help="measure the peak memory in processes of their own")
    seed: int = option(0, help="random seed (weights, images)")

    def settings(self) -> "ProposalSettings":
        """The settings of the proposals."""
        from geoclick.inference.contrastive.proposals import ProposalSettings

        return ProposalSettings(
            points_per_side=self.points,
            predicted_iou=self.predicted_iou,
            stability=self.stability,
            window=self.window,
        )


def read_images(options: ProposalSpeedOptions) -> list[np.ndarray]:
    """The images, uint8 [H, W, 3], with their long side at `side` pixels."""
    from PIL import Image

    from geoclick.scenes.layout import generate
    from geoclick.scenes.render import render

    if options.image is not None:
        pictures = [Image.open(options.image).convert("RGB")]
    else:
        scenes = (generate((options.seed, number)) for number in range(options.images))
        pictures = [Image.fromarray(render(scene)[0]) for scene in scenes]
    resized = []
    for picture in pictures:
        scale = options.side / max(picture.size)
        width, height = (max(1, round(scale * length)) for length in picture.size)
        resized.append(np.array(picture.resize((width, height), Image.Resampling.BICUBIC)))
    return resized


def build_model(options: ProposalSpeedOptions, image: np.ndarray) -> "Sam":
    """segment-anything's model with its own layers, on the CPU."""
    import torch

    from geoclick import embedded
    from geoclick.segmenters.architectures import OFFICIAL
    from geoclick.segmenters.embedded import read_folder
    from geoclick.segmenters.sam import build

    if options.model == "embedded":
        return read_folder(embedded.folder("sam"))
    torch.manual_seed(options.seed)
    sam = build(OFFICIAL[f"sam_{options.model}"])
    for network in sam.mask_decoder.output_hypernetworks_mlps:
        network.layers[-1].weight.data *= LOGITS
        network.layers[-1].bias.data *= LOGITS
    with torch.inference_mode():
        features = torch.randn(1, 256, 64, 64, generator=torch.Generator().manual_seed(options.seed))
        points = torch.rand(32, 1, 2) * 1024
        sparse, dense = sam.prompt_encoder((points, torch.ones(32, 1, dtype=torch.int)), None, None)
        _, scores = sam.mask_decoder(features, sam.prompt_encoder.get_dense_pe(), sparse, dense, True)
    # Each output has a mean of its own; the shift of each lets the same share pass.
    shift = options.predicted_iou - scores.quantile(1 - options.passing, dim=0)
    sam.mask_decoder.iou_prediction_head.layers[-1].bias.data[1:] += shift
    return sam


Result = list[tuple[dict[str, Any], float]]
"""RLE and predicted IoU of each mask."""


def build_methods(
    options: ProposalSpeedOptions, sam: "Sam", device: "torch.device"
) -> dict[str, Callable[[np.ndarray], Result]]:
    """The methods to measure, by name."""
    import copy

    from segment_anything import SamAutomaticMaskGenerator

    from geoclick.inference.contrastive.proposals import propose_with
    from geoclick.segmenters.sam import SamSegmenter

    settings = options.settings()
    methods: dict[str, Callable[[np.ndarray], Result]] = {}
    if "generator" in options.methods:
        generator = SamAutomaticMaskGenerator(
            copy.deepcopy(sam).to(device).eval(),
            points_per_side=settings.points_per_side,
            pred_iou_thresh=settings.predicted_iou,
            stability_score_thresh=settings.stability,
            output_mode="coco_rle",
        )
        methods["generator"] = lambda image: [
            (record["segmentation"], record["predicted_iou"]) for record in generator.generate(image)
        ]
    if "geoclick" in options.methods:
        segmenter = SamSegmenter(sam, name=options.model, device=device)
        methods["geoclick"] = lambda image: [
            (dict(proposal.rle), proposal.predicted_iou)
            for proposal in propose_with(segmenter, image, settings)
        ]
    return methods


def worst_partner(generator: Result, geoclick: Result) -> float:
    """The smallest, over the masks of the generator, of the largest IoU with a mask of geoclick; 1 if there is none."""
    from pycocotools import mask as coco

    if not generator:
        return 1.0
    if not geoclick:
        return 0.0
    ious = coco.iou([rle for rle, _ in generator], [rle for rle, _ in geoclick], [0] * len(geoclick))
    return float(np.asarray(ious).max(1).min())


def measure(options: ProposalSpeedOptions) -> dict[str, Any]:
    """Run all methods in turns; the figures by name."""
    import torch

    from geoclick import devices

    if options.threads:
        torch.set_num_threads(options.threads)
    device = devices.choose(options.device)
    images = read_images(options)
    methods = build_methods(options, build_model(options, images[0]), device)
    if device.type == "cuda":
        for method in methods.values():
            method(images[0])
    wall, cpu, peak = (dict.fromkeys(methods, 0.0) for _ in range(3))
    masks = dict.fromkeys(methods, 0)
    partners = []
    for number, image in enumerate(images, start=1):
        results = {}
        for name, method in methods.items():
            if device.type == "cuda":
                torch.cuda.synchronize(device)
                torch.cuda.reset_peak_memory_stats(device)
            start, start_cpu = time.perf_counter(), time.process_time()
            results[name] = method(image)
            wall[name] += time.perf_counter() - start
            cpu[name] += time.process_time() - start_cpu
            masks[name] += len(results[name])
            if device.type == "cuda":
                peak[name] = max(peak[name], torch.cuda.max_memory_allocated(device) / 2**20)
        if len(results) == len(METHODS):
            partners.append(worst_partner(results["generator"], results["geoclick"]))
        times = ", ".join(f"{name} {cpu[name]:.1f} s of CPU time" for name in methods)
        print(f"{number} of {len(images)} images: {times}", flush=True)
    result: dict[str, Any] = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "sizes": [list(image.shape[:2]) for image in images],
        "masks": masks,
        "seconds": {name: round(taken, 3) for name, taken in wall.items()},
        "cpu_seconds": {name: round(taken, 3) for name, taken in cpu.items()},
    }
    if device.type == "cuda":
        result["gpu_peak_mb"] = {name: round(value) for name, value in peak.items()}
    if partners:
        result["ratio"] = round(wall["generator"] / wall["geoclick"], 2)
        result["cpu_ratio"] = round(cpu["generator"] / cpu["geoclick"], 2)
        result["worst_partner"] = round(min(partners), 4)
    return result


def peak_memory(options: ProposalSpeedOptions, method: str) -> float:
    """The peak memory in MB of a process that runs one method on the first image."""
    flags = ["--no-memory", "--images", 1, "--methods", method, "--output", Path(options.output) / method]
    for name in (
        "model",
        "side",
        "points",
        "predicted_iou",
        "stability",
        "window",
        "passing",
        "device",
        "seed",
    ):
        flags += [f"--{name.replace('_', '-')}", getattr(options, name)]
    for name in ("image", "threads"):
        if getattr(options, name) is not None:
            flags += [f"--{name}", getattr(options, name)]
    return measured_command.measure("benchmarks.proposals", *flags).peak_mb


def run(options: ProposalSpeedOptions) -> None:
    """Measure, and print and write the results."""
    # First, since the peak of a process counts that of the process which starts it.
    names = options.methods if options.memory else ()
    peaks = {name: round(peak_memory(options, name)) for name in names}
    result = measure(options)
    if peaks:
        result["peak_mb"] = peaks
    config.write_config(options, Path(options.output))
    files.write_whole(Path(options.output) / "proposals.json", json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    if "ratio" not in result:
        return
    print(
        f"geoclick is {result['ratio']:.1f} times as fast as SamAutomaticMaskGenerator "
        f"({result['cpu_ratio']:.1f} times by CPU time)."
    )
    if result["worst_partner"] < 0.99:
        raise GeoClickError(
            f"A mask of the generator has no partner: its best IoU is {result['worst_partner']}; report it as a bug."
        )


main = Command(
    prog="python -m benchmarks.proposals",
    options=ProposalSpeedOptions,
    run=run,
    description="Compare proposals with segment-anything's mask generator.",
    example="python -m benchmarks.proposals --output runs/proposals",
)


if __name__ == "__main__":
    sys.exit(main())
