"""Lessons of the embedded VLM: a scene, questions about it and dense labels, as batches by step number."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import Qwen3VLProcessor

from geoclick.clicks import Click
from geoclick.codec import encode
from geoclick.prompts import INSTRUCTIONS
from geoclick.scenes import SIZE
from geoclick.scenes.kinds import KINDS
from geoclick.scenes.queries import ask
from geoclick.train.embedded.processor import MERGE, PATCH
from geoclick.train.embedded.scene_cache import SceneCache, VisibleObject

GRID = SIZE // PATCH
TOKEN_GRID = GRID // MERGE
KIND_INDEX = {kind: i + 1 for i, kind in enumerate(KINDS)}
COLORS = sorted({color for kind in KINDS.values() for color in kind.colors})
PREFIX = ("<|im_start|>user\n<|vision_start|>", "<|image_pad|>", "<|vision_end|>")
ASSISTANT_TURN, END_OF_TURN = "<|im_end|>\n<|im_start|>assistant\n", "<|im_end|>\n"
IGNORED = -100
"""Label of the tokens that no loss counts."""

COUNTING = "How many: {query}"
"""The counting question, answered with digits, or with `none`."""

SHARES = {"json": 0.2, "counting": 0.25, "reasoning": 0.25}
"""Shares of the question forms in the last stage.

`json` is the share of batches in the answer format of zero-shot models. Of the images in other batches, `counting` is
the share with counting questions; the rest are asked for clicks in the compact format. Of all pointing questions,
`reasoning` is the share that describes the object by its purpose.
"""

Batch = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Stage:
    """A stage of the curriculum.

    Attributes:
        end: the share of all steps at which it ends.
        difficulties: share of the batches with single objects, a few objects and full scenes.
        all_forms: whether all question forms are used, or only counting and clicks on named objects.
    """

    end: float
    difficulties: tuple[float, float, float]
    all_forms: bool


STAGES = (
    Stage(0.05, (0.5, 0.4, 0.1), False),
    Stage(0.15, (0.1, 0.4, 0.5), False),
    Stage(0.30, (0.05, 0.15, 0.8), False),
    Stage(1.00, (0.03, 0.07, 0.9), True),
)
"""From single objects to full scenes, from named objects to all question forms."""

QUESTIONS_PER_IMAGE = (2, 4, 6)
"""By difficulty; with fewer questions per image, a batch has more images."""


@dataclass(frozen=True)
class Turn:
    """A question and its answer.

    Attributes:
        question: the user's text.
        answer: the assistant's text.
        objects: indexes of the objects that the question is about.
        point: the pixel (x, y) of the answer's click; None for a counting question.
    """

    question: str
    answer: str
    objects: list[int]
    point: tuple[int, int] | None = None


@dataclass(frozen=True)
class Lesson:
    """One image with its questions.

    Attributes:
        image: uint8 [256, 256, 3].
        turns: the questions and answers.
        kinds, colors: classes of each patch, int64 [GRID, GRID]; on the ground 0 and -1.
        offsets: from the center of each patch to the click point of its object, in units of the image side,
            float32 [GRID, GRID, 2] as (x, y); NaN on the ground.
        attention_targets: the share of each question's objects in each visual token, float32 [questions, tokens];
            rows sum to 1, or to 0 without an object.
        points: the click point of each question in units of the image side, float32 [questions, 2] as (x, y); NaN for
            a counting question.
    """

    image: np.ndarray
    turns: list[Turn]
    kinds: np.ndarray
    colors: np.ndarray
    offsets: np.ndarray
    attention_targets: np.ndarray
    points: np.ndarray


def rotate_and_mirror(item: VisibleObject, quarter_turns: int, mirror: bool) -> VisibleObject:
    """An object after quarter turns (those of np.rot90) and, if `mirror`, a flip from left to right."""
    x, y, (px, py), last = item.fact.x, item.fact.y, item.point, SIZE - 1
    for _ in range(quarter_turns):
        (x, y), (px, py) = (y, last - x), (py, last - px)
    if mirror:
        x, px = last - x, last - px
    return VisibleObject(replace(item.fact, x=x, y=y), (px, py))


def pointing_turn(
    objects: Sequence[VisibleObject], rng: np.random.Generator, answer_format: str, reasoning: float
) -> Turn | None:
    """A question for one click, described by purpose with probability `reasoning`; None if there is none to ask."""
    facts = [item.fact for item in objects]
    query = ask(facts, rng, "reasoning" if rng.random() < reasoning else "referring")
    if query is None:
        return None
    point = next(item.point for item in objects if item.fact.index == query.targets[0])
    answer = encode([Click(*point)], family="qwen3_vl", answer_format=answer_format, image_size=(SIZE, SIZE))
    return Turn(INSTRUCTIONS[answer_format].format(query=query.text), answer, list(query.targets), point)


def counting_turn(objects: Sequence[VisibleObject], rng: np.random.Generator) -> Turn:
    """A question for the number of objects of a kind, or of a kind and color; half of the time there are none."""
    with_color = rng.random() < 0.5
    visible = {(item.fact.kind, item.fact.color if with_color else None) for item in objects}
    countable = {
        (name, color)
        for name, kind in KINDS.items()
        for color in (kind.colors if with_color else (None,))
        if not with_color or len(kind.colors) > 1
    }
    present, absent = (
        sorted(pairs, key=lambda pair: (pair[0], pair[1] or ""))
        for pairs in (visible & countable, countable - visible)
    )
    candidates = absent if absent and (not present or rng.random() < 0.5) else present
    name, color = candidates[int(rng.integers(len(candidates)))]
    counted = [
        item.fact.index for item in objects if item.fact.kind == name and color in (None, item.fact.color)
    ]
    query = f"{color} {name}" if color else name
    return Turn(COUNTING.format(query=query), str(len(counted)) if counted else "none", counted)


def _dense_labels(
    ids: np.ndarray, objects: Sequence[VisibleObject]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`kinds`, `colors` and `offsets` of a Lesson.

    A patch belongs to the object with the most pixels in it, relative to the square root of the object's area; those
    with fewer than 20 pixels do not count.
    """
    count = max(item.fact.index for item in objects) + 2
    patch = np.arange(SIZE) // PATCH
    cell = patch[:, None] * GRID + patch[None]
    pixels = np.bincount((cell * count + ids).ravel(), minlength=GRID * GRID * count)
    weights = pixels.reshape(-1, count).astype(float)
    weights[:, 0] = 0
    weights[weights < 20] = 0
    for item in objects:
        weights[:, item.fact.index + 1] /= item.fact.area**0.5
    owner = np.where(weights.max(1) > 0, weights.argmax(1), 0)
    kinds, colors = np.zeros(count, np.int64), np.full(count, -1, np.int64)
    points = np.full((count, 2), np.nan, np.float32)
    for item in objects:
        number = item.fact.index + 1
        kinds[number], colors[number] = KIND_INDEX[item.fact.kind], COLORS.index(item.fact.color)
        points[number] = item.point
    centers = (np.arange(GRID, dtype=np.float32) + 0.5) * PATCH
    offsets = (points[owner].reshape(GRID, GRID, 2) - np.stack(np.meshgrid(centers, centers), -1)) / SIZE
    return kinds[owner].reshape(GRID, GRID), colors[owner].reshape(GRID, GRID), offsets


def _attention_target(ids: np.ndarray, turn: Turn) -> np.ndarray:
    """One row of `attention_targets` of a Lesson."""
    inside = np.isin(ids, [index + 1 for index in turn.objects])
    pixels = inside.reshape(TOKEN_GRID, -1, TOKEN_GRID, PATCH * MERGE).sum((1, 3))
    return (pixels / max(inside.sum(), 1)).ravel().astype(np.float32)


def make_lesson(
    cache: SceneCache,
    index: int,
    rng: np.random.Generator,
    form: str,
    questions: int,
    reasoning: float = 0.0,
) -> Lesson | None:
    """A scene of the cache, randomly rotated and mirrored, with its questions; None if there is nothing to ask.

    Args:
        cache: the scenes.
        index: of the scene in the cache.
        rng: source of randomness.
        form: an answer format, or `counting`.
        questions: number of questions.
        reasoning: share of the pointing questions that describe the object by its purpose.
    """
    quarter_turns, mirror = int(rng.integers(4)), bool(rng.integers(2))
    image, ids = np.rot90(cache.images[index], quarter_turns), np.rot90(cache.ids[index], quarter_turns)
    if mirror:
        image, ids = image[:, ::-1], ids[:, ::-1]
    objects = [rotate_and_mirror(item, quarter_turns, mirror) for item in cache.objects[index]]
    if not objects:
        return None
    turns: list[Turn] = []
    for _ in range(questions):
        turn = (
            counting_turn(objects, rng)
            if form == "counting"
            else pointing_turn(objects, rng, form, reasoning)
        )
        if turn is None:
            return None
        turns.append(turn)
    points = np.array([turn.point or (np.nan, np.nan) for turn in turns], np.float32) / SIZE
    targets = np.stack([_attention_target(ids, turn) for turn in turns])
    return Lesson(image.copy(), turns, *_dense_labels(ids, objects), targets, points)


class LessonBatches(Dataset[Batch]):
    """Complete batches by step number; a step has the same batch in resumed and in uninterrupted runs.

    Args:
        caches: scenes by difficulty, 0 to 2.
        processor: of the model.
        steps: number of steps of the run.
        questions: number of questions per batch.
        seed: of scenes and questions.
    """

    def __init__(
        self,
        caches: Sequence[SceneCache],
        processor: Qwen3VLProcessor,
        *,
        steps: int,
        questions: int,
        seed: int,
    ) -> None:
        self.caches, self.processor, self.steps, self.seed = caches, processor, steps, seed
        self.questions = questions
        before, pad, after = (processor.tokenizer(text).input_ids for text in PREFIX)
        start = len(before)
        self.prefix = before + pad * TOKEN_GRID**2 + after
        row, column = torch.arange(TOKEN_GRID**2) // TOKEN_GRID, torch.arange(TOKEN_GRID**2) % TOKEN_GRID
        image = start + torch.stack([torch.zeros_like(row), row, column])
        parts = [torch.arange(start).expand(3, -1), image, torch.full((3, 1), start + TOKEN_GRID)]
        self.prefix_positions = torch.cat(parts, 1)

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> Batch:
        rng = np.random.default_rng([self.seed, step])
        stage = next(stage for stage in STAGES if step < stage.end * self.steps)
        difficulty = int(rng.choice(3, p=stage.difficulties))
        in_json = stage.all_forms and rng.random() < SHARES["json"]
        reasoning = SHARES["reasoning"] if stage.all_forms else 0.0
        cache, per_image = self.caches[difficulty], QUESTIONS_PER_IMAGE[difficulty]
        images = min(self.questions // per_image, self.questions // 4)
        lessons: list[Lesson] = []
        while len(lessons) < images:
            form = "counting" if rng.random() < SHARES["counting"] else "compact"
            index = int(rng.integers(len(cache.objects)))
            lesson = make_lesson(cache, index, rng, "json" if in_json else form, per_image, reasoning)
            lessons += [lesson] if lesson else []
        return self._collate(lessons)

    def _collate(self, lessons: list[Lesson]) -> Batch:
        tokens, labels = self._tokenize([turn for lesson in lessons for turn in lesson.turns])
        next_position = int(self.prefix_positions.max()) + 1
        images = self.processor.image_processor(
            images=[lesson.image for lesson in lessons], return_tensors="pt"
        )
        return {
            "prefix": torch.tensor(self.prefix).expand(len(lessons), -1),
            "prefix_positions": self.prefix_positions[:, None].expand(-1, len(lessons), -1),
            "tokens": tokens,
            "labels": labels,
            "positions": (next_position + torch.arange(tokens.shape[1])).expand(3, *tokens.shape),
            "pixel_values": images["pixel_values"],
            "image_grid_thw": images["image_grid_thw"],
            "kinds": torch.from_numpy(np.stack([lesson.kinds for lesson in lessons])),
            "colors": torch.from_numpy(np.stack([lesson.colors for lesson in lessons])),
            "points": torch.from_numpy(np.concatenate([lesson.points for lesson in lessons])),
            "attention_targets": torch.from_numpy(
                np.concatenate([lesson.attention_targets for lesson in lessons])
            ),
            "offsets": torch.from_numpy(np.stack([lesson.offsets for lesson in lessons])).float(),
        }

    def _tokenize(self, turns: list[Turn]) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens [Q, L] of questions and answers, padded on the right, and labels, IGNORED outside the answers."""
        tokenizer = self.processor.tokenizer
        texts = [t for turn in turns for t in (turn.question + ASSISTANT_TURN, turn.answer + END_OF_TURN)]
        encoded = tokenizer(texts).input_ids
        pairs = list(zip(encoded[::2], encoded[1::2], strict=True))
        shape = (len(pairs), max(len(question) + len(answer) for question, answer in pairs))
        tokens, labels = np.full(shape, tokenizer.pad_token_id), np.full(shape, IGNORED)
        for i, (question, answer) in enumerate(pairs):
            end = len(question) + len(answer)
            tokens[i, :end] = question + answer
            labels[i, len(question) : end] = answer
        return torch.from_numpy(tokens), torch.from_numpy(labels)
