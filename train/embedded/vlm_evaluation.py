"""How well the embedded VLM points on held-out scenes."""

from collections.abc import Sequence

import numpy as np
import torch
from transformers import Qwen3VLForConditionalGeneration, Qwen3VLProcessor

from geoclick.clicks import ClickSequence
from geoclick.codec import decode
from geoclick.prompts import messages
from geoclick.scenes import SIZE
from geoclick.scenes.queries import Query, ask
from geoclick.scenes.varied_queries import MAX_TARGETS, ask_varied
from geoclick.train.embedded.scene_cache import SceneCache

TOKENS_PER_POINT = 12
"""Most tokens of a point in the compact format, with its separator."""

Question = tuple[int, Query]
"""The index of a scene in a cache, and a query about it."""


def pointing_accuracy(
    model: Qwen3VLForConditionalGeneration, processor: Qwen3VLProcessor, cache: SceneCache, count: int
) -> float:
    """Share of referring questions about the first `count` scenes whose generated point lies on the target."""
    rng = np.random.default_rng(0)
    drawn = [(i, ask([item.fact for item in cache.objects[i]], rng, "referring")) for i in range(count)]
    questions = [(i, query) for i, query in drawn if query]
    answers = _answers(model, processor, cache, questions, "json", tokens=32)
    hits = 0
    for (i, query), clicks in zip(questions, answers, strict=True):
        hits += _objects_at(cache.ids[i], clicks[:1]) == list(query.targets)
    return hits / len(questions)


def list_figures(
    model: Qwen3VLForConditionalGeneration, processor: Qwen3VLProcessor, cache: SceneCache, count: int
) -> dict[str, float]:
    """How well the model lists points of several objects, on the first `count` scenes of version 2.

    Every other scene has a question for all objects of a kind, the others for several by their purpose.

    Returns:
        `list_precision`: share of the points that lie on a target with no point before; `list_recall`: share of the
        targets with a point; `list_count_accuracy`: share of the answers with as many points as there are targets.
    """
    rng = np.random.default_rng(0)
    drawn = [
        (
            i,
            ask_varied(
                [item.fact for item in cache.objects[i]], rng, ("all_of_a_kind", "several_by_purpose")[i % 2]
            ),
        )
        for i in range(count)
    ]
    questions = [(i, query) for i, query in drawn if query]
    answers = _answers(
        model, processor, cache, questions, "compact", tokens=TOKENS_PER_POINT * (MAX_TARGETS + 2)
    )
    hits = points = targets = same = 0
    for (i, query), clicks in zip(questions, answers, strict=True):
        hits += len({*_objects_at(cache.ids[i], clicks)} & {*query.targets})
        points, targets = points + len(clicks), targets + len(query.targets)
        same += len(clicks) == len(query.targets)
    return {
        "list_precision": hits / max(points, 1),
        "list_recall": hits / targets,
        "list_count_accuracy": same / len(questions),
    }


def _objects_at(ids: np.ndarray, clicks: ClickSequence) -> list[int]:
    """The index of the object at each click; -1 on the ground."""
    return [int(ids[round(click.y), round(click.x)]) - 1 for click in clicks]


def _answers(
    model: Qwen3VLForConditionalGeneration,
    processor: Qwen3VLProcessor,
    cache: SceneCache,
    questions: Sequence[Question],
    answer_format: str,
    tokens: int,
) -> list[ClickSequence]:
    """The clicks that the model generates for each question, with at most `tokens` tokens."""
    chats = [
        processor.apply_chat_template(
            messages(query.text, answer_format=answer_format), add_generation_prompt=True
        )
        for _, query in questions
    ]
    inputs = processor(
        text=chats,
        images=[cache.images[i] for i, _ in questions],
        padding=True,
        padding_side="left",
        return_tensors="pt",
    ).to(model.device)
    model.eval()
    with torch.no_grad():
        generated = model.generate(**inputs, max_new_tokens=tokens, do_sample=False)
    model.train()
    texts = processor.batch_decode(generated[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return [
        decode(text, family="qwen3_vl", answer_format=answer_format, image_size=(SIZE, SIZE)).clicks
        for text in texts
    ]
