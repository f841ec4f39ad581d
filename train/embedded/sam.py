"""Train the small SAM that ships with the package, on scenes and, where given, on crops of real tiles.

    python -m train.embedded.sam --config configs/embedded_sam/default.yaml

The architecture is segment-anything's, for 256 x 256 images with patches of 8: vehicles and roads are
a few pixels wide. Most steps see quarter frames, which cost a quarter; the last ones see whole frames only. The same
command goes on where it was stopped, from the last checkpoint.
"""

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from geoclick import config, files
from geoclick.command import Command
from geoclick.config import option

if TYPE_CHECKING:
    import numpy as np
    from segment_anything.modeling import Sam

    from geoclick.train.embedded.sam_frames import Tile
    from geoclick.train.embedded.sam_loss import Batch
    from geoclick.train.embedded.scene_cache import SceneCache


@dataclass(frozen=True)
class EmbeddedSamOptions:
    """What `python -m train.embedded.sam` takes."""

    output: str = option("runs/embedded_sam", help="run folder; the finished model is in its subfolder model")
    cache: str = option("runs/scene_cache", help="folder for the drawn scenes")
    scenes: int = option(6000, help="scenes to train on")
    tiles: str | None = option(None, help="folder of real tiles (images/, masks/, classes.json), or none")
    tile_share: float = option(0.3, help="share of frames that are crops of the tiles")
    held_out: str = option("tile6", help="tiles whose name begins so are for evaluation only")
    steps: int = option(3000, help="optimiser steps")
    images: int = option(8, help="images a step")
    objects: int = option(4, help="objects to click on in each image")
    clicks: tuple[int, ...] = option((2, 3, 3, 4), help="clicks a step, one of these numbers drawn each time")
    feedback_share: float = option(0.8, help="share of steps that feed the last mask back")
    crop_share: float = option(
        0.9, help="share of steps on quarter frames; falls to 0 from 60 to 90 % of them"
    )
    learning_rate: float = option(2e-3, help="peak learning rate")
    warmup: int = option(200, help="steps to the peak")
    weight_decay: float = option(0.02, help="AdamW weight decay")
    average: float = option(0.998, help="decay of the running average of the weights, which is what is kept")
    seed: int = option(0, help="seed of the weights, scenes and clicks")
    device: str = option("auto", help="auto, cpu, cuda or cuda:N")
    threads: int = option(1, help="threads of the CPU")
    save_every: int = option(200, help="steps between resumable checkpoints")
    evaluate_every: int = option(500, help="steps between evaluations")


POSITION_SCALE = 2.0
"""Spread of the prompt encoder's random frequencies: double, so that a token is told from its neighbors."""

ATTENTION_SCALE = 2.0
"""Queries and keys between clicks and image start equal and this much larger, so that a click attends to its own
place from the first step on; left to chance, finding that took longer than the whole training."""


def architecture() -> "SamConfig":  # noqa: F821
    """The embedded SAM: 1.6 M parameters, 32 x 32 tokens, low-resolution masks of 128 x 128."""
    from geoclick.segmenters.sam import SamConfig

    return SamConfig(
        image_size=256,
        patch_size=8,
        encoder_width=128,
        encoder_depth=5,
        encoder_heads=4,
        global_blocks=(2, 4),
        window_size=8,
        # The relative-position tables of segment-anything cost half of the encoder's time on a CPU.
        relative_positions=False,
        prompt_width=96,
        decoder_depth=2,
        decoder_heads=4,
        decoder_mlp=384,
        score_hidden=96,
    )


def untrained(seed: int) -> "Sam":
    """The model with random weights."""
    import torch

    from geoclick.segmenters.sam import build

    torch.manual_seed(seed)
    sam = build(architecture())
    torch.nn.init.trunc_normal_(sam.image_encoder.pos_embed, std=0.02)
    sam.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix.mul_(POSITION_SCALE)
    transformer = sam.mask_decoder.transformer
    crossings = [transformer.final_attn_token_to_image]
    for layer in transformer.layers:
        crossings += [layer.cross_attn_token_to_image, layer.cross_attn_image_to_token]
    with torch.no_grad():
        for attention in crossings:
            attention.q_proj.weight.mul_(ATTENTION_SCALE)
            attention.k_proj.load_state_dict(attention.q_proj.state_dict())
    return sam.train()


def draw_batch(
    sam: "Sam",
    cache: "SceneCache",
    tiles: "list[Tile]",
    rng: "np.random.Generator",
    options: EmbeddedSamOptions,
    quarter: bool,
) -> "Batch":
    """Frames with objects: whole ones, or `quarter` frames at a random multiple of the attention window."""
    from geoclick.scenes import SIZE
    from geoclick.train.embedded.sam_frames import cropped, pick_objects, scene_frame, tile_frame
    from geoclick.train.embedded.sam_loss import collate

    frames, targets = [], []
    while len(frames) < options.images:
        from_tile = tiles and rng.random() < options.tile_share
        frame = tile_frame(tiles, rng) if from_tile else scene_frame(cache, rng)
        frame = cropped(frame, SIZE // 2, rng) if quarter else frame
        masks = pick_objects(frame.ids, options.objects, rng)
        if masks is not None:
            frames.append(frame)
            targets.append(masks)
    window = architecture().window_size * architecture().patch_size
    steps = (SIZE // 2) // window
    offset = tuple(int(v) * window for v in rng.integers(steps + 1, size=2)) if quarter else (0, 0)
    return collate(sam, frames, targets, offset)


class Run:
    """The state of training: weights, their running average, the optimiser and the time used."""

    def __init__(self, options: EmbeddedSamOptions) -> None:
        import copy

        import torch

        from geoclick import devices
        from geoclick.train.embedded.optimisers import matrix_and_other

        self.options, self.folder = options, Path(options.output)
        self.sam = untrained(options.seed).to(devices.choose(options.device))
        self.average = copy.deepcopy(self.sam).eval().requires_grad_(False)
        encoder, decoder = self.sam.image_encoder, self.sam.mask_decoder
        self.optimisers = matrix_and_other(
            [encoder.blocks, decoder.transformer],
            self.sam.parameters(),
            rate=options.learning_rate,
            decay=options.weight_decay,
        )
        self.step, self.seconds = 0, 0.0
        if (self.folder / "checkpoint.pt").exists():
            state = torch.load(self.folder / "checkpoint.pt", map_location="cpu", weights_only=True)
            self.sam.load_state_dict(state["sam"])
            self.average.load_state_dict(state["average"])
            for optimiser, part in zip(self.optimisers, state["optimisers"], strict=True):
                optimiser.load_state_dict(part)
            self.step, self.seconds = state["step"], state["seconds"]
            print(f"going on from step {self.step}", flush=True)

    def save(self) -> None:
        """Write the checkpoint and the model so far; a kill at any moment leaves whole files."""
        import torch

        from geoclick.segmenters.embedded import write_folder

        state = {
            "sam": self.sam.state_dict(),
            "average": self.average.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "step": self.step,
            "seconds": self.seconds,
        }
        torch.save(state, self.folder / "checkpoint.pt.tmp")
        (self.folder / "checkpoint.pt.tmp").replace(self.folder / "checkpoint.pt")
        write_folder(self.average, architecture(), self.folder / "model")

    @property
    def progress(self) -> float:
        """The part of the steps that is done, 0 to 1."""
        return self.step / self.options.steps

    def learn(self, cache: "SceneCache", tiles: "list[Tile]") -> float:
        """One optimiser step; returns its loss."""
        import math

        import numpy as np
        import torch

        from geoclick.train.embedded.sam_loss import clicking_loss

        started = time.monotonic()
        options = self.options
        rng = np.random.default_rng((options.seed, self.step))
        quarter = rng.random() < options.crop_share * min(1.0, max(0.0, (0.9 - self.progress) / 0.3))
        batch = draw_batch(self.sam, cache, tiles, rng, options, quarter)
        with torch.autocast(self.sam.device.type, dtype=torch.bfloat16):
            clicks, feedback = int(rng.choice(options.clicks)), rng.random() < options.feedback_share
            loss = clicking_loss(self.sam, batch, clicks, feedback, rng)
        rate = min(1.0, (self.step + 1) / options.warmup) * (
            0.01 + 0.495 * (1 + math.cos(math.pi * self.progress))
        )
        self.sam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.sam.parameters(), 1.0)
        for optimiser in self.optimisers:
            optimiser.param_groups[0]["lr"] = options.learning_rate * rate
            optimiser.step()
        # A young average follows faster, else it would hold on to the random start.
        decay = min(options.average, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            for mean, weight in zip(self.average.parameters(), self.sam.parameters(), strict=True):
                mean.lerp_(weight, 1 - decay)
        self.step += 1
        self.seconds += time.monotonic() - started
        return float(loss.detach())


def run(options: EmbeddedSamOptions) -> None:
    """Train, then evaluate and write the model with its card."""
    import torch

    from geoclick.train.embedded.sam_evaluation import evaluate, held_out_scenes, held_out_tiles, model_card
    from geoclick.train.embedded.sam_frames import read_tiles
    from geoclick.train.embedded.scene_cache import load

    torch.set_num_threads(options.threads)
    folder = Path(options.output)
    config.write_config(options, folder)
    cache = load(Path(options.cache), count=options.scenes, seed=options.seed + 11)
    examples = {"scenes": held_out_scenes(load(Path(options.cache), count=48, seed=options.seed + 12))}
    tiles = []
    if options.tiles:
        root = Path(options.tiles)
        tiles = read_tiles(root, lambda stem: not stem.startswith(options.held_out))
        examples["tiles"] = held_out_tiles(read_tiles(root, lambda stem: stem.startswith(options.held_out)))
    state, log = Run(options), (folder / "log.jsonl").open("a", encoding="utf-8")
    masks, loss, since = 0, 0.0, state.seconds
    while state.step < options.steps:
        value = state.learn(cache, tiles)
        loss, masks = (
            value if loss == 0 else 0.98 * loss + 0.02 * value,
            masks + options.images * options.objects,
        )
        if state.step % 50 == 0:
            speed = masks / max(state.seconds - since, 1e-6)
            print(
                f"step {state.step}  {state.seconds / 60:.1f} min  loss {loss:.3f}  {speed:.0f} masks/s",
                flush=True,
            )
            masks, since = 0, state.seconds
        if state.step % options.save_every == 0:
            state.save()
        if state.step % options.evaluate_every == 0:
            row = {name: evaluate(state.average, samples) for name, samples in examples.items()}
            print(json.dumps({"step": state.step} | row), file=log, flush=True)
            print(f"step {state.step}  {row}", flush=True)
    state.save()
    metrics = {name: evaluate(state.average, samples) for name, samples in examples.items()}
    metrics |= {"steps": state.step, "minutes": state.seconds / 60}
    files.write_whole(folder / "metrics.json", json.dumps(metrics, indent=1) + "\n")
    files.write_whole(folder / "model" / "README.md", model_card(options, metrics))
    print(json.dumps(metrics))


main = Command(
    prog="python -m train.embedded.sam",
    options=EmbeddedSamOptions,
    run=run,
    description="Train the small SAM that ships with the package.",
    example="python -m train.embedded.sam --config configs/embedded_sam/default.yaml",
)


if __name__ == "__main__":
    sys.exit(main())
