"""A model that vLLM runs in this process: many answers at a time on one or several GPUs.

Prompts are token for token those of the backend `local`, and images are resized by the same rule. vLLM schedules the
queries itself, and computes an image once for all of its queries.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypedDict

import numpy as np
import torch
from PIL import Image

from geoclick import prompts
from geoclick.codec import Answer
from geoclick.errors import GeoClickError, first_line
from geoclick.inference.backends.base import Reply
from geoclick.inference.backends.constrained import pattern_of
from geoclick.inference.backends.sampling import seeds_of
from geoclick.inference.generative import mask_decoding
from geoclick.inference.generative.settings import Generation
from geoclick.vlms import encoding, loading
from geoclick.vlms.generation.answers import MAX_NEW_TOKENS
from geoclick.vlms.loading import Base
from geoclick.yaml_file import Yaml

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.lora.request import LoRARequest

    from geoclick.vlms.adapter import AdapterRecord
    from geoclick.vlms.merged import MergedRecord
    from geoclick.vlms.processor import Processor


class Prompt(TypedDict):
    """A prompt as vLLM takes it.

    Attributes:
        prompt_token_ids: with one image token for the image.
        multi_modal_data: the image, by the key `image`.
    """

    prompt_token_ids: list[int]
    multi_modal_data: dict[str, Image.Image]


class Completion(Protocol):
    """What vLLM wrote to a prompt.

    Attributes:
        token_ids: the one that ends the answer included.
        cumulative_logprob: sum over these tokens, by the model's own distribution.
        finish_reason: `length` if the answer reached the length limit.
    """

    token_ids: Sequence[int]
    cumulative_logprob: float | None
    finish_reason: str | None


class Output(Protocol):
    """A prompt with what vLLM wrote to it.

    Attributes:
        prompt_token_ids: with one image token for each visual token.
        outputs: one completion.
    """

    prompt_token_ids: Sequence[int]
    outputs: Sequence[Completion]


class Engine(Protocol):
    """What GeoClick uses of `vllm.LLM`."""

    def generate(
        self,
        prompts: Sequence[Prompt],
        sampling_params: "Sequence[SamplingParams]",
        *,
        use_tqdm: bool,
        lora_request: "LoRARequest | None",
    ) -> Sequence[Output]:
        """The outputs in the order of the prompts."""
        ...


@dataclass(frozen=True)
class Vllm:
    """A model in vLLM as a backend.

    Attributes:
        base: the model without its weights.
        engine: vLLM's, with the weights.
        lora: vLLM's request of the adapter; None without one.
        generation: how answers are generated, its format and length limit set.
        longest: tokens of a prompt at most, visual ones included.
        version: of vLLM.
        tensor_parallel_size: number of GPUs.
    """

    base: Base
    engine: Engine
    lora: "LoRARequest | None"
    generation: Generation
    longest: int
    version: str
    tensor_parallel_size: int = 1
    quantized: str = ""

    @property
    def name(self) -> str:
        """The model as the user gave it."""
        return self.base.name

    @property
    def revision(self) -> str:
        """See `Base`."""
        return self.base.revision

    @property
    def fingerprint(self) -> str:
        """See `Base`."""
        return self.base.fingerprint

    @property
    def record(self) -> "AdapterRecord | MergedRecord | None":
        """See `Base`."""
        return self.base.record

    @property
    def processor(self) -> "Processor":
        """See `Base`."""
        return self.base.processor

    @property
    def answer_format(self) -> str:
        """The format of the answers."""
        assert self.generation.answer_format is not None
        return self.generation.answer_format

    def refusal(self, size: tuple[int, int]) -> str:
        """See `Backend`."""
        if narrow := mask_decoding.refusal(size):
            return narrow
        try:
            loading.resized_size(self.processor, size)
        except GeoClickError as error:
            return str(error)
        return ""

    def read(self, text: str, size: tuple[int, int]) -> Answer:
        """See `Backend`."""
        return self.base.frame(size, self.answer_format).decode(text)

    def describe(self) -> dict[str, Yaml]:
        """What a protocol or record holds besides that of a model in this process."""
        return {
            "backend": "vllm",
            "vllm": self.version,
            "tensor_parallel_size": self.tensor_parallel_size,
        }

    def answer(self, images: Sequence[np.ndarray], queries: Sequence[str]) -> list[Reply]:
        """See `Backend`; raises GeoClickError if vLLM fails, or resizes images to another size than `local`."""
        return [replies[0] for replies in self.sample(images, queries, 1)]

    def sample(self, images: Sequence[np.ndarray], queries: Sequence[str], count: int) -> list[list[Reply]]:
        """See `Backend`; raises as `answer`."""
        repeated = [i for i in range(len(queries)) for _ in range(count)]
        images, queries = [images[i] for i in repeated], [queries[i] for i in repeated]
        seeds = self._seeds(images, queries, count)
        chats = [prompts.messages(query, answer_format=self.answer_format) for query in queries]
        tokens = encoding.encode_prompts(self.processor, chats)
        sizes = [(image.shape[0], image.shape[1]) for image in images]
        visual = [encoding.visual_tokens(self.processor, size) for size in sizes]
        pictures = {id(image): Image.fromarray(image) for image in images}
        fitting = [i for i, ids in enumerate(tokens) if len(ids) - 1 + visual[i] <= self.longest]
        outputs = self._generate(
            [
                Prompt(prompt_token_ids=tokens[i], multi_modal_data={"image": pictures[id(images[i])]})
                for i in fitting
            ],
            [self._sampling(sizes[i], seeds[i]) for i in fitting],
        )
        replies = {}
        for i, output in zip(fitting, outputs, strict=True):
            self._check_size(output, visual[i], sizes[i])
            replies[i] = self._reply(output.outputs[0])
        complete = [replies.get(i) or self._too_long(len(ids)) for i, ids in enumerate(tokens)]
        return [complete[start : start + count] for start in range(0, len(complete), count)]

    def _seeds(
        self, images: Sequence[np.ndarray], queries: Sequence[str], count: int
    ) -> Sequence[int | None]:
        """A seed for each answer, None for the most likely tokens; each query comes `count` times in a row."""
        if not self.generation.temperature:
            return [None] * len(queries)
        if self.generation.seed is None:
            return torch.randint(2**31, (len(queries),)).tolist()
        numbers = [i % count for i in range(len(queries))]
        return [seed % 2**31 for seed in seeds_of(self.generation.seed, images, queries, numbers)]

    def _generate(self, asked: Sequence[Prompt], sampling: "Sequence[SamplingParams]") -> Sequence[Output]:
        if not asked:
            return []
        try:
            return self.engine.generate(asked, sampling, use_tqdm=False, lora_request=self.lora)
        except Exception as error:  # of vLLM, its workers, CUDA or the library of the grammar
            raise GeoClickError(f"vLLM failed ({reason(error)}); rerun the command to continue.") from error

    def _sampling(self, size: tuple[int, int], seed: int | None) -> "SamplingParams":
        """How the answer about an image of `size` (height, width) is generated."""
        from vllm import SamplingParams
        from vllm.sampling_params import StructuredOutputsParams

        generation, structured = self.generation, None
        if generation.constrained:
            frame = self.base.frame(size, self.answer_format)
            limit = generation.max_new_tokens or MAX_NEW_TOKENS[self.answer_format]
            structured = StructuredOutputsParams(regex=pattern_of(frame, limit))
        return SamplingParams(
            temperature=generation.temperature,
            seed=seed,
            max_tokens=generation.max_new_tokens,
            logprobs=0,
            structured_outputs=structured,
            # The tokens are decoded by the processor's tokenizer, as those of `local`.
            detokenize=False,
        )

    def _check_size(self, output: Output, visual: int, size: tuple[int, int]) -> None:
        """Raise GeoClickError if the image of `size` (height, width) does not take `visual` tokens in vLLM."""
        seen = list(output.prompt_token_ids).count(self.processor.image_token_id)
        if seen != visual:
            raise GeoClickError(
                f"vLLM {self.version} resizes an image of {size[1]}x{size[0]} pixels to {seen} visual tokens instead "
                f"of {visual}, so that its answers would be others; use --backend local, or another version."
            )

    def _reply(self, completion: Completion) -> Reply:
        tokens, total = list(completion.token_ids), completion.cumulative_logprob
        text = self.processor.tokenizer.batch_decode([tokens], skip_special_tokens=True)[0].strip()
        probability = None if total is None else math.exp(total / max(1, len(tokens)))
        cut = completion.finish_reason == "length"
        return Reply(text, probability=probability, tokens=len(tokens), cut=cut)

    def _too_long(self, tokens: int) -> Reply:
        return Reply(
            "", f"The query has {tokens:,} tokens, which is too long for the model; give a shorter one."
        )


def reason(error: Exception) -> str:
    """The first line of an error of vLLM, for quoting it in another message."""
    return first_line(error).rstrip(":") or type(error).__name__
