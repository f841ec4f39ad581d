"""Loading a model and an adapter in vLLM, after everything is checked that vLLM does not check itself."""

import importlib.util
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import safetensors
from packaging.version import Version

from geoclick.errors import GeoClickError, UsageError
from geoclick.inference.backends.vllm import Vllm, reason
from geoclick.inference.generative.settings import Generation
from geoclick.jobs import processes
from geoclick.vlms import adapter as adapters
from geoclick.vlms import loading, quantization
from geoclick.vlms.families import TOWERS, tower_of
from geoclick.vlms.generation.answers import MAX_NEW_TOKENS
from geoclick.vlms.loading import Base
from geoclick.yaml_file import Yaml

if TYPE_CHECKING:
    from vllm import LLM
    from vllm.lora.request import LoRARequest

    from geoclick.options import GenerationOptions

OLDEST_VLLM = "0.30"
"""The oldest tested version; before 0.11 there is no `StructuredOutputsParams`."""

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The values that vLLM accepts as the largest rank of an adapter."""

QUERY_TOKENS = 2048
"""Room in a prompt for all but the image."""

ENVIRONMENT = {"VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "WARNING"}
"""Set before vLLM is imported, unless the user has set them: nothing is sent to its developers."""


def check(options: "GenerationOptions") -> None:
    """Check what can be checked before a model is loaded.

    Raises:
        UsageError: options that do not fit each other.
        GeoClickError: vLLM is missing or too old.
    """
    options.check_backend()
    if options.quantise == "nf4":
        raise UsageError("--quantise nf4 goes with --backend local; remove it.")
    if processes.count() > 1:
        raise UsageError(
            "--backend vllm runs in one process; start one, with --tensor-parallel-size for several GPUs."
        )
    if options.device not in ("auto", "cpu", "cuda", "cuda:0"):
        raise UsageError(
            f"vLLM takes the first visible GPU, not {options.device}; set CUDA_VISIBLE_DEVICES instead of --device."
        )
    if importlib.util.find_spec("vllm") is None:
        raise GeoClickError("--backend vllm needs vLLM and a GPU; run pip install 'geoclick[vllm]'.")
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if options.tensor_parallel_size == 1:
        # In this process, the order in which queries are computed does not depend on time.
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    import vllm

    # Builds from source have versions such as 0.30.1.dev3+cpu.
    if Version(Version(vllm.__version__).base_version) < Version(OLDEST_VLLM):
        raise GeoClickError(
            f"--backend vllm needs vLLM {OLDEST_VLLM} or newer, not {vllm.__version__}; run "
            "pip install 'geoclick[vllm]'."
        )


def load(options: "GenerationOptions", generation: Generation, *, revision: str | None = None) -> Vllm:
    """The backend of a command's options.

    Args:
        options: of the model and the adapter.
        generation: how answers are generated, its format and length limit as far as they are given.
        revision: see `loading.load`.

    Raises:
        UsageError: as `check`, or pixel limits other than those of the training.
        GeoClickError: as `check`; the model is missing or the adapter does not fit it; vLLM cannot run them.
    """
    check(options)
    import vllm
    from vllm.platforms import current_platform

    base = loading.load_base(
        options.vlm,
        adapter=options.adapter,
        min_pixels=options.min_pixels,
        max_pixels=options.max_pixels,
        revision=revision,
    )
    rank = check_adapter(Path(options.adapter), base, options.quantise) if options.adapter else None
    complete = _complete(generation, base)
    longest = _longest_prompt(base)
    least, most = loading.pixel_limits(base.processor)
    arguments: dict[str, Yaml] = {
        "model": str(base.folder),
        "dtype": "float32" if current_platform.is_cpu() else "bfloat16",
        "load_format": "safetensors",
        "max_model_len": longest + (complete.max_new_tokens or 0),
        "limit_mm_per_prompt": {"image": 1, "video": 0},
        "mm_processor_kwargs": {"size": {"shortest_edge": least, "longest_edge": most}},
        "tensor_parallel_size": options.tensor_parallel_size,
        "gpu_memory_utilization": options.gpu_memory_utilization,
        **({"enable_lora": True, "max_lora_rank": rank} if rank else {}),
    }
    try:
        engine = vllm.LLM(**arguments)
        lora = _add_lora(engine, options.adapter) if options.adapter else None
    except Exception as error:  # of vLLM, pydantic, CUDA or a worker, which have no common type
        raise GeoClickError(
            f"vLLM cannot load {base.name} ({reason(error)}); change --gpu-memory-utilization or --max-pixels, or "
            "use --backend local."
        ) from error
    return Vllm(
        base=base,
        engine=engine,
        lora=lora,
        generation=complete,
        longest=longest,
        version=vllm.__version__,
        tensor_parallel_size=options.tensor_parallel_size,
    )


def check_adapter(folder: Path, base: Base, quantise: str = "auto") -> int:
    """The value of vLLM's `max_lora_rank` for an adapter.

    vLLM ignores weights of LoRA that it cannot place, so that everything is checked here.

    Args:
        folder: of the adapter.
        base: its base.
        quantise: the value of --quantise.

    Raises:
        GeoClickError: vLLM would not give the adapter's answers, or the adapter is broken.
    """
    merge = f"merge it by 'geoclick merge {folder} --output MERGED' and give --vlm MERGED"
    if quantization.kind_of(quantise, folder):
        raise GeoClickError(
            f"Adapter {folder} was trained on a base in 4 bits, which vLLM does not load; give --quantise none for the "
            f"base as it is, or {merge}."
        )
    adapters.check_weights(loading.empty_model(base.folder), folder)
    with safetensors.safe_open(folder / adapters.WEIGHTS, framework="pt") as weights:
        towers = sorted({tower_of(name) for name in weights.keys()} - {TOWERS[0]})  # noqa: SIM118
    if towers:
        raise GeoClickError(
            f"Adapter {folder} tunes {' and '.join(towers)}, which vLLM would ignore; {merge}."
        )
    config = adapters.read_config(folder)
    if config.use_dora:
        raise GeoClickError(f"Adapter {folder} uses DoRA, which vLLM does not support; {merge}.")
    if config.target_parameters:
        raise GeoClickError(f"Adapter {folder} adapts experts, which has not been tried with vLLM; {merge}.")
    if config.rank_pattern or config.alpha_pattern or config.modules_to_save:
        raise GeoClickError(
            f"Adapter {folder} has ranks or scales by tower, or modules that are trained completely, which vLLM would "
            f"ignore; {merge}."
        )
    rank = config.r
    if rank > RANKS[-1]:
        raise GeoClickError(f"Adapter {folder} has rank {rank}, but vLLM takes {RANKS[-1]} at most; {merge}.")
    return next(one for one in RANKS if one >= rank)


def _complete(generation: Generation, base: Base) -> Generation:
    """The generation with the model's format and the default length where they are not given."""
    answer_format = generation.answer_format or (base.record.answer_format if base.record else "json")
    return replace(
        generation,
        answer_format=answer_format,
        max_new_tokens=generation.max_new_tokens or MAX_NEW_TOKENS[answer_format],
    )


def _longest_prompt(base: Base) -> int:
    """Tokens of the largest image and of QUERY_TOKENS."""
    side = base.processor.image_processor.patch_size * base.processor.image_processor.merge_size
    return loading.pixel_limits(base.processor)[1] // side**2 + QUERY_TOKENS


def _add_lora(engine: "LLM", adapter: str) -> "LoRARequest":
    """Load the adapter's weights now, so that vLLM refuses it before the first query."""
    from vllm.lora.request import LoRARequest

    request = LoRARequest("geoclick", 1, str(Path(adapter).resolve()))
    engine.llm_engine.add_lora(request)
    return request
