"""Speed of dense CLIP: batched windows, compared with one window at a time.

    python -m benchmarks.dense_clip --output runs/dense

The model has random weights, on which the time does not depend. Three ways take turns on the same random images:

- plain: one window at a time, with transformers' blocks and attention weights as matrices, as published code does; the
  last block runs once as it is and once modified.
- single: `small_logits` with batches of one window.
- batched: `small_logits` with batches of `--batch` windows.

CPU seconds depend less on the load of the machine than wall-clock seconds. Writes dense.json and prints a table.
"""

import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from geoclick import config, files
from geoclick.clips.architectures import ARCHITECTURES
from geoclick.command import Command
from geoclick.config import option

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import CLIPModel

METHOD = "segearth-ov"


@dataclass(frozen=True, kw_only=True)
class DenseOptions:
    """Options of `python -m benchmarks.dense_clip`."""

    output: str = option(help="folder for dense.json")
    model: str = option(
        "ViT-B-16", help="architecture, by its name in open_clip", choices=tuple(ARCHITECTURES)
    )
    long_side: int = option(448, help="long side of the resized images in pixels", minimum=16)
    batch: int | None = option(None, help="windows in one batch (default: that of `small_logits`)", minimum=1)
    queries: int = option(10, help="number of queries", minimum=1)
    runs: int = option(5, help="runs of each way; the median is reported", minimum=1)
    device: str = option("auto", help="auto, cpu, cuda or cuda:N")
    threads: int | None = option(None, help="threads of PyTorch (default: one for each core)", minimum=1)


def random_model(name: str) -> "CLIPModel":
    """A CLIP of an architecture with random weights."""
    import torch

    from geoclick.clips.open_clip_weights import build

    model = build(ARCHITECTURES[name], quick_gelu=True).to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if hasattr(module, "position_ids"):
            module.position_ids = torch.arange(module.position_ids.shape[-1])[None]
        if isinstance(module, torch.nn.LayerNorm):
            torch.nn.init.ones_(module.weight)
            torch.nn.init.zeros_(module.bias)
        elif module is not model:
            for parameter in module.parameters(recurse=False):
                torch.nn.init.normal_(parameter, std=0.02, generator=generator)
    return model.eval().requires_grad_(False)


def plain_logits(model: "CLIPModel", image: np.ndarray, text: "Tensor", long_side: int) -> "Tensor":
    """As `small_logits` without bias: one window at a time, and the last block twice."""
    import torch
    from torch.nn.functional import interpolate, normalize

    from geoclick.inference.contrastive import dense
    from geoclick.inference.contrastive.resizing import resize_long_side

    pixels = dense.normalized(resize_long_side(image, long_side), model, dense.WindowOptions())
    pixels = pixels.to(model.device)
    corners, (height, width) = dense.windows((pixels.shape[1], pixels.shape[2]), 224, 112)
    total, count = pixels.new_zeros(len(text), *pixels.shape[1:]), pixels.new_zeros(pixels.shape[1:])
    tower, last = model.vision_model, model.vision_model.encoder.layers[-1]
    attention = last.self_attn

    def heads(projection: torch.nn.Module, hidden: "Tensor") -> "Tensor":
        projected = projection(hidden)[0]
        return projected.reshape(len(projected), attention.num_heads, -1).transpose(0, 1)

    for top, left in corners:
        window = pixels[None, :, top : top + height, left : left + width]
        hidden = tower.pre_layrnorm(tower.embeddings(window))
        for layer in tower.encoder.layers[:-1]:
            hidden = layer(hidden, None)
        normed = last.layer_norm1(hidden)
        q, k, v = (heads(p, normed) for p in (attention.q_proj, attention.k_proj, attention.v_proj))
        parts = [torch.softmax(z @ z.transpose(1, 2) * attention.scale, dim=-1) for z in (q, k, v)]
        weights = torch.stack(parts).sum(dim=0)
        modified = attention.out_proj((weights @ v).transpose(0, 1).flatten(1))
        last(hidden, None)
        features = normalize(model.visual_projection(tower.post_layernorm(modified)), dim=-1)
        side = int((len(features) - 1) ** 0.5)
        cosines = (features[1:] @ text.T).T.reshape(1, len(text), side, side)
        cosines = interpolate(cosines, size=(height, width), mode="bilinear", align_corners=False)[0]
        total[:, top : top + height, left : left + width] += cosines
        count[top : top + height, left : left + width] += 1
    return total / count


def seconds(function: "Callable[[], Tensor]") -> tuple[float, float]:
    """Wall-clock and CPU seconds of a call until its result is on the CPU."""
    start, used = time.perf_counter(), time.process_time()
    function().cpu()
    return time.perf_counter() - start, time.process_time() - used


def ways(options: DenseOptions) -> "dict[str, Callable[[], Tensor]]":
    """The three ways by name, each on the same image, queries and weights."""
    import torch

    from geoclick import devices
    from geoclick.inference.contrastive import dense

    device = devices.choose(options.device)
    model = random_model(options.model).to(device)
    text = torch.nn.functional.normalize(torch.randn(options.queries, model.projection_dim), dim=-1).to(
        device
    )
    image = np.random.default_rng(0).integers(
        0, 256, (options.long_side, options.long_side, 3), dtype=np.uint8
    )

    def ours(batch: devices.BatchSize | None) -> "Tensor":
        windows = dense.WindowOptions(long_side=options.long_side, batch=batch)
        return dense.small_logits(model, image, text, METHOD, windows)

    single = devices.BatchSize(1, "windows")
    batched = devices.BatchSize(options.batch, "windows") if options.batch else None
    return {
        "plain": torch.inference_mode()(lambda: plain_logits(model, image, text, options.long_side)),
        "single": lambda: ours(single),
        "batched": lambda: ours(batched),
    }


def measure(functions: "dict[str, Callable[[], Tensor]]", runs: int) -> dict[str, dict[str, float]]:
    """Median seconds of each way, and the largest difference of its logits from those of the first."""
    results = {name: function() for name, function in functions.items()}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in functions}
    for _ in range(runs):
        for name, function in functions.items():
            times[name].append(seconds(function))
    rows = {}
    for name, measured in times.items():
        wall, cpu = (statistics.median(column) for column in zip(*measured, strict=True))
        difference = float((results[name] - results["plain"]).abs().max())
        rows[name] = {"seconds": wall, "cpu_seconds": cpu, "largest_difference": difference}
    return rows


def run(options: DenseOptions) -> None:
    """Measure the ways in turns and write the table."""
    import torch

    if options.threads:
        torch.set_num_threads(options.threads)
    rows = measure(ways(options), options.runs)
    about = {
        "threads": torch.get_num_threads(),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    folder = Path(options.output)
    config.write_config(options, folder)
    files.write_whole(folder / "dense.json", json.dumps(about | {"ways": rows}, indent=2) + "\n")
    print(f"{options.model}, long side {options.long_side}, {about['threads']} threads")
    print(f"{'':<10}{'images/s':>10}{'CPU s':>10}{'speed-up':>10}{'CPU':>8}")
    for name, row in rows.items():
        gain, cpu = (rows["plain"][key] / row[key] for key in ("seconds", "cpu_seconds"))
        print(f"{name:<10}{1 / row['seconds']:>10.2f}{row['cpu_seconds']:>10.2f}{gain:>10.2f}{cpu:>8.2f}")


main = Command(
    prog="python -m benchmarks.dense_clip",
    options=DenseOptions,
    run=run,
    description="Measure dense CLIP with batched windows and with one window at a time.",
    example="python -m benchmarks.dense_clip --output runs/dense",
)


if __name__ == "__main__":
    sys.exit(main())
