"""How well the embedded VLM points on held-out scenes."""

import numpy as np
import torch
from transformers import Qwen3VLForConditionalGeneration, Qwen3VLProcessor

from geoclick.codec import decode
from geoclick.prompts import messages
from geoclick.scenes import SIZE
from geoclick.scenes.queries import ask
from geoclick.train.embedded.scene_cache import SceneCache


def pointing_accuracy(
    model: Qwen3VLForConditionalGeneration, processor: Qwen3VLProcessor, cache: SceneCache, count: int
) -> float:
    """Share of referring questions about the first `count` scenes whose generated point lies on the target."""
    rng = np.random.default_rng(0)
    drawn = [(i, ask([item.fact for item in cache.objects[i]], rng, "referring")) for i in range(count)]
    questions = [(i, query) for i, query in drawn if query]
    chats = [
        processor.apply_chat_template(messages(query.text, answer_format="json"), add_generation_prompt=True)
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
        tokens = model.generate(**inputs, max_new_tokens=32, do_sample=False)
    model.train()
    texts = processor.batch_decode(tokens[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    hits = 0
    for (i, query), text in zip(questions, texts, strict=True):
        clicks = decode(text, family="qwen3_vl", answer_format="json", image_size=(SIZE, SIZE)).clicks
        if clicks and query.targets:
            hits += int(cache.ids[i][round(clicks[0].y), round(clicks[0].x)] == query.targets[0] + 1)
    return hits / len(questions)
