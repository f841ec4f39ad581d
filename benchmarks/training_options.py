"""The options of `python -m benchmarks.training`."""

from dataclasses import dataclass

from geoclick.config import option

MODELS = ("embedded", "qwen3_vl_small", "qwen3_vl_2b", "qwen2_5_vl_7b")
VARIANTS = ("trl", "padded", "packed", "packed_features")


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """Options of `python -m benchmarks.training`."""

    clicks: str = option(help="click store made by 'geoclick synth'")
    root: str = option(help="folder of the dataset that the store's images are relative to")
    output: str = option(help="folder for training.json")
    model: str = option("embedded", help="embedded, or an architecture with random weights", choices=MODELS)
    tokenizer: str | None = option(
        None, help="folder with Qwen's tokenizer.json or qwen.tiktoken, for an architecture"
    )
    side: int | None = option(
        None,
        help="side of the square that images are resized to (default: 800; original size for embedded)",
        minimum=32,
    )
    rows: int = option(96, help="use the first ROWS rows of the store", minimum=2)
    max_clicks: int = option(6, help="maximum clicks of an answer", minimum=1)
    batch: int = option(8, help="rows per step", minimum=1)
    turns: int = option(4, help="timed turns of each variant", minimum=1)
    steps: int = option(3, help="steps per turn", minimum=1)
    ways: tuple[str, ...] = option(VARIANTS, help="the variants to compare", choices=VARIANTS)
    lora_r: int = option(32, help="LoRA rank", minimum=1)
    gradient_checkpointing: bool = option(False, help="recompute activations, in all variants")
    precision: str = option(
        "auto", help="auto is bfloat16 on CUDA, else float32", choices=("auto", "float32", "bfloat16")
    )
    workers: int = option(0, help="worker processes of the data loaders", minimum=0)
    device: str = option("auto", help="auto, cpu or cuda")
    threads: int | None = option(None, help="CPU threads (default: PyTorch's)", minimum=1)
    seed: int = option(0, help="random seed (weights, order of the rows)")
