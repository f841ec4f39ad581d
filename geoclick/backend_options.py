"""Options of what runs the VLM: transformers or vLLM in this process, or a server."""

from dataclasses import dataclass, fields
from importlib.util import find_spec

from geoclick.config import option
from geoclick.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """A model on a server with OpenAI's chat API, in place of one in this process."""

    backend: str = option(
        "local",
        choices=("local", "vllm", "openai"),
        help="what runs the VLM; local: transformers in this process; vllm: vLLM in this process; openai: a server "
        "with OpenAI's chat API that takes images (OpenAI, vLLM, SGLang, transformers serve), whose key is read from "
        "OPENAI_API_KEY only",
    )
    base_url: str | None = option(
        None, help="address of the server, such as http://localhost:8000/v1 (default: OpenAI's)"
    )
    prompt: str = option(
        "zero-shot",
        choices=("zero-shot", "trained"),
        help="what a server is asked: zero-shot explains the task and the format; trained is the prompt of geoclick "
        "train, for a server with a model that was trained so",
    )
    image_side: int = option(
        768, help="longest side in pixels of the images sent to a server; larger ones are resized", minimum=28
    )
    image_format: str = option(
        "png", choices=("png", "jpeg"), help="file format of the images sent to a server"
    )
    structured: str = option(
        "json_schema",
        choices=("json_schema", "none"),
        help="json_schema: the server is asked to write nothing but the format of the zero-shot prompt; if it cannot, "
        "that is printed and counted; none: it is free",
    )
    reasoning_effort: str | None = option(
        None,
        choices=("minimal", "low", "medium", "high"),
        help="how much a model on a server reasons before it answers (default: the server's)",
    )
    thinking: str | None = option(
        None,
        choices=("on", "off", "server"),
        help="whether the chat template of a model on a server of your own lets it think, by enable_thinking in "
        "chat_template_kwargs (vLLM, SGLang, transformers serve); server sends nothing (default: off with --prompt "
        "trained, since GeoClick trains answers without thoughts, else server)",
    )
    concurrency: int = option(8, help="largest number of open requests to a server", minimum=1)
    retries: int = option(5, help="further attempts of a request that fails", minimum=0)
    timeout: float = option(120.0, help="seconds after which a request to a server has failed", minimum=0.01)
    price_input: float | None = option(
        None,
        help="price of a million input tokens, in any currency; with --price-output, costs are counted",
        minimum=0,
    )
    price_output: float | None = option(None, help="price of a million output tokens", minimum=0)
    budget: float | None = option(
        None,
        help="cost after which no request is sent; rerun the command with a larger one to continue. Requests that are "
        "open at that moment are completed",
        minimum=0,
    )


@dataclass(frozen=True, kw_only=True)
class VllmOptions:
    """vLLM in this process."""

    tensor_parallel_size: int = option(1, help="number of GPUs among which vLLM divides the VLM", minimum=1)
    gpu_memory_utilization: float = option(
        0.8,
        help="share of a GPU's memory, up to 1, that vLLM takes for the VLM; the segmenter needs the rest",
        minimum=0.01,
    )


@dataclass(frozen=True, kw_only=True)
class BackendOptions(VllmOptions, ServerOptions):
    """What runs the VLM."""

    compile: bool = option(
        False,
        help="compile the step of one token; on a GPU faster for many batches, after up to a minute for each new size "
        "of a batch",
    )


@dataclass(frozen=True, kw_only=True)
class AnswerOptions:
    """How the tokens of answers are chosen, and how many answers a query gets."""

    constrained: bool = option(
        False,
        help="let the VLM write nothing but answers in its format, so that each can be read; needs llguidance (pip "
        "install 'geoclick[constrained]'), or vLLM. A server has --structured instead",
    )
    temperature: float | None = option(
        None,
        help="sampling temperature; 0 takes the most likely token (default: 0; a server is sent none)",
        minimum=0,
        maximum=100,
    )
    samples: int = option(
        1,
        help="answers that are sampled for each query, with --temperature above 0; each is decoded to a mask, the "
        "pixels vote, and how well the masks agree is recorded",
        minimum=1,
    )
    vote_threshold: float = option(
        0.5,
        help="a pixel is in the mask if more than this share of the masks of --samples hold it, from 0 (any mask) to "
        "below 1",
        minimum=0,
    )
    rounds: int = option(
        1,
        help="how often the VLM is asked: from the second time it sees the mask so far, drawn on the image, and takes "
        "one more click or ends; for adapters that were trained on rows of geoclick synth --show-masks",
        minimum=1,
    )
    seed: int = option(0, help="random seed of the sampling", minimum=0)

    def check_answers(self, backend: str) -> None:
        """Raise UsageError for options that do not fit each other; `backend` is the value of `--backend`."""
        if self.constrained and backend == "local" and find_spec("llguidance") is None:
            raise UsageError(
                '--constrained needs llguidance; install it with: pip install "geoclick[constrained]".'
            )
        if self.rounds > 1 and (self.constrained or self.samples > 1):
            other = "--constrained" if self.constrained else "--samples"
            raise UsageError(f"--rounds does not go with {other}; remove one of them.")
        if self.vote_threshold >= 1:
            raise UsageError(f"--vote-threshold must be below 1, not {self.vote_threshold:g}.")
        if self.samples == 1:
            if self.vote_threshold != 0.5:
                raise UsageError("--vote-threshold goes with --samples above 1; remove it.")
            return
        if self.temperature == 0 or (self.temperature is None and backend != "openai"):
            raise UsageError(
                "--samples needs --temperature above 0, such as 0.7; without it all answers to a query are equal."
            )


ANSWER_OPTIONS = tuple(field.name for field in fields(AnswerOptions) if field.name != "seed")

BACKEND_OPTIONS = tuple(field.name for field in fields(BackendOptions))

BACKENDS_OF = {
    **dict.fromkeys((field.name for field in fields(ServerOptions) if field.name != "backend"), ("openai",)),
    **dict.fromkeys((field.name for field in fields(VllmOptions)), ("vllm",)),
    **dict.fromkeys(("adapter", "min_pixels", "max_pixels", "quantise"), ("local", "vllm")),
    "constrained": ("local", "vllm"),
    "compile": ("local",),
    "rounds": ("local",),
}
"""The backends of each option that has no meaning for the others."""
