"""Train the small CLIP that ships with the package, on views of scenes with captions.

    python -m train.embedded.clip --config configs/embedded_clip/default.yaml

The architecture is transformers' CLIP, for images of 128 x 128 pixels with patches of 16. Views are contrasted with
captions, whose wrong versions differ by a color, a kind or a count. A second loss, of the training only, contrasts the
patch features of each region with words that name it. Rerun the same command to resume from the last checkpoint.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from geoclick import files, output_folder
from geoclick.command import Command
from geoclick.progress_bar import progress
from geoclick.train.embedded.clip_options import EmbeddedClipOptions

if TYPE_CHECKING:
    from geoclick.train.embedded.clip_evaluation import HeldOut
    from geoclick.train.embedded.clip_trainer import ClipTrainer
    from geoclick.train.embedded.clip_views import Scenes

KIND = "embedded clip"
"""The training's key in `output_folder.KINDS`."""

HELD_OUT_SCENES, HELD_OUT_VIEWS, DENSE_IMAGES = 200, 400, 16


@dataclass(frozen=True)
class TrainingData:
    """The scenes to train on, and held-out views."""

    scenes: "Scenes"
    held_out: "HeldOut"


def run(options: EmbeddedClipOptions) -> None:
    """Train, evaluate, and write the model with its card."""
    output = Path(options.output)
    with output_folder.opened(output, KIND):
        import torch
        from transformers.utils import logging

        from geoclick.train.embedded.clip_processor import build_processor
        from geoclick.train.embedded.clip_trainer import ClipTrainer

        logging.disable_progress_bar()
        torch.set_num_threads(options.threads)
        output_folder.write_config(options, output, KIND)
        data = load_data(options)
        trainer = ClipTrainer(options, build_processor())
        train(trainer, data)
        trainer.save()
        write_results(trainer, data)
    print(f"model: {output / 'model'}\nfigures: {output / 'metrics.json'}")


def load_data(options: EmbeddedClipOptions) -> TrainingData:
    """Render the scenes, or take them from the cache."""
    from geoclick.train.embedded.clip_evaluation import held_out_views
    from geoclick.train.embedded.clip_views import load_scenes

    folder = Path(options.cache)
    held_out = load_scenes(folder, count=HELD_OUT_SCENES, seed=options.seed + 32)
    scenes = load_scenes(folder, count=options.scenes, seed=options.seed + 31)
    return TrainingData(scenes, held_out_views(held_out, HELD_OUT_VIEWS))


def train(trainer: "ClipTrainer", data: TrainingData) -> None:
    """Run the remaining steps, with checkpoints and evaluations at their intervals."""
    from torch.utils.data import DataLoader, Subset

    from geoclick.train.embedded.clip_batches import ClipBatches

    options, tokenizer = trainer.options, trainer.processor.tokenizer
    batches = ClipBatches(data.scenes, tokenizer, steps=options.steps, views=options.views, seed=options.seed)
    remaining = Subset(batches, range(trainer.step, options.steps))
    with progress("train", options.steps, done=trainer.step) as bar:
        for batch in DataLoader(remaining, batch_size=None, num_workers=1, prefetch_factor=4):
            by_name = {name: round(loss.item(), 4) for name, loss in trainer.train_step(batch).items()}
            bar.note = ", ".join(f"{name} {loss:.3f}" for name, loss in by_name.items())
            bar.advance()
            if trainer.step % options.save_every == 0:
                trainer.save()
            if trainer.step % options.evaluate_every == 0:
                bar.print(log(trainer, by_name, data))


def log(trainer: "ClipTrainer", by_name: dict[str, float], data: TrainingData) -> str:
    """Append the losses of a step and the figures of the model to log.jsonl, and return the line."""
    row = {"step": trainer.step, "minutes": round(trainer.seconds / 60, 1)} | by_name
    line = json.dumps(row | trainer.evaluate(data.held_out))
    with (trainer.folder / "log.jsonl").open("a", encoding="utf-8") as file:
        print(line, file=file)
    return line


def write_results(trainer: "ClipTrainer", data: TrainingData) -> None:
    """Write metrics.json and the model card."""
    from geoclick.train.embedded.clip_card import Measured, model_card
    from geoclick.train.embedded.clip_dense_scores import dense_scores

    scores, minutes = trainer.evaluate(data.held_out), round(trainer.seconds / 60, 1)
    dense = dense_scores(trainer.folder / "model", DENSE_IMAGES)
    metrics = {**scores, "dense_miou": dense, "steps": trainer.step, "minutes": minutes}
    measured = Measured(scores, HELD_OUT_VIEWS, dense, DENSE_IMAGES, minutes)
    card = model_card(trainer.options, trainer.model, measured)
    files.write_whole(trainer.folder / "metrics.json", json.dumps(metrics, indent=1) + "\n")
    files.write_whole(trainer.folder / "model" / "README.md", card)
    print(json.dumps(metrics))


main = Command(
    prog="python -m train.embedded.clip",
    options=EmbeddedClipOptions,
    run=run,
    description="Train the small CLIP that ships with the package.",
    example="python -m train.embedded.clip --config configs/embedded_clip/default.yaml",
)


if __name__ == "__main__":
    sys.exit(main())
