"""The ways to generate answers that `python -m benchmarks.inference` compares."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from geoclick import prompts

if TYPE_CHECKING:
    from geoclick.vlms import Vlm


class Task(NamedTuple):
    """What each way answers.

    Attributes:
        vlm: the model.
        images: uint8 [H, W, 3] RGB, one for each query; the same array for those of an image.
        queries: the text of each.
        answer_format: of the answers.
        max_new_tokens: length limit.
        batch_size: queries in one call of the model.
    """

    vlm: "Vlm"
    images: list[np.ndarray]
    queries: list[str]
    answer_format: str
    max_new_tokens: int
    batch_size: int


def one_by_one(task: Task) -> list[str]:
    """What a user of transformers writes: processor and `generate` for each sample."""
    import torch
    from PIL import Image

    processor: Any = task.vlm.processor
    model: Any = task.vlm.model
    answers = []
    for image, query in zip(task.images, task.queries, strict=True):
        chat = prompts.messages(query, answer_format=task.answer_format)
        text = processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        inputs = processor(text=[text], images=[Image.fromarray(image)], return_tensors="pt")
        inputs = inputs.to(task.vlm.device)
        with torch.inference_mode():
            output = model.generate(**inputs, max_new_tokens=task.max_new_tokens, do_sample=False)
        start = inputs["input_ids"].shape[1]
        answers += processor.batch_decode(output[:, start:], skip_special_tokens=True)
    return [answer.strip() for answer in answers]


def batched(task: Task) -> list[str]:
    """`generate` for batches of similar length, padded on the left; each query has its own image."""
    import torch

    from geoclick.vlms import encoding

    tokenizer, model = task.vlm.processor.tokenizer, task.vlm.model
    order = sorted(range(len(task.queries)), key=lambda i: (task.images[i].size, len(task.queries[i])))
    answers: dict[int, str] = {}
    for start in range(0, len(order), task.batch_size):
        chosen = order[start : start + task.batch_size]
        inputs = encoding.model_inputs(
            task.vlm,
            [task.images[i] for i in chosen],
            [task.queries[i] for i in chosen],
            answer_format=task.answer_format,
        )
        generator: Any = model
        with torch.inference_mode():
            output = generator.generate(**inputs, max_new_tokens=task.max_new_tokens, do_sample=False)
        new = output[:, inputs["input_ids"].shape[1] :]
        texts = tokenizer.batch_decode(new, skip_special_tokens=True)
        answers |= zip(chosen, (text.strip() for text in texts), strict=True)
    return [answers[i] for i in range(len(order))]


def shared(task: Task, *, constrained: bool = False, compile: bool = False) -> list[str]:
    """The backend `local`, with options of its `Generation`."""
    from geoclick.inference.backends.local import Local
    from geoclick.inference.generative.settings import Generation

    generation = Generation(
        answer_format=task.answer_format,
        max_new_tokens=task.max_new_tokens,
        batch_size=task.batch_size,
        constrained=constrained,
        compile=compile,
    )
    return [reply.text for reply in Local(task.vlm, generation).answer(task.images, task.queries)]


WAYS: dict[str, Callable[[Task], list[str]]] = {
    "one-by-one": one_by_one,
    "batched": batched,
    "shared": shared,
    "constrained": partial(shared, constrained=True),
    "compiled": partial(shared, compile=True),
}
