"""Decoding of click sequences: many at once, click by click with mask feedback or all clicks in one prompt."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch

from geoclick.clicks import Click, ClickSequence
from geoclick.segmenters.base import Box, Decoded, Embedding, Prompt, Segmenter

FEEDBACK_LIMIT = 32.0
"""Bound of the logits that are fed back, as in SAM 2, so that later clicks can still correct a confident mask."""

UPSCALE_PIXELS = 2**25
"""Pixels per batch of upscaling (128 MiB of float32)."""


Multimask = Literal["first", "always", "never"]


@dataclass(frozen=True)
class Prompting:
    """How a sequence is decoded; two runs agree only with the same prompting.

    Attributes:
        multimask: "first" takes the best of three masks by predicted IoU for a sequence of one click and the
            single mask from the second click on; "always" the best of three each time; "never" one mask.
        feedback: whether the low-resolution logits of the last mask go into the next prompt.
    """

    multimask: Multimask = "first"
    feedback: bool = True

    @property
    def name(self) -> str:
        """The prompting in one word for records, such as `multimask-first+feedback`."""
        return f"multimask-{self.multimask}" + ("+feedback" if self.feedback else "")

    def takes_best_of_three(self, clicks: int) -> bool:
        """Whether the mask of a prompt with `clicks` clicks is the best of three."""
        return self.multimask == "always" or (self.multimask == "first" and clicks == 1)


@dataclass(frozen=True, eq=False)
class Attempt:
    """A sequence with one more click, and its mask.

    Attributes:
        sequence: the clicks in order, the new one last.
        plane: the mask, bool [H, W] on the segmenter's device, at the size of its image.
        score: the predicted IoU of that mask.
        low_res: its logits [1, h, w] on the segmenter's device.
    """

    sequence: ClickSequence
    plane: torch.Tensor
    score: float
    low_res: torch.Tensor

    @property
    def mask(self) -> np.ndarray:
        """The mask, bool [H, W]."""
        return self.plane.cpu().numpy()


class ScoredMask(NamedTuple):
    """A mask, bool [H, W], and the IoU that the segmenter predicts for it; None for the mask of no clicks."""

    mask: np.ndarray
    score: float | None = None


class Clicking:
    """Sequences that grow by one click per step and are decoded in one batch per step.

    Attributes:
        sequences: the clicks so far, in order.
        planes: the masks, bool [H, W] on the segmenter's device, at the size of their images; empty before the first
            click.
        scores: predicted IoU of each mask; 0.0 before the first click.
    """

    def __init__(
        self, segmenter: Segmenter, embeddings: Sequence[Embedding], prompting: Prompting | None = None
    ) -> None:
        self._segmenter, self._embeddings, self._prompting = segmenter, embeddings, prompting or Prompting()
        self._low_res: list[torch.Tensor | None] = [None] * len(embeddings)
        self.sequences: list[ClickSequence] = [()] * len(embeddings)
        self.planes = [torch.zeros(e.size, dtype=torch.bool, device=segmenter.device) for e in embeddings]
        self.scores = [0.0] * len(embeddings)

    @property
    def masks(self) -> list[np.ndarray]:
        """The masks, bool [H, W] each."""
        return [plane.cpu().numpy() for plane in self.planes]

    def step(self, clicks: Sequence[Click | None]) -> None:
        """Add `clicks[i]` to sequence i and decode it again; None leaves sequence and mask unchanged."""
        attempts = self.attempt([[] if click is None else [click] for click in clicks])
        self.take([candidates[0] if candidates else None for candidates in attempts])

    def attempt(self, clicks: Sequence[Sequence[Click]]) -> list[list[Attempt]]:
        """Decode sequence i extended by each of `clicks[i]`, all in one batch, without changing any sequence."""
        rows = [i for i, candidates in enumerate(clicks) for _ in candidates]
        sequences = [
            (*sequence, click)
            for sequence, candidates in zip(self.sequences, clicks, strict=True)
            for click in candidates
        ]
        embeddings = [self._embeddings[i] for i in rows]
        prompts = [Prompt(s, self._low_res[i]) for s, i in zip(sequences, rows, strict=True)]
        chosen = _decode_best(self._segmenter, embeddings, prompts, self._prompting)
        planes = _planes(self._segmenter, embeddings, [c.low_res for c in chosen])
        scores = torch.cat([c.scores for c in chosen]).tolist() if chosen else []
        attempts: list[list[Attempt]] = [[] for _ in clicks]
        for i, sequence, decoded, plane, score in zip(rows, sequences, chosen, planes, scores, strict=True):
            attempts[i].append(Attempt(sequence, plane, score, decoded.low_res))
        return attempts

    def take(self, attempts: Sequence[Attempt | None]) -> None:
        """Extend sequence i to `attempts[i]`; None leaves sequence and mask unchanged."""
        for i, attempt in enumerate(attempts):
            if attempt is None:
                continue
            self.sequences[i], self.planes[i], self.scores[i] = attempt.sequence, attempt.plane, attempt.score
            if self._prompting.feedback:
                self._low_res[i] = attempt.low_res.clamp(-FEEDBACK_LIMIT, FEEDBACK_LIMIT)


def replay(
    segmenter: Segmenter,
    embeddings: Sequence[Embedding],
    sequences: Sequence[ClickSequence],
    prompting: Prompting | None = None,
) -> list[list[np.ndarray]]:
    """Decode finished sequences one click at a time, as in the simulation.

    Returns:
        For each sequence its masks bool [H, W] after each click; an empty list for an empty sequence.
    """
    clicking = Clicking(segmenter, embeddings, prompting)
    history: list[list[np.ndarray]] = [[] for _ in sequences]
    for number in range(max(map(len, sequences), default=0)):
        clicking.step([s[number] if number < len(s) else None for s in sequences])
        for i, sequence in enumerate(sequences):
            if number < len(sequence):
                history[i].append(clicking.planes[i].cpu().numpy())
    return history


def replay_final(
    segmenter: Segmenter, embeddings: Sequence[Embedding], sequences: Sequence[ClickSequence]
) -> list[ScoredMask]:
    """The last mask of each sequence of `replay`; the empty mask for an empty sequence."""
    clicking = Clicking(segmenter, embeddings)
    for number in range(max(map(len, sequences), default=0)):
        clicking.step([s[number] if number < len(s) else None for s in sequences])
    return [
        ScoredMask(mask, score if sequence else None)
        for mask, score, sequence in zip(clicking.masks, clicking.scores, sequences, strict=True)
    ]


def joint(
    segmenter: Segmenter,
    embeddings: Sequence[Embedding],
    sequences: Sequence[ClickSequence],
    prompting: Prompting | None = None,
) -> list[ScoredMask]:
    """Decode finished sequences with all their clicks in one prompt each; the empty mask for an empty sequence."""
    answers = [ScoredMask(np.zeros(embedding.size, bool)) for embedding in embeddings]
    active = [i for i, sequence in enumerate(sequences) if sequence]
    prompted = [embeddings[i] for i in active]
    prompts = [Prompt(sequences[i]) for i in active]
    chosen = _decode_best(segmenter, prompted, prompts, prompting or Prompting())
    scores = torch.cat([c.scores for c in chosen]).tolist() if chosen else []
    planes = _planes(segmenter, prompted, [c.low_res for c in chosen])
    for i, plane, score in zip(active, planes, scores, strict=True):
        answers[i] = ScoredMask(plane.cpu().numpy(), score)
    return answers


def boxed(segmenter: Segmenter, embeddings: Sequence[Embedding], boxes: Sequence[Box]) -> list[np.ndarray]:
    """One mask for each box, bool [H, W]; boxes in pixels of their images."""
    return [mask for mask, _ in prompted(segmenter, embeddings, [Prompt((), box=box) for box in boxes])]


def prompted(
    segmenter: Segmenter, embeddings: Sequence[Embedding], prompts: Sequence[Prompt]
) -> list[ScoredMask]:
    """The single mask of each prompt: for prompts with a box, which leave no choice among three masks."""
    decoded = segmenter.decode(embeddings, prompts, multimask=False)
    planes = _planes(segmenter, embeddings, [answer.low_res for answer in decoded])
    scores = torch.cat([answer.scores for answer in decoded]).tolist() if decoded else []
    return [ScoredMask(plane.cpu().numpy(), score) for plane, score in zip(planes, scores, strict=True)]


def _decode_best(
    segmenter: Segmenter, embeddings: Sequence[Embedding], prompts: Sequence[Prompt], prompting: Prompting
) -> list[Decoded]:
    """One mask per prompt: the single mask, or the best of three by predicted IoU, as `prompting` specifies."""
    chosen: dict[int, Decoded] = {}
    for multimask in (True, False):
        rows = [i for i, p in enumerate(prompts) if prompting.takes_best_of_three(len(p.clicks)) == multimask]
        answers = segmenter.decode(
            [embeddings[i] for i in rows], [prompts[i] for i in rows], multimask=multimask
        )
        # One transfer of all scores, because each one synchronizes the GPU.
        bests = torch.stack([a.scores for a in answers]).argmax(1).tolist() if answers else []
        for i, answer, best in zip(rows, answers, bests, strict=True):
            chosen[i] = Decoded(answer.low_res[best : best + 1], answer.scores[best : best + 1])
    return [chosen[i] for i in range(len(prompts))]


def _planes(
    segmenter: Segmenter, embeddings: Sequence[Embedding], low_res: Sequence[torch.Tensor]
) -> list[torch.Tensor]:
    """Masks bool [H, W] on their device of logits [1, h, w]; images of equal size are upscaled together."""
    groups: dict[tuple[tuple[int, int], tuple[int, int]], list[int]] = {}
    for i, embedding in enumerate(embeddings):
        groups.setdefault((embedding.size, embedding.input_size), []).append(i)
    planes: dict[int, torch.Tensor] = {}
    for (size, _), group in groups.items():
        at_once = max(1, UPSCALE_PIXELS // (size[0] * size[1]))
        for start in range(0, len(group), at_once):
            rows = group[start : start + at_once]
            masks = segmenter.masks(torch.cat([low_res[i] for i in rows]), embeddings[rows[0]])
            planes |= dict(zip(rows, masks, strict=True))
    return [planes[i] for i in range(len(embeddings))]
