"""The parts of vLLM that the backend uses, in its names and signatures; transformers computes the answers.

`install` puts it in place of the library, which needs a GPU.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForImageTextToText, AutoProcessor

from geoclick.vlms import encoding

VERSION = "0.30.0"


@dataclass
class StructuredOutputsParams:
    """How an answer is constrained."""

    json: str | dict | None = None
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None


@dataclass
class SamplingParams:
    """How an answer is generated."""

    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    seed: int | None = None
    max_tokens: int | None = 16
    logprobs: int | None = None
    detokenize: bool = True
    structured_outputs: StructuredOutputsParams | None = None


@dataclass
class LoRARequest:
    """An adapter."""

    lora_name: str
    lora_int_id: int
    lora_path: str = ""


@dataclass
class CompletionOutput:
    """An answer."""

    text: str
    token_ids: Sequence[int]
    cumulative_logprob: float | None
    finish_reason: str | None = None


@dataclass
class RequestOutput:
    """A prompt with its answers."""

    prompt_token_ids: list[int]
    outputs: list[CompletionOutput]


@dataclass
class LLM:
    """A model; keeps what it was asked in `asked`."""

    model: str
    tensor_parallel_size: int = 1
    dtype: str = "auto"
    gpu_memory_utilization: float = 0.92
    mm_processor_kwargs: dict[str, Any] | None = None
    load_format: str = "auto"
    max_model_len: int | None = None
    limit_mm_per_prompt: dict[str, int] | None = None
    enable_lora: bool = False
    max_lora_rank: int = 16
    asked: list[tuple[dict, SamplingParams]] = field(default_factory=list)

    def __post_init__(self):
        self.inner = AutoModelForImageTextToText.from_pretrained(self.model, dtype=torch.float32).eval()
        self.processor = AutoProcessor.from_pretrained(self.model)
        if size := (self.mm_processor_kwargs or {}).get("size"):
            self.processor.image_processor.size = type(self.processor.image_processor.size)(**size)
        self.llm_engine = self

    def add_lora(self, lora_request: LoRARequest) -> bool:
        """Load an adapter."""
        assert self.enable_lora
        self.inner = PeftModel.from_pretrained(self.inner, lora_request.lora_path).eval()
        return True

    def generate(self, prompts, sampling_params=None, *, use_tqdm=True, lora_request=None, **unused):
        """The answers, one prompt after the other."""
        assert bool(lora_request) == self.enable_lora
        self.asked += zip(prompts, sampling_params, strict=True)
        return [self._answer(prompt, params) for prompt, params in zip(prompts, sampling_params, strict=True)]

    def _answer(self, prompt, params):
        assert params.logprobs == 0
        image_token = self.processor.image_token_id
        assert prompt["prompt_token_ids"].count(image_token) == 1
        (image,) = prompt["multi_modal_data"].values()
        pixels = self.processor.image_processor(images=[image], return_tensors="pt")
        visual = int(pixels["image_grid_thw"].prod()) // self.processor.image_processor.merge_size**2
        ids = encoding.expand_image(prompt["prompt_token_ids"], image_token, visual)
        assert len(ids) + params.max_tokens <= self.max_model_len
        tokens = torch.tensor([ids])
        if params.temperature:
            torch.manual_seed(params.seed)
        with torch.inference_mode():
            output = self.inner.generate(
                input_ids=tokens,
                attention_mask=torch.ones_like(tokens),
                mm_token_type_ids=(tokens == image_token).long(),
                **pixels,
                max_new_tokens=params.max_tokens,
                do_sample=params.temperature > 0,
                temperature=params.temperature or 1.0,
                top_k=0 if params.temperature else 50,
                top_p=1.0,
                output_logits=True,
                return_dict_in_generate=True,
            )
        written = output.sequences[0, len(ids) :].tolist()
        rows = [logits[0].float().log_softmax(-1) for logits in output.logits]
        total = sum(float(row[token]) for row, token in zip(rows, written, strict=True))
        ends = self.inner.generation_config.eos_token_id
        ended = written[-1] in (ends if isinstance(ends, list) else [ends])
        return RequestOutput(
            ids, [CompletionOutput("", written, total, finish_reason="stop" if ended else "length")]
        )


def install(monkeypatch) -> list[LLM]:
    """Put this module in place of vLLM; returns the models that are made, as they are."""
    made: list[LLM] = []

    def make(*args, **options):
        made.append(LLM(*args, **options))
        return made[-1]

    parts = {
        "vllm": {"__version__": VERSION, "LLM": make, "SamplingParams": SamplingParams},
        "vllm.sampling_params": {"StructuredOutputsParams": StructuredOutputsParams},
        "vllm.lora": {},
        "vllm.lora.request": {"LoRARequest": LoRARequest},
        "vllm.platforms": {"current_platform": _Cpu()},
    }
    for name, content in parts.items():
        module = ModuleType(name)
        module.__path__ = []
        module.__spec__ = ModuleSpec(name, None)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    return made


class _Cpu:
    def is_cpu(self) -> bool:
        """Whether vLLM runs on the CPU."""
        return True
