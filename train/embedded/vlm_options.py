"""The options of `python -m train.embedded.vlm`."""

from dataclasses import dataclass

from geoclick.config import option


@dataclass(frozen=True)
class EmbeddedVlmOptions:
    """Options of `python -m train.embedded.vlm`."""

    output: str = option("runs/embedded_vlm", help="run folder; the model is written to its subfolder model")
    cache: str = option("runs/scene_cache", help="folder for the rendered scenes")
    scenes: int = option(
        12000,
        help="full scenes to train on; two sets of easier scenes, each of a sixth of that, are added",
        minimum=6,
    )
    varied_scenes: int = option(
        8000, help="scenes of version 2 to train on, where varied_share is above 0", minimum=1
    )
    varied_share: float = option(
        0.0, help="share of the steps on scenes of version 2, with answers of several points"
    )
    start_from: str | None = option(
        None,
        help="folder of an embedded VLM to continue from, without the stages of easy scenes; otherwise the weights "
        "are random",
    )
    steps: int = option(1700, help="optimizer steps", minimum=1)
    questions: int = option(144, help="questions per step, several about each image", minimum=1)
    learning_rate: float = option(1.5e-3, help="peak learning rate")
    seed: int = option(0, help="random seed (weights, scenes, questions)")
    device: str = option("auto", help="auto, cpu, cuda or cuda:N")
    threads: int = option(1, help="CPU threads; one more process prepares the batches", minimum=1)
    save_every: int = option(100, help="steps between checkpoints", minimum=1)
    log_every: int = option(
        50, help="steps between log lines; every fourth has figures on held-out scenes", minimum=1
    )
