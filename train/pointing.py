"""Pointing lessons: scenes, questions about them and dense labels, as batches for the embedded VLM.

Several questions of one image share its tokens: the image part of the chat runs once and leaves its keys and values,
each question then goes on from them by itself. Every question is exactly the chat that it would be alone, but the
vision tower and the image's tokens are paid for once.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch.utils.data import Dataset

from geoclick.clicks import Click
from geoclick.codec import encode
from geoclick.prompts import INSTRUCTIONS
from geoclick.scenes import SIZE
from geoclick.scenes.kinds import KINDS
from geoclick.scenes.queries import Fact, Query, ask, observe
from train.embedded_processor import MERGE, PATCH
from train.scene_cache import SceneCache

GRID = SIZE // PATCH
KIND_INDEX = {kind: i + 1 for i, kind in enumerate(KINDS)}
COLOURS = sorted({colour for kind in KINDS.values() for colour in kind.colours})
TURN = ("<|im_start|>user\n<|vision_start|>", "<|image_pad|>", "<|vision_end|>")
ASSISTANT, END = "<|im_end|>\n<|im_start|>assistant\n", "<|im_end|>\n"
FORMS = (("Point to: {query}", 0.5), (INSTRUCTIONS["json"], 0.3), ("Box of: {query}", 0.2))
"""What a batch asks, and how often: a point in short, a point with the instruction of zero-shot models, a box."""


@dataclass(frozen=True)
class Lesson:
    """One image with its questions.

    Attributes:
        image: uint8 [256, 256, 3].
        turns: (question, answer) texts.
        kinds, colours: class of each patch, int64 [GRID, GRID]; 0 is the ground, colours -1 there.
        offsets: from each patch's middle to the centre of its object, in units of the image side,
            float32 [GRID, GRID, 2] as (x, y); nan on the ground.
    """

    image: np.ndarray
    turns: list[tuple[str, str]]
    kinds: np.ndarray
    colours: np.ndarray
    offsets: np.ndarray


def centre(mask: np.ndarray) -> tuple[int, int]:
    """The pixel (x, y) of a mask, bool [H, W], that is farthest from its outside."""
    rows, columns = np.nonzero(mask)
    top, left = rows.min(), columns.min()
    crop = np.pad(mask[top : rows.max() + 1, left : columns.max() + 1], 1)
    y, x = np.unravel_index(distance_transform_edt(crop).argmax(), crop.shape)
    return int(x + left - 1), int(y + top - 1)


def turn_text(query: Query, mask: np.ndarray, form: str) -> tuple[str, str]:
    """A question and its answer in the family's native form."""
    if form.startswith("Box"):
        rows, columns = np.nonzero(mask)
        box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        corners = ", ".join(str(round(v * 1000 / SIZE)) for v in box)
        answer = f'[{{"bbox_2d": [{corners}], "label": "positive"}}]'
    else:
        clicks = [Click(*centre(mask))]
        answer = encode(clicks, family="qwen3_vl", answer_format="json", image_size=(SIZE, SIZE))
    return form.format(query=query.text), answer


def _dense(ids: np.ndarray, facts: list[Fact]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Kind, colour and centre offset of the object that each patch shows most of; small objects weigh more."""
    count = max((f.index for f in facts), default=-1) + 2
    patch = np.arange(SIZE) // PATCH
    cell = patch[:, None] * GRID + patch[None]
    shown = (
        np.bincount((cell * count + ids).ravel(), minlength=GRID * GRID * count)
        .reshape(-1, count)
        .astype(float)
    )
    shown[:, 0] = 0
    shown[shown < 20] = 0
    for fact in facts:
        shown[:, fact.index + 1] /= fact.area**0.5
    owner = np.where(shown.max(1) > 0, shown.argmax(1), 0)
    kind_of, colour_of = np.zeros(count, np.int64), np.full(count, -1, np.int64)
    centre_of = np.full((count, 2), np.nan, np.float32)
    for f in facts:
        kind_of[f.index + 1], colour_of[f.index + 1] = KIND_INDEX[f.kind], COLOURS.index(f.colour)
        centre_of[f.index + 1] = f.x, f.y
    middle = (np.arange(GRID, dtype=np.float32) + 0.5) * PATCH
    place = np.stack(np.meshgrid(middle, middle), -1)
    offsets = (centre_of[owner].reshape(GRID, GRID, 2) - place) / SIZE
    return kind_of[owner].reshape(GRID, GRID), colour_of[owner].reshape(GRID, GRID), offsets


def lesson(
    cache: SceneCache, index: int, rng: np.random.Generator, form: str, questions: int
) -> Lesson | None:
    """A scene of the cache, turned and mirrored at random, with its questions; None when nothing can be asked."""
    turns, mirror = int(rng.integers(4)), bool(rng.integers(2))
    image, ids = np.rot90(cache.images[index], turns), np.rot90(cache.ids[index], turns)
    if mirror:
        image, ids = image[:, ::-1], ids[:, ::-1]
    facts = observe(cache.scenes[index], ids)
    asked = [query for _ in range(questions) if (query := ask(facts, rng, "referring"))]
    if len(asked) < questions:
        return None
    texts = [turn_text(query, ids == query.target + 1, form) for query in asked]
    return Lesson(image.copy(), texts, *_dense(ids, facts))


class Lessons(Dataset):
    """Whole batches by step number: the same step gives the same batch, however often training was resumed."""

    def __init__(
        self,
        caches: list[SceneCache],
        processor: object,
        *,
        steps: int,
        images: int,
        questions: int,
        seed: int,
    ) -> None:
        self.caches, self.processor, self.steps, self.seed = caches, processor, steps, seed
        self.images, self.questions = images, questions
        tokenizer = processor.tokenizer
        before, pad, after = (tokenizer(text).input_ids for text in TURN)
        side, start = GRID // MERGE, len(before)
        self.prefix = before + pad * side**2 + after
        image = start + torch.stack(
            [torch.zeros(side**2), *(torch.arange(side**2) // side, torch.arange(side**2) % side)]
        )
        text = [torch.arange(start).expand(3, -1), image.long(), torch.full((3, 1), start + side)]
        self.prefix_positions = torch.cat(text, 1)

    def __len__(self) -> int:
        return self.steps

    def _shares(self, step: int) -> np.ndarray:
        """How much of each difficulty a batch holds: single objects first, full scenes soon."""
        done = step / self.steps
        easy, some = max(0.0, 0.6 - 12 * done), max(0.05, 0.4 - 3 * done)
        return np.array([easy, some, 1 - easy - some])

    def __getitem__(self, step: int) -> dict[str, torch.Tensor]:
        rng = np.random.default_rng([self.seed, step])
        form = FORMS[rng.choice(len(FORMS), p=[share for _, share in FORMS])][0]
        lessons: list[Lesson] = []
        while len(lessons) < self.images:
            cache = self.caches[rng.choice(3, p=self._shares(step))]
            made = lesson(cache, int(rng.integers(len(cache.scenes))), rng, form, self.questions)
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
            "colours": torch.from_numpy(np.stack([made.colours for made in lessons])),
            "offsets": torch.from_numpy(np.stack([made.offsets for made in lessons])).float(),
        }
