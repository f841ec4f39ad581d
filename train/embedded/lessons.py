"""Lessons of the embedded VLM: a scene, questions about it and dense labels, as batches by step number."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import Qwen3VLProcessor

from geoclick.scenes import SIZE
from geoclick.scenes.kinds import KINDS
from geoclick.train.embedded.lesson_turns import (
    Turn,
    counting_turn,
    pointing_turn,
    rotate_and_mirror,
    varied_turn,
)
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

VARIED_QUESTIONS = 4
"""Questions about an image of version 2."""
VARIED_DIVISORS = {"compact": 6, "json": 16}
"""By how much the questions of a step are divided to get the images of version 2, so that a step with the long answers
of these takes about the time of any other."""


@dataclass(frozen=True)
class Lesson:
    """One image with its questions.

    Attributes:
        image: uint8 [256, 256, 3].
        turns: the questions and answers.
        kinds, colors: classes of each patch, int64 [GRID, GRID]; on the ground 0 and -1. The color of an object whose
            color has no name is IGNORED.
        offsets: from the center of each patch to the click point of its object, in units of the image side,
            float32 [GRID, GRID, 2] as (x, y); NaN on the ground.
        attention_targets: the share of the objects of each part of the answers, in the order of the turns, in each
            visual token, float32 [parts, tokens]; rows sum to 1, or to 0 without an object.
        points: the click point of each part in units of the image side, float32 [parts, 2] as (x, y); NaN for a
            counting question.
    """

    image: np.ndarray
    turns: list[Turn]
    kinds: np.ndarray
    colors: np.ndarray
    offsets: np.ndarray
    attention_targets: np.ndarray
    points: np.ndarray


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
        kinds[number] = KIND_INDEX[item.fact.kind]
        colors[number] = COLORS.index(item.fact.color) if item.fact.color else IGNORED
        points[number] = item.point
    centers = (np.arange(GRID, dtype=np.float32) + 0.5) * PATCH
    offsets = (points[owner].reshape(GRID, GRID, 2) - np.stack(np.meshgrid(centers, centers), -1)) / SIZE
    return kinds[owner].reshape(GRID, GRID), colors[owner].reshape(GRID, GRID), offsets


def _attention_target(ids: np.ndarray, objects: Sequence[int]) -> np.ndarray:
    """One row of `attention_targets` of a Lesson."""
    inside = np.isin(ids, [index + 1 for index in objects])
    pixels = inside.reshape(TOKEN_GRID, -1, TOKEN_GRID, PATCH * MERGE).sum((1, 3))
    return (pixels / max(inside.sum(), 1)).ravel().astype(np.float32)


def make_lesson(
    cache: SceneCache,
    index: int,
    rng: np.random.Generator,
    form: str,
    questions: int,
    reasoning: float | None = 0.0,
) -> Lesson | None:
    """A scene of the cache, randomly rotated and mirrored, with its questions; None if there is nothing to ask.

    Args:
        cache: the scenes.
        index: of the scene in the cache.
        rng: source of randomness.
        form: an answer format, or `counting`.
        questions: number of questions.
        reasoning: share of the pointing questions that describe the object by its purpose; None for the tasks of
            scenes of version 2, see `varied_turn`.
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
        if form == "counting":
            turn: Turn | None = counting_turn(objects, rng)
        elif reasoning is None:
            turn = varied_turn(objects, rng, form)
        else:
            turn = pointing_turn(objects, rng, form, reasoning)
        if turn is None:
            return None
        turns.append(turn)
    points = (
        np.array([point or (np.nan, np.nan) for turn in turns for point in turn.points], np.float32) / SIZE
    )
    targets = np.stack([_attention_target(ids, part) for turn in turns for part in turn.objects])
    return Lesson(image.copy(), turns, *_dense_labels(ids, objects), targets, points)


@dataclass(frozen=True)
class VariedScenes:
    """Scenes of version 2, and the share of the steps on them."""

    cache: SceneCache
    share: float


class LessonBatches(Dataset[Batch]):
    """Complete batches by step number; a step has the same batch in resumed and in uninterrupted runs.

    Args:
        caches: scenes by difficulty, 0 to 2.
        processor: of the model.
        steps: number of steps of the run.
        questions: number of questions per batch.
        seed: of scenes and questions.
        stages: the curriculum.
        varied: scenes of version 2, if some of the steps are on them.
    """

    def __init__(
        self,
        caches: Sequence[SceneCache],
        processor: Qwen3VLProcessor,
        *,
        steps: int,
        questions: int,
        seed: int,
        stages: Sequence[Stage] = STAGES,
        varied: VariedScenes | None = None,
    ) -> None:
        self.caches, self.processor, self.steps, self.seed = caches, processor, steps, seed
        self.questions, self.stages, self.varied = questions, stages, varied
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
        rng = np.random.default_rng([self.seed, step, 2])
        if self.varied and rng.random() < self.varied.share:
            return self._varied_batch(self.varied.cache, rng)
        rng = np.random.default_rng([self.seed, step])
        stage = next(stage for stage in self.stages if step < stage.end * self.steps)
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

    def _varied_batch(self, cache: SceneCache, rng: np.random.Generator) -> Batch:
        """A batch about scenes of version 2."""
        form = "json" if rng.random() < SHARES["json"] else "compact"
        images = max(1, self.questions // VARIED_DIVISORS[form])
        lessons: list[Lesson] = []
        while len(lessons) < images:
            index = int(rng.integers(len(cache.objects)))
            lesson = make_lesson(cache, index, rng, form, VARIED_QUESTIONS, reasoning=None)
            lessons += [lesson] if lesson else []
        return self._collate(lessons)

    def _collate(self, lessons: list[Lesson]) -> Batch:
        tokens, labels, parts = self._tokenize([turn for lesson in lessons for turn in lesson.turns])
        next_position = int(self.prefix_positions.max()) + 1
        images = self.processor.image_processor(
            images=[lesson.image for lesson in lessons], return_tensors="pt"
        )
        return {
            "prefix": torch.tensor(self.prefix).expand(len(lessons), -1),
            "prefix_positions": self.prefix_positions[:, None].expand(-1, len(lessons), -1),
            "tokens": tokens,
            "labels": labels,
            "parts": parts,
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

    def _tokenize(self, turns: list[Turn]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Questions and answers as tokens, [Q, L] each.

        Returns:
            The tokens, padded on the right; the labels, IGNORED outside the answers; and the part that each token of an
            answer belongs to, counted over all answers of the batch, 0 outside the answers.
        """
        tokenizer = self.processor.tokenizer
        questions = tokenizer([turn.question + ASSISTANT_TURN for turn in turns]).input_ids
        encoded = tokenizer([turn.answer + END_OF_TURN for turn in turns], return_offsets_mapping=True)
        pairs = list(zip(questions, encoded.input_ids, strict=True))
        shape = (len(pairs), max(len(question) + len(answer) for question, answer in pairs))
        tokens, labels = np.full(shape, tokenizer.pad_token_id), np.full(shape, IGNORED)
        parts, first = np.zeros(shape, np.int64), 0
        for i, (question, answer) in enumerate(pairs):
            end = len(question) + len(answer)
            tokens[i, :end] = question + answer
            labels[i, len(question) : end] = answer
            ends = [token_end for _, token_end in encoded.offset_mapping[i]]
            parts[i, len(question) : end] = first + turns[i].parts_of(ends)
            first += len(turns[i].objects)
        return torch.from_numpy(tokens), torch.from_numpy(labels), torch.from_numpy(parts)
