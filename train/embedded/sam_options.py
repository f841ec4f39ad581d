"""The options of `python -m train.embedded.sam`."""

from dataclasses import dataclass

from geoclick.config import option


@dataclass(frozen=True)
class EmbeddedSamOptions:
    """Options of `python -m train.embedded.sam`."""

    output: str = option("runs/embedded_sam", help="run folder; the model is written to its subfolder model")
    cache: str = option("runs/scene_cache", help="folder for the rendered scenes")
    scenes: int = option(6000, help="scenes to train on", minimum=1)
    scenes_version: str = option(
        "1", help="2 trains on scenes with hard objects, and half as many of version 1", choices=("1", "2")
    )
    tiles: str | None = option(None, help="folder of real tiles (images/, masks/, classes.json)")
    tile_share: float = option(0.3, help="share of the frames that are crops of the tiles")
    held_out: str = option("tile6", help="tiles whose names start with this are used for evaluation only")
    start_from: str | None = option(
        None,
        help="folder of an embedded SAM (config.json, model.safetensors) to start from; omit for random weights",
    )
    start_share: float = option(
        0.0,
        help="share of the weights of --start_from in the result: 0.3 gives 0.7 x trained + 0.3 x start",
        minimum=0,
    )
    steps: int = option(3000, help="optimizer steps", minimum=1)
    images: int = option(8, help="images per step", minimum=1)
    objects: int = option(4, help="objects to click on in each image", minimum=1)
    clicks: tuple[int, ...] = option(
        (2, 3, 3, 4),
        help="clicks per step; one of these is drawn at each step; a box takes the place of the first",
    )
    feedback_share: float = option(0.8, help="share of the steps that feed the last mask back")
    box_share: float = option(0.25, help="share of the steps whose first prompt is a box")
    crop_share: float = option(
        0.9,
        help="share of the steps on quarter frames; falls to 0 in the 30 % of the steps before --full_from",
    )
    full_from: float = option(0.9, help="part of the steps after which all frames are full")
    learning_rate: float = option(2e-3, help="peak learning rate")
    warmup: int = option(200, help="warm-up steps", minimum=1)
    weight_decay: float = option(0.02, help="weight decay")
    average: float = option(0.998, help="decay of the moving average of the weights, which is the result")
    seed: int = option(0, help="random seed (weights, scenes, clicks)")
    device: str = option("auto", help="auto, cpu, cuda or cuda:N")
    threads: int = option(1, help="CPU threads", minimum=1)
    save_every: int = option(200, help="steps between checkpoints", minimum=1)
    evaluate_every: int = option(500, help="steps between evaluations", minimum=1)
