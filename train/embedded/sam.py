"""Train the small SAM that ships with the package, on scenes and, optionally, on crops of real tiles.

    python -m train.embedded.sam --config configs/embedded_sam/default.yaml

The architecture is segment-anything's, for images of 256 x 256 pixels with patches of 8, since vehicles and roads are
only a few pixels wide. Most steps use quarter frames, which cost a quarter of the time; the last ones use full frames.
Rerun the same command to resume from the last checkpoint. `--start_from FOLDER` continues from finished weights.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from geoclick import files, output_folder
from geoclick.command import Command
from geoclick.progress_bar import Progress, progress
from geoclick.train.embedded.sam_options import EmbeddedSamOptions

if TYPE_CHECKING:
    from geoclick.segmenters.sam_library import Sam
    from geoclick.train.embedded.sam_evaluation import Example
    from geoclick.train.embedded.sam_frames import Tile
    from geoclick.train.embedded.sam_trainer import SamTrainer
    from geoclick.train.embedded.scene_cache import SceneCache

KIND = "embedded sam"
"""The training's key in `output_folder.KINDS`."""


@dataclass(frozen=True)
class TrainingData:
    """The scenes and tiles to train on, and the held-out examples by name."""

    caches: "list[SceneCache]"
    tiles: "list[Tile]"
    held_out: "dict[str, list[Example]]"


def run(options: EmbeddedSamOptions) -> None:
    """Train, evaluate, and write the model with its card."""
    output = Path(options.output)
    with output_folder.opened(output, KIND):
        import torch

        from geoclick.train.embedded.sam_trainer import SamTrainer

        torch.set_num_threads(options.threads)
        output_folder.write_config(options, output, KIND)
        trainer = SamTrainer(options)
        data = load_data(options)
        train(trainer, data)
        trainer.save()
        write_results(trainer, data)
    print(f"model: {output / 'model'}\nfigures: {output / 'metrics.json'}")


def load_data(options: EmbeddedSamOptions) -> TrainingData:
    """Render the scenes, or take them from the cache, and read the tiles."""
    from geoclick.train.embedded import scene_cache
    from geoclick.train.embedded.sam_evaluation import held_out_scenes, held_out_tiles
    from geoclick.train.embedded.sam_frames import read_tiles

    folder, tiles = Path(options.cache), []
    counts, seed = {1: options.scenes}, options.seed
    if options.scenes_version == "2":
        counts = {1: max(1, options.scenes // 2), 2: options.scenes}
    caches = [scene_cache.load(folder, count=n, seed=seed + 11, version=v) for v, n in counts.items()]
    held_out = {
        "scenes" if version == 1 else f"scenes-v{version}": held_out_scenes(
            scene_cache.load(folder, count=48, seed=seed + 12, version=version)
        )
        for version in counts
    }
    if options.tiles:
        root = Path(options.tiles)
        tiles = read_tiles(root, lambda stem: not stem.startswith(options.held_out))
        held_out["tiles"] = held_out_tiles(read_tiles(root, lambda stem: stem.startswith(options.held_out)))
    return TrainingData(caches, tiles, held_out)


def train(trainer: "SamTrainer", data: TrainingData) -> None:
    """Run the remaining steps, with checkpoints and evaluations at their intervals."""
    options, loss = trainer.options, 0.0
    with progress("train", options.steps, done=trainer.step) as bar:
        if trainer.earlier and trainer.step == 0:
            log(trainer, evaluate_all(trainer.average, data), bar)
        while trainer.step < options.steps:
            value = trainer.train_step(data.caches, data.tiles)
            loss = value if loss == 0 else 0.98 * loss + 0.02 * value
            bar.note = f"loss {loss:.3f}"
            bar.advance()
            if trainer.step % options.save_every == 0:
                trainer.save()
            if trainer.step % options.evaluate_every == 0:
                log(trainer, evaluate_all(trainer.average, data), bar)


def log(trainer: "SamTrainer", figures: dict[str, dict[str, float]], bar: Progress) -> None:
    """Append the figures of an evaluation to log.jsonl, and print them."""
    line = json.dumps({"step": trainer.step} | figures)
    with (trainer.folder / "log.jsonl").open("a", encoding="utf-8") as file:
        print(line, file=file)
    bar.print(line)


def evaluate_all(sam: "Sam", data: TrainingData) -> dict[str, dict[str, float]]:
    """The figures of a model on each held-out set."""
    from geoclick.train.embedded.sam_evaluation import evaluate

    return {name: evaluate(sam, examples) for name, examples in data.held_out.items()}


def write_results(trainer: "SamTrainer", data: TrainingData) -> None:
    """Write the model, its card and metrics.json."""
    from geoclick.segmenters.embedded import write_folder
    from geoclick.train.embedded.sam_card import model_card
    from geoclick.train.embedded.sam_model import ARCHITECTURE

    sam = trainer.result()
    write_folder(sam, ARCHITECTURE, trainer.folder / "model")
    scores, minutes = evaluate_all(sam, data), trainer.seconds / 60
    metrics = scores | {"steps": trainer.step, "minutes": minutes}
    card = model_card(trainer.options, scores, steps=trainer.step, minutes=minutes, earlier=trainer.earlier)
    files.write_whole(trainer.folder / "metrics.json", json.dumps(metrics, indent=1) + "\n")
    files.write_whole(trainer.folder / "model" / "README.md", card)
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
