"""The options of `python -m train.embedded.clip`."""

from dataclasses import dataclass

from geoclick.config import option


@dataclass(frozen=True)
class EmbeddedClipOptions:
    """Options of `python -m train.embedded.clip`."""

    output: str = option("runs/embedded_clip", help="run folder; the model is written to its subfolder model")
    cache: str = option("runs/scene_cache", help="folder for the rendered scenes")
    scenes: int = option(1500, help="scenes to train on", minimum=1)
    steps: int = option(620, help="optimizer steps", minimum=1)
    views: int = option(32, help="views of scenes per step", minimum=2)
    learning_rate: float = option(3e-3, help="peak learning rate")
    weight_decay: float = option(0.02, help="weight decay")
    seed: int = option(0, help="random seed (weights, scenes, views, captions)")
    device: str = option("auto", help="auto, cpu, cuda or cuda:N")
    threads: int = option(1, help="CPU threads; one more process prepares the batches", minimum=1)
    save_every: int = option(50, help="steps between checkpoints", minimum=1)
    evaluate_every: int = option(100, help="steps between evaluations", minimum=1)
