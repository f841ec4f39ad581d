"""The training state of the embedded SAM: one optimizer step at a time, saved and resumed."""

import copy
import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from geoclick import devices
from geoclick.errors import GeoClickError
from geoclick.scenes import SIZE
from geoclick.segmenters.embedded import write_folder
from geoclick.segmenters.sam_library import Sam
from geoclick.train.embedded.optimizers import matrix_and_other
from geoclick.train.embedded.sam_card import earlier_stages
from geoclick.train.embedded.sam_frames import Frame, Tile, crop, pick_objects, scene_frame, tile_frame
from geoclick.train.embedded.sam_loss import Batch, clicking_loss, collate
from geoclick.train.embedded.sam_model import ARCHITECTURE, initialize, read_start
from geoclick.train.embedded.sam_options import EmbeddedSamOptions
from geoclick.train.embedded.scene_cache import SceneCache

CHECKPOINT = "checkpoint.pt"


class SamTrainer:
    """The weights, their moving average and the optimizers; resumes from the checkpoint in the run folder, if any.

    Attributes:
        sam: the model that is trained.
        average: the moving average of its weights, which is saved as the result.
        step: number of finished steps.
        seconds: time spent in them.
        earlier: for the card, how the weights to start from were trained; empty for random ones.
    """

    def __init__(self, options: EmbeddedSamOptions) -> None:
        self.options, self.folder = options, Path(options.output)
        device, self.earlier = devices.choose(options.device), ""
        resumes = (self.folder / CHECKPOINT).exists()
        if options.start_from and not resumes:
            self.sam = read_start(Path(options.start_from)).to(device)
            self.earlier = earlier_stages(Path(options.start_from))
        else:
            self.sam = initialize(options.seed).to(device)
        self.average = copy.deepcopy(self.sam).eval().requires_grad_(False)
        self.optimizers = matrix_and_other(
            [self.sam.image_encoder.blocks, self.sam.mask_decoder.transformer],
            self.sam.parameters(),
            learning_rate=options.learning_rate,
            weight_decay=options.weight_decay,
            single_precision=True,
        )
        self.step, self.seconds = 0, 0.0
        if resumes:
            self._resume()

    def _resume(self) -> None:
        state = torch.load(self.folder / CHECKPOINT, map_location="cpu", weights_only=True)
        self.sam.load_state_dict(state["sam"])
        self.average.load_state_dict(state["average"])
        for optimizer, values in zip(self.optimizers, state["optimisers"], strict=True):
            optimizer.load_state_dict(values)
        self.step, self.seconds, self.earlier = state["step"], state["seconds"], state["earlier"]
        print(f"resumed from step {self.step}", flush=True)

    def save(self) -> None:
        """Write the checkpoint and the model, each to a temporary name and then renamed."""
        state = {
            "sam": self.sam.state_dict(),
            "average": self.average.state_dict(),
            "optimisers": [optimizer.state_dict() for optimizer in self.optimizers],
            "step": self.step,
            "seconds": self.seconds,
            "earlier": self.earlier,
        }
        torch.save(state, self.folder / f"{CHECKPOINT}.tmp")
        (self.folder / f"{CHECKPOINT}.tmp").replace(self.folder / CHECKPOINT)
        write_folder(self.average, ARCHITECTURE, self.folder / "model")

    def result(self) -> Sam:
        """The averaged weights with --start_share of the weights that the run started from.

        A weighted mean of the weights before and after a fine-tuning can do better on old and new data than either
        (Wortsman et al., Robust fine-tuning of zero-shot models, 2022).

        Raises:
            GeoClickError: the weights of --start_from are not those that the run started from.
        """
        result, share = copy.deepcopy(self.average), self.options.start_share
        if not (share and self.options.start_from):
            return result
        folder = Path(self.options.start_from)
        if earlier_stages(folder) != self.earlier:
            raise GeoClickError(
                f"{folder} has changed since the run started from it, and --start_share needs its weights; put the "
                "old files back, or give --start_from a copy of them."
            )
        start = read_start(folder).to(self.sam.device)
        with torch.no_grad():
            for weight, before in zip(result.parameters(), start.parameters(), strict=True):
                weight.lerp_(before, share)
        return result

    def train_step(self, caches: Sequence[SceneCache], tiles: list[Tile]) -> float:
        """Run one optimizer step and return its loss."""
        started = time.monotonic()
        options, progress = self.options, self.step / self.options.steps
        rng = np.random.default_rng((options.seed, self.step))
        quarter = rng.random() < options.crop_share * min(1.0, max(0.0, (options.full_from - progress) / 0.3))
        batch = draw_batch(self.sam, caches, tiles, rng, options, quarter)
        device = self.sam.device
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=devices.has_bfloat16(device)):
            prompts, feedback = int(rng.choice(options.clicks)), rng.random() < options.feedback_share
            boxed = rng.random() < options.box_share
            loss = clicking_loss(self.sam, batch, prompts, feedback, rng, boxed=boxed)
        self._optimize(loss, self._learning_rate(progress))
        self._update_average()
        self.step += 1
        self.seconds += time.monotonic() - started
        return float(loss.detach())

    def _learning_rate(self, progress: float) -> float:
        """Linear warm-up, then cosine decay to one hundredth."""
        warmup = min(1.0, (self.step + 1) / self.options.warmup)
        return self.options.learning_rate * (warmup * (0.01 + 0.495 * (1 + math.cos(math.pi * progress))))

    def _optimize(self, loss: torch.Tensor, learning_rate: float) -> None:
        self.sam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.sam.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.param_groups[0]["lr"] = learning_rate
            optimizer.step()

    def _update_average(self) -> None:
        # Early on the average follows faster, to forget the random initial weights.
        decay = min(self.options.average, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            for mean, weight in zip(self.average.parameters(), self.sam.parameters(), strict=True):
                mean.lerp_(weight, 1 - decay)


def draw_batch(
    sam: Sam,
    caches: Sequence[SceneCache],
    tiles: list[Tile],
    rng: np.random.Generator,
    options: EmbeddedSamOptions,
    quarter: bool,
) -> Batch:
    """Random frames with objects to click on.

    Args:
        sam: the model that the batch is for.
        caches: scenes to draw frames from, all equally often.
        tiles: real tiles to draw frames from; may be empty.
        rng: source of randomness.
        options: of the run.
        quarter: whether frames are a quarter of the size, at a random multiple of the attention window.
    """
    frames: list[Frame] = []
    targets: list[np.ndarray] = []
    while len(frames) < options.images:
        from_tile = tiles and rng.random() < options.tile_share
        frame = tile_frame(tiles, rng) if from_tile else scene_frame(caches, rng)
        frame = crop(frame, SIZE // 2, rng) if quarter else frame
        masks = pick_objects(frame.ids, options.objects, rng)
        if masks is not None:
            frames.append(frame)
            targets.append(masks)
    if not quarter:
        return collate(sam, frames, targets, (0, 0))
    window = ARCHITECTURE.window_size * ARCHITECTURE.patch_size
    x, y = (int(v) * window for v in rng.integers((SIZE // 2) // window + 1, size=2))
    return collate(sam, frames, targets, (x, y))
