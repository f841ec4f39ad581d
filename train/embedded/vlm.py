"""Train the small Qwen3-VL that ships with the package, on scenes: pointing and boxes, with dense labels beside.

    python -m train.embedded.vlm --config configs/embedded_vlm/default.yaml

The architecture is transformers' Qwen3-VL. The vision tower also learns to tell, patch by patch, what it sees and
where the object's center lies; those heads are dropped at the end. The same command goes on where it was stopped.
"""

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from geoclick import config
from geoclick.command import Command
from geoclick.config import option

if TYPE_CHECKING:
    import torch
    from transformers import Qwen3VLForConditionalGeneration

WEIGHTS = {"answer": 1.0, "dense": 0.5, "look": 0.2, "point": 4.0}
"""Of the losses, see `losses`."""


@dataclass(frozen=True)
class EmbeddedVlmOptions:
    """What `python -m train.embedded.vlm` takes."""

    output: str = option("runs/embedded_vlm", help="run folder; the finished model is in its subfolder model")
    cache: str = option("runs/scene_cache", help="folder for the drawn scenes")
    scenes: int = option(12000, help="full scenes to train on; a third as many easier ones come beside")
    steps: int = option(1700, help="optimiser steps")
    questions: int = option(144, help="questions a step, several about each image")
    learning_rate: float = option(1.5e-3, help="peak learning rate")
    seed: int = option(0, help="seed of the weights, scenes and questions")
    device: str = option("auto", help="auto, cpu, cuda or cuda:N")
    threads: int = option(1, help="threads of the CPU; another process draws the lessons")
    save_every: int = option(100, help="steps between resumable checkpoints")
    log_every: int = option(
        50, help="steps between two lines of the log; every fourth tells the pointing accuracy"
    )


def build(vocabulary: int, special: dict[str, int]) -> "Qwen3VLForConditionalGeneration":
    """The untrained model, 4 M parameters; `special` maps the family's special tokens to ids."""
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

    from geoclick.train.embedded.processor import MERGE, PATCH, SIDE

    rope = {
        "rope_type": "default",
        "rope_theta": 10000.0,
        "mrope_section": [6, 5, 5],
        "mrope_interleaved": True,
    }
    model = Qwen3VLForConditionalGeneration(
        Qwen3VLConfig(
            text_config={
                "vocab_size": vocabulary,
                "hidden_size": 192,
                "initializer_range": 0.07,  # 1 / sqrt(width); 0.02 is for wide models
                "intermediate_size": 512,
                "num_hidden_layers": 5,
                "num_attention_heads": 6,
                "num_key_value_heads": 2,
                "head_dim": 32,
                "max_position_embeddings": 4096,
                "rope_parameters": rope,
                "tie_word_embeddings": True,
                "pad_token_id": special["<|endoftext|>"],
                "eos_token_id": special["<|im_end|>"],
            },
            vision_config={
                "depth": 5,
                "hidden_size": 128,
                "initializer_range": 0.07,
                "intermediate_size": 512,
                "num_heads": 4,
                "patch_size": PATCH,
                "spatial_merge_size": MERGE,
                "temporal_patch_size": 2,
                "out_hidden_size": 192,
                "num_position_embeddings": (SIDE // PATCH) ** 2,
                "deepstack_visual_indexes": [2],
            },
            image_token_id=special["<|image_pad|>"],
            video_token_id=special["<|video_pad|>"],
            vision_start_token_id=special["<|vision_start|>"],
            vision_end_token_id=special["<|vision_end|>"],
            tie_word_embeddings=True,
        )
    )
    # Untrained, the learnt positions are a fiftieth of the patches' own signal and places are found very late.
    model.model.visual.pos_embed.weight.data.copy_(waves(SIDE // PATCH, 128))
    return model


def waves(side: int, width: int) -> "torch.Tensor":
    """Positions on a square grid as sines and cosines of its rows and columns, [side * side, width], within 0.5."""
    import torch

    wavelength = 2 * side * (1 / side) ** torch.linspace(0, 1, width // 4)
    phase = 2 * torch.pi * torch.arange(side)[:, None] / wavelength
    line = torch.cat([phase.sin(), phase.cos()], 1) / 2
    return torch.cat([line.repeat_interleave(side, 0), line.repeat(side, 1)], 1)


def losses(model: "Qwen3VLForConditionalGeneration", heads: "torch.nn.ModuleList", batch: dict) -> dict:
    """The losses of a batch by name, each a scalar tensor.

    `answer` is the mean cross-entropy of the answer's tokens. The others are gone once training is over: `dense` of
    what the vision tower says of every patch, `look` of attention beside the target, `point` of where the middle
    layers take the click to be, as mean absolute error in units of the image side.
    """
    from torch.nn import functional as F

    from geoclick.train.embedded.lessons import COLORS, KIND_INDEX, LOOKING, answer_states, look_loss

    patch_head, point_head = heads
    states = answer_states(model, batch)
    hidden, tokens = states.hidden[-1], states.visual
    wanted = batch["labels"][:, 1:] != -100
    answer = F.cross_entropy(model.lm_head(hidden[:, :-1][wanted]).float(), batch["labels"][:, 1:][wanted])
    images, side = len(tokens), int(tokens.shape[1] ** 0.5)
    patches = (
        patch_head(tokens)
        .float()
        .view(images, side, side, 2, 2, -1)
        .transpose(2, 3)
        .reshape(images, 2 * side, 2 * side, -1)
    )
    kinds, colors, offsets = patches.split([len(KIND_INDEX) + 1, len(COLORS), 2], dim=-1)
    there = batch["kinds"] > 0
    dense = (
        F.cross_entropy(kinds.flatten(0, 2), batch["kinds"].flatten())
        + F.cross_entropy(colors[there], batch["colors"][there])
        + 4 * F.l1_loss(offsets[there], batch["offsets"][there])
    )
    told = point_head(states.hidden[LOOKING[-1] + 1][:, :-1]).float()
    missed = (told - batch["points"][:, None]).abs().mean(-1)[wanted]
    missed = missed[~missed.isnan()]
    point = missed.mean() if len(missed) else told.sum() * 0
    return {"answer": answer, "dense": dense, "look": look_loss(batch, states.attentions), "point": point}


def pointing_accuracy(
    model: "Qwen3VLForConditionalGeneration", processor: object, cache: object, count: int
) -> float:
    """Share of held-out referring questions whose generated point falls on the target."""
    import numpy as np
    import torch

    from geoclick.codec import decode
    from geoclick.prompts import messages
    from geoclick.scenes import SIZE
    from geoclick.scenes.queries import ask

    rng = np.random.default_rng(0)
    asked = [(i, ask([item.fact for item in cache.seen[i]], rng, "referring")) for i in range(count)]
    asked = [(i, query) for i, query in asked if query]
    chats = [
        processor.apply_chat_template(messages(q.text, answer_format="json"), add_generation_prompt=True)
        for _, q in asked
    ]
    inputs = processor(
        text=chats,
        images=[cache.images[i] for i, _ in asked],
        padding=True,
        padding_side="left",
        return_tensors="pt",
    ).to(model.device)
    model.eval()
    with torch.no_grad():
        made = model.generate(**inputs, max_new_tokens=32, do_sample=False)
    model.train()
    texts = processor.batch_decode(made[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    hits = 0
    for (i, query), text in zip(asked, texts, strict=True):
        clicks = decode(text, family="qwen3_vl", answer_format="json", image_size=(SIZE, SIZE)).clicks
        hits += bool(clicks) and cache.ids[i][round(clicks[0].y), round(clicks[0].x)] == query.target + 1
    return float(hits / len(asked))


def run(options: EmbeddedVlmOptions) -> None:
    """Draw the scenes, train, save the model as a transformers folder."""
    import torch
    from torch.utils.data import DataLoader, Subset

    from geoclick import devices
    from geoclick.train.embedded import scene_cache
    from geoclick.train.embedded.lessons import COLORS, KIND_INDEX, Lessons
    from geoclick.train.embedded.optimisers import matrix_and_other
    from geoclick.train.embedded.processor import SPECIAL, processor

    output, cache, device = Path(options.output), Path(options.cache), devices.choose(options.device)
    config.write_config(options, output)
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    caches = [
        scene_cache.load(
            cache, count=options.scenes // share, seed=options.seed + 1000, difficulty=difficulty
        )
        for difficulty, share in enumerate((6, 6, 1))
    ]
    held_out = scene_cache.load(cache, count=200, seed=options.seed + 2000)
    words = processor()
    model = build(
        len(words.tokenizer), {name: words.tokenizer.convert_tokens_to_ids(name) for name in SPECIAL}
    ).to(device)
    model.set_attn_implementation("eager")  # on a CPU, short rows in bf16 train twice as fast this way
    patch_head = torch.nn.Linear(192, 4 * (len(KIND_INDEX) + 1 + len(COLORS) + 2))
    heads = torch.nn.ModuleList([patch_head, torch.nn.Linear(192, 2)]).to(device)
    parameters = [*model.parameters(), *heads.parameters()]
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(words.tokenizer)} tokens")
    seeing = model.model.visual
    layers = [seeing.blocks, seeing.merger, seeing.deepstack_merger_list, model.model.language_model.layers]
    optimizers = matrix_and_other(layers, parameters, rate=options.learning_rate, decay=0.01)
    warm_up = min(100, options.steps // 10)
    schedules = [
        torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            options.learning_rate,
            options.steps,
            pct_start=warm_up / options.steps,
            cycle_momentum=False,
        )
        for optimizer in optimizers
    ]
    parts = {"model": model, "heads": heads}
    parts |= {f"optimizer{i}": part for i, part in enumerate(optimizers)}
    parts |= {f"schedule{i}": part for i, part in enumerate(schedules)}
    first = _resume(output, parts)
    lessons = Lessons(caches, words, steps=options.steps, questions=options.questions, seed=options.seed)
    loader = DataLoader(
        Subset(lessons, range(first, options.steps)), batch_size=None, num_workers=1, prefetch_factor=4
    )
    begun, log = time.time(), (output / "log.jsonl").open("a", encoding="utf-8")
    for step, batch in enumerate(loader, start=first + 1):
        batch = {name: part.to(device, non_blocking=True) for name, part in batch.items()}
        with torch.autocast(device.type, dtype=torch.bfloat16):
            loss = losses(model, heads, batch)
        sum(WEIGHTS[name] * part for name, part in loss.items()).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)
        last = step == options.steps
        if step % options.save_every == 0 or last:
            _save(output, step, parts, words)
        if step % options.log_every == 0 or last:
            row = {"step": step} | {name: round(part.item(), 4) for name, part in loss.items()}
            row["seconds_per_step"] = round((time.time() - begun) / (step - first), 2)
            if step % (4 * options.log_every) == 0 or last:
                row["pointing_accuracy"] = pointing_accuracy(model, words, held_out, 100)
            print(json.dumps(row), file=log, flush=True)
            print(json.dumps(row), flush=True)


def _save(output: Path, step: int, parts: dict, words: object) -> None:
    """Write the model as it ships (half precision) and everything that resuming needs, each renamed when whole."""
    import copy

    import torch

    state = {"step": step} | {name: part.state_dict() for name, part in parts.items()}
    torch.save(state, output / "state.partial")
    (output / "state.partial").replace(output / "state.pt")
    copy.deepcopy(parts["model"]).half().save_pretrained(output / "model")
    words.save_pretrained(output / "model")


def _resume(output: Path, parts: dict) -> int:
    """Load the last state, if there is one, and return its step."""
    import torch

    if not (output / "state.pt").exists():
        return 0
    state = torch.load(output / "state.pt", map_location="cpu", weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(state[name])
    return state["step"]


main = Command(
    prog="python -m train.embedded.vlm",
    options=EmbeddedVlmOptions,
    run=run,
    description="Train the small Qwen3-VL that ships with the package.",
    example="python -m train.embedded.vlm --config configs/embedded_vlm/default.yaml",
)


if __name__ == "__main__":
    sys.exit(main())
