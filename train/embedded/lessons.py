"""Pointing lessons: scenes, questions about them and dense labels, as batches for the embedded VLM.

Several questions of one image share its tokens: the image part of the chat runs once and leaves its keys and values,
each question then goes on from them by itself. Every question is exactly the chat that it would be alone, but the
vision tower and the image's tokens are paid for once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.utils.data import Dataset

from geoclick.clicks import Click
from geoclick.codec import encode
from geoclick.prompts import INSTRUCTIONS
from geoclick.scenes import SIZE
from geoclick.scenes.kinds import KINDS
from geoclick.scenes.queries import Query, ask
from geoclick.train.embedded.processor import MERGE, PATCH
from geoclick.train.embedded.scene_cache import SceneCache, Seen

if TYPE_CHECKING:
    from transformers import Qwen3VLForConditionalGeneration

GRID = SIZE // PATCH
KIND_INDEX = {kind: i + 1 for i, kind in enumerate(KINDS)}
COLORS = sorted({color for kind in KINDS.values() for color in kind.colors})
TURN = ("<|im_start|>user\n<|vision_start|>", "<|image_pad|>", "<|vision_end|>")
ASSISTANT, END = "<|im_end|>\n<|im_start|>assistant\n", "<|im_end|>\n"
COUNTING = "How many: {query}"
"""The question for a number, answered with digits, or with `none`."""

SHARES = {"json": 0.2, "counting": 0.25, "reasoning": 0.25}
"""What is asked once all forms are: batches in the long form of zero-shot models; of the others, images about which
numbers are asked; of all points, those by purpose. The rest are points as a tuned model writes a click."""


@dataclass(frozen=True)
class Stage:
    """A part of the training.

    Attributes:
        until: share of all steps at which it ends.
        shares: how often a batch holds single objects, a few objects, full scenes.
        forms: whether all forms are asked, or only numbers and clicks on named things.
    """

    until: float
    shares: tuple[float, float, float]
    forms: bool


STAGES = (
    Stage(0.05, (0.5, 0.4, 0.1), False),
    Stage(0.15, (0.1, 0.4, 0.5), False),
    Stage(0.30, (0.05, 0.15, 0.8), False),
    Stage(1.00, (0.03, 0.07, 0.9), True),
)
"""From single objects to full scenes, from named things to all forms."""

LOOKING = (2, 3)
"""The layers of which every third head is taught where to look."""

QUESTIONS = (2, 4, 6)
"""Questions about each image by difficulty; the fewer questions, the more images in a batch."""


@dataclass(frozen=True)
class Lesson:
    """One image with its questions.

    Attributes:
        image: uint8 [256, 256, 3].
        turns: (question, answer) texts.
        kinds, colors: class of each patch, int64 [GRID, GRID]; 0 is the ground, colors -1 there.
        offsets: from each patch's middle to the click point of its object, in units of the image side,
            float32 [GRID, GRID, 2] as (x, y); nan on the ground.
        looks: share of each question's objects in each visual token, float32 [questions, tokens]; rows sum to 1, or
            to 0 where there is none.
        points: each question's click point in units of the image side, float32 [questions, 2] as (x, y);
            nan for a number.
    """

    image: np.ndarray
    turns: list[tuple[str, str]]
    kinds: np.ndarray
    colors: np.ndarray
    offsets: np.ndarray
    looks: np.ndarray
    points: np.ndarray


def turned(seen: Seen, turns: int, mirror: bool) -> Seen:
    """An object as it is seen after quarter turns (of np.rot90) and a mirroring from left to right."""
    x, y, (px, py), last = seen.fact.x, seen.fact.y, seen.point, SIZE - 1
    for _ in range(turns):
        (x, y), (px, py) = (y, last - x), (py, last - px)
    if mirror:
        x, px = last - x, last - px
    return Seen(replace(seen.fact, x=x, y=y), (px, py))


def pointing_turn(query: Query, point: tuple[int, int], answer_format: str) -> tuple[str, str]:
    """A question and its answer, one click, in the family's native frame."""
    answer = encode([Click(*point)], family="qwen3_vl", answer_format=answer_format, image_size=(SIZE, SIZE))
    return INSTRUCTIONS[answer_format].format(query=query.text), answer


def counting_turn(seen: list[Seen], rng: np.random.Generator) -> tuple[str, str, list[int]]:
    """How many there are of a kind, or of a kind in a color, half the time of what is absent.

    Returns:
        Question, answer, and which objects are counted.
    """
    with_color = rng.random() < 0.5
    shown = {(item.fact.kind, item.fact.color if with_color else None) for item in seen}
    every = {
        (name, color)
        for name, kind in KINDS.items()
        for color in (kind.colors if with_color else (None,))
        if not with_color or len(kind.colors) > 1
    }
    present, absent = sorted(shown & every), sorted(every - shown)
    wanted = absent if absent and (not present or rng.random() < 0.5) else present
    name, color = wanted[int(rng.integers(len(wanted)))]
    which = [item.fact.index for item in seen if item.fact.kind == name and color in (None, item.fact.color)]
    asked = f"{color} {name}" if color else name
    return COUNTING.format(query=asked), str(len(which)) if which else "none", which


def _dense(ids: np.ndarray, seen: list[Seen]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What each patch shows most of, as `Lesson` describes it; small objects weigh more."""
    count = max(item.fact.index for item in seen) + 2
    patch = np.arange(SIZE) // PATCH
    cell = patch[:, None] * GRID + patch[None]
    shown = (
        np.bincount((cell * count + ids).ravel(), minlength=GRID * GRID * count)
        .reshape(-1, count)
        .astype(float)
    )
    shown[:, 0] = 0
    shown[shown < 20] = 0
    for item in seen:
        shown[:, item.fact.index + 1] /= item.fact.area**0.5
    owner = np.where(shown.max(1) > 0, shown.argmax(1), 0)
    kind_of, color_of = np.zeros(count, np.int64), np.full(count, -1, np.int64)
    center_of = np.full((count, 2), np.nan, np.float32)
    for item in seen:
        at = item.fact.index + 1
        kind_of[at], color_of[at] = KIND_INDEX[item.fact.kind], COLORS.index(item.fact.color)
        center_of[at] = item.point
    middle = (np.arange(GRID, dtype=np.float32) + 0.5) * PATCH
    offsets = (center_of[owner].reshape(GRID, GRID, 2) - np.stack(np.meshgrid(middle, middle), -1)) / SIZE
    square = (GRID, GRID)
    return kind_of[owner].reshape(square), color_of[owner].reshape(square), offsets


def lesson(
    cache: SceneCache,
    index: int,
    rng: np.random.Generator,
    form: str,
    questions: int,
    reasoning: float = 0.0,
) -> Lesson | None:
    """A scene of the cache, turned and mirrored at random, with its questions; None when nothing can be asked.

    Args:
        form: an answer format, or `counting`.
        questions: how many.
        reasoning: share of the points that are asked for by purpose.
    """
    quarters, mirror = int(rng.integers(4)), bool(rng.integers(2))
    image, ids = np.rot90(cache.images[index], quarters), np.rot90(cache.ids[index], quarters)
    if mirror:
        image, ids = image[:, ::-1], ids[:, ::-1]
    seen = [turned(item, quarters, mirror) for item in cache.seen[index]]
    if not seen:
        return None
    facts, points = [item.fact for item in seen], {item.fact.index: item.point for item in seen}
    turns: list[tuple[str, str]] = []
    looks, clicked = (
        np.zeros((questions, (GRID // MERGE) ** 2), np.float32),
        np.full((questions, 2), np.nan, np.float32),
    )
    for i in range(questions):
        if form == "counting":
            question, answer, which = counting_turn(seen, rng)
        else:
            query = ask(facts, rng, "reasoning" if rng.random() < reasoning else "referring")
            if query is None:
                return None
            which = [query.target]
            question, answer = pointing_turn(query, points[query.target], form)
            clicked[i] = np.array(points[query.target], np.float32) / SIZE
        turns.append((question, answer))
        shown = np.isin(ids, [index + 1 for index in which]).reshape(
            GRID // MERGE, -1, GRID // MERGE, PATCH * MERGE
        )
        looks[i] = (shown.sum((1, 3)) / max(shown.sum(), 1)).ravel()
    return Lesson(image.copy(), turns, *_dense(ids, seen), looks, clicked)


class Lessons(Dataset):
    """Whole batches by step number: the same step gives the same batch, however often training was resumed."""

    def __init__(
        self, caches: list[SceneCache], processor: object, *, steps: int, questions: int, seed: int
    ) -> None:
        self.caches, self.processor, self.steps, self.seed = caches, processor, steps, seed
        self.questions = questions
        tokenizer = processor.tokenizer
        before, pad, after = (tokenizer(text).input_ids for text in TURN)
        side, start = GRID // MERGE, len(before)
        self.prefix = before + pad * side**2 + after
        row, column = torch.arange(side**2) // side, torch.arange(side**2) % side
        image = start + torch.stack([torch.zeros_like(row), row, column])
        text = [torch.arange(start).expand(3, -1), image, torch.full((3, 1), start + side)]
        self.prefix_positions = torch.cat(text, 1)

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> dict[str, torch.Tensor]:
        rng = np.random.default_rng([self.seed, step])
        stage = next(stage for stage in STAGES if step < stage.until * self.steps)
        difficulty = int(rng.choice(3, p=stage.shares))
        long = stage.forms and rng.random() < SHARES["json"]
        reasoning = SHARES["reasoning"] if stage.forms else 0.0
        cache, each = self.caches[difficulty], QUESTIONS[difficulty]
        images = min(self.questions // each, self.questions // 4)
        lessons: list[Lesson] = []
        while len(lessons) < images:
            short = "counting" if rng.random() < SHARES["counting"] else "compact"
            index = int(rng.integers(len(cache.seen)))
            made = lesson(cache, index, rng, "json" if long else short, each, reasoning)
            lessons += [made] if made else []
        return self._collate(lessons)

    def _collate(self, lessons: list[Lesson]) -> dict[str, torch.Tensor]:
        texts = [text for made in lessons for q, a in made.turns for text in (q + ASSISTANT, a + END)]
        encoded = self.processor.tokenizer(texts).input_ids
        pairs = list(zip(encoded[::2], encoded[1::2], strict=True))
        shape = (len(pairs), max(len(q) + len(a) for q, a in pairs))
        tokens, labels = np.full(shape, self.processor.tokenizer.pad_token_id), np.full(shape, -100)
        for i, (question, answer) in enumerate(pairs):
            end = len(question) + len(answer)
            tokens[i, :end] = question + answer
            labels[i, len(question) : end] = answer
        pixels = self.processor.image_processor(images=[made.image for made in lessons], return_tensors="pt")
        return {
            "prefix": torch.tensor(self.prefix).expand(len(lessons), -1),
            "prefix_positions": self.prefix_positions[:, None].expand(-1, len(lessons), -1),
            "tokens": torch.from_numpy(tokens),
            "labels": torch.from_numpy(labels),
            "positions": (int(self.prefix_positions.max()) + 1 + torch.arange(shape[1])).expand(3, *shape),
            "pixel_values": pixels["pixel_values"],
            "image_grid_thw": pixels["image_grid_thw"],
            "kinds": torch.from_numpy(np.stack([made.kinds for made in lessons])),
            "colors": torch.from_numpy(np.stack([made.colors for made in lessons])),
            "points": torch.from_numpy(np.concatenate([made.points for made in lessons])),
            "looks": torch.from_numpy(np.concatenate([made.looks for made in lessons])),
            "offsets": torch.from_numpy(np.stack([made.offsets for made in lessons])).float(),
        }


@dataclass(frozen=True)
class States:
    """What a batch of `Lessons` leaves in the model.

    Attributes:
        hidden: output of every layer for the questions' tokens, the input first and the normed last output last,
            [Q, L, D] each.
        attentions: of every layer, [Q, heads, L, prefix + L] each.
        visual: the visual tokens, [B, N, D].
    """

    hidden: tuple[torch.Tensor, ...]
    attentions: tuple[torch.Tensor, ...]
    visual: torch.Tensor


def answer_states(model: "Qwen3VLForConditionalGeneration", batch: dict) -> States:
    """Run a batch of `Lessons`: each image once, then its questions from the keys and values that it leaves."""
    seen = model.model.get_image_features(batch["pixel_values"], batch["image_grid_thw"], return_dict=True)
    image = model.model(
        input_ids=batch["prefix"],
        position_ids=batch["prefix_positions"],
        image_grid_thw=batch["image_grid_thw"],
        mm_encoder_outputs={"image": seen},
        use_cache=True,
    ).past_key_values
    questions, length = batch["tokens"].shape
    image.batch_repeat_interleave(questions // len(batch["prefix"]))
    out = model.model(
        input_ids=batch["tokens"],
        attention_mask=torch.ones_like(batch["tokens"][:, :1]).expand(-1, batch["prefix"].shape[1] + length),
        position_ids=batch["positions"],
        past_key_values=image,
        output_attentions=True,
        output_hidden_states=True,
    )
    return States(out.hidden_states, out.attentions, torch.stack(list(seen.pooler_output)))


def look_loss(batch: dict, attentions: Sequence[torch.Tensor]) -> torch.Tensor:
    """How far the attention of `LOOKING` is from the target while the answer is written, as mean cross-entropy.

    Which of many objects a question means is the slow part of learning to point; told where to look, the model finds
    it in a fraction of the time. The attention is ordinary otherwise, and nothing of this remains in the model.
    """
    before = int((batch["prefix_positions"][0, 0].diff() == 0).nonzero()[0])
    answering = batch["labels"][:, 1:] != -100
    losses = []
    for layer in LOOKING:
        looks = (
            attentions[layer][:, ::3, :-1, before : before + batch["looks"].shape[1]]
            .float()
            .clamp_min(1e-6)
            .log()
        )
        wrong = -(looks * batch["looks"][:, None, None]).sum(-1).mean(1)
        losses.append(wrong[answering].mean())
    return torch.stack(losses).mean()
