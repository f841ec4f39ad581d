"""Train the small Qwen3-VL that ships with the package, to point and to count in scenes.

    python -m train.embedded.vlm --config configs/embedded_vlm/default.yaml

    python -m train.embedded.vlm --config configs/embedded_vlm/several.yaml

The second command continues from the weights of the package with lessons whose answers are several points.
The architecture is transformers' Qwen3-VL. During training, the vision tower also predicts the object in every patch
and the offset to the object's center; these heads are dropped at the end. Rerun the same command to resume from the
last checkpoint.
"""

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from geoclick import output_folder
from geoclick.command import Command, print_next
from geoclick.progress_bar import progress
from geoclick.train.embedded.vlm_options import EmbeddedVlmOptions

if TYPE_CHECKING:
    from transformers import Qwen3VLProcessor

    from geoclick.train.embedded.scene_cache import SceneCache
    from geoclick.train.embedded.vlm_trainer import VlmTrainer

KIND = "embedded vlm"
"""The training's key in `output_folder.KINDS`."""


@dataclass(frozen=True)
class TrainingData:
    """The scenes to train on by difficulty, 0 to 2, and held-out scenes; those of version 2 if they are used."""

    caches: "list[SceneCache]"
    held_out: "SceneCache"
    varied: "SceneCache | None" = None
    held_out_varied: "SceneCache | None" = None


def run(options: EmbeddedVlmOptions) -> None:
    """Render the scenes, train, and save the model as a transformers folder."""
    output = Path(options.output)
    with output_folder.opened(output, KIND):
        import torch

        from geoclick.train.embedded.processor import build_processor
        from geoclick.train.embedded.vlm_trainer import VlmTrainer

        output_folder.write_config(options, output, KIND)
        torch.set_num_threads(options.threads)
        torch.manual_seed(options.seed)
        data = load_data(options)
        processor = build_processor()
        trainer = VlmTrainer(options, processor)
        train(trainer, data, processor, options)
    print(f"model: {output / 'model'}\nlog: {output / 'log.jsonl'}")
    print_next("predict", "IMAGE", "--text", "TEXT", "--vlm", output / "model", "--output", "runs/predict")


def load_data(options: EmbeddedVlmOptions) -> TrainingData:
    """Render the scenes, or take them from the cache."""
    from geoclick.train.embedded import scene_cache

    folder = Path(options.cache)
    caches = [
        scene_cache.load(
            folder, count=options.scenes // divisor, seed=options.seed + 1000, difficulty=difficulty
        )
        for difficulty, divisor in enumerate((6, 6, 1))
    ]
    held_out = scene_cache.load(folder, count=200, seed=options.seed + 2000)
    if not options.varied_share:
        return TrainingData(caches, held_out)
    varied = (
        scene_cache.load(folder, count=count, seed=options.seed + offset, version=2)
        for count, offset in ((options.varied_scenes, 1000), (200, 2000))
    )
    return TrainingData(caches, held_out, *varied)


def train(
    trainer: "VlmTrainer", data: TrainingData, processor: "Qwen3VLProcessor", options: EmbeddedVlmOptions
) -> None:
    """Run the remaining steps, with checkpoints and lines of the log at their intervals."""
    from torch.utils.data import DataLoader, Subset

    from geoclick.train.embedded.lessons import STAGES, LessonBatches, VariedScenes
    from geoclick.train.embedded.vlm_evaluation import list_figures, pointing_accuracy

    lessons = LessonBatches(
        data.caches,
        processor,
        steps=options.steps,
        questions=options.questions,
        seed=options.seed,
        stages=STAGES[-1:] if options.start_from else STAGES,
        varied=VariedScenes(data.varied, options.varied_share) if data.varied else None,
    )
    first, started = trainer.step, time.time()
    remaining = Subset(lessons, range(first, options.steps))
    with progress("train", options.steps, done=first) as bar:
        for batch in DataLoader(remaining, batch_size=None, num_workers=1, prefetch_factor=4):
            losses = trainer.train_step(batch)
            bar.advance()
            step, last = trainer.step, trainer.step == options.steps
            if step % options.save_every == 0 or last:
                trainer.save()
            if step % options.log_every == 0 or last:
                row = {"step": step} | {name: round(loss.item(), 4) for name, loss in losses.items()}
                row["seconds_per_step"] = round((time.time() - started) / (step - first), 2)
                if step % (4 * options.log_every) == 0 or last:
                    row["pointing_accuracy"] = pointing_accuracy(trainer.model, processor, data.held_out, 100)
                    if data.held_out_varied:
                        row |= list_figures(trainer.model, processor, data.held_out_varied, 100)
                with (trainer.folder / "log.jsonl").open("a", encoding="utf-8") as log:
                    print(json.dumps(row), file=log)
                bar.print(json.dumps(row))


main = Command(
    prog="python -m train.embedded.vlm",
    options=EmbeddedVlmOptions,
    run=run,
    description="Train the small Qwen3-VL that ships with the package.",
    example="python -m train.embedded.vlm --config configs/embedded_vlm/default.yaml",
)


if __name__ == "__main__":
    sys.exit(main())
