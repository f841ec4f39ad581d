"""Clicking with memory: many sequences decoded together, click by click, with the last mask fed back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from geoclick.clicks import Click, ClickSequence
from geoclick.segmenters.base import Decoded, Embedding, Prompt, Segmenter

FEEDBACK_LIMIT = 32.0
"""Logits fed back are clamped to this, as SAM 2 does, so that one sure mask cannot outvote later clicks."""

UPSCALE_PIXELS = 2**25
"""Most pixels upscaled at once (128 MiB of float32)."""


@dataclass(frozen=True)
class Policy:
    """How a sequence is decoded; two runs agree only under the same policy.

    Attributes:
        multimask: "first" takes the best of three masks by predicted IoU for a sequence of one click and the
            single mask from the second click on; "always" the best of three each time; "never" one mask.
        feedback: whether the low-resolution logits of the last mask go into the next prompt.
    """

    multimask: Literal["first", "always", "never"] = "first"
    feedback: bool = True

    @property
    def name(self) -> str:
        """The policy in one word for records, such as `multimask-first+feedback`."""
        return f"multimask-{self.multimask}" + ("+feedback" if self.feedback else "")

    def takes_best_of_three(self, clicks: int) -> bool:
        """Whether a prompt of that many clicks is answered with the best of three masks."""
        return self.multimask == "always" or (self.multimask == "first" and clicks == 1)


@dataclass(frozen=True, eq=False)
class Attempt:
    """What one more click makes of a sequence.

    Attributes:
        sequence: the clicks with the new one, in order.
        mask: bool [H, W], at the size of its image.
        score: the predicted IoU of that mask.
        low_res: its logits [1, h, w] on the segmenter's device.
    """

    sequence: ClickSequence
    mask: np.ndarray
    score: float
    low_res: torch.Tensor


class Clicking:
    """Sequences that grow by one click a step, decoded in one batch a step.

    Attributes:
        sequences: the clicks so far, in order.
        masks: bool [H, W] each, at the size of its image; empty before the first click.
        scores: predicted IoU of each mask; 0.0 before the first click.
    """

    def __init__(
        self, segmenter: Segmenter, embeddings: Sequence[Embedding], policy: Policy | None = None
    ) -> None:
        self._segmenter, self._embeddings, self._policy = segmenter, embeddings, policy or Policy()
        self._low_res: list[torch.Tensor | None] = [None] * len(embeddings)
        self.sequences: list[ClickSequence] = [()] * len(embeddings)
        self.masks = [np.zeros(embedding.size, bool) for embedding in embeddings]
        self.scores = [0.0] * len(embeddings)

    def step(self, clicks: Sequence[Click | None]) -> None:
        """Add `clicks[i]` to sequence i and decode it anew; None leaves sequence and mask as they are."""
        attempts = self.attempt([[] if click is None else [click] for click in clicks])
        self.take([found[0] if found else None for found in attempts])

    def attempt(self, clicks: Sequence[Sequence[Click]]) -> list[list[Attempt]]:
        """Decode sequence i with each of `clicks[i]` in its turn, all in one batch, and change nothing."""
        rows = [i for i, candidates in enumerate(clicks) for _ in candidates]
        sequences = [
            (*sequence, click)
            for sequence, candidates in zip(self.sequences, clicks, strict=True)
            for click in candidates
        ]
        embeddings = [self._embeddings[i] for i in rows]
        prompts = [Prompt(s, self._low_res[i]) for s, i in zip(sequences, rows, strict=True)]
        chosen = _decode_best(self._segmenter, embeddings, prompts, self._policy)
        masks = _masks(self._segmenter, embeddings, [c.low_res for c in chosen])
        attempts: list[list[Attempt]] = [[] for _ in clicks]
        for i, sequence, decoded, mask in zip(rows, sequences, chosen, masks, strict=True):
            attempts[i].append(Attempt(sequence, mask, float(decoded.scores[0]), decoded.low_res))
        return attempts

    def take(self, attempts: Sequence[Attempt | None]) -> None:
        """Go on with `attempts[i]` in sequence i; None leaves sequence and mask as they are."""
        for i, attempt in enumerate(attempts):
            if attempt is None:
                continue
            self.sequences[i], self.masks[i], self.scores[i] = attempt.sequence, attempt.mask, attempt.score
            if self._policy.feedback:
                self._low_res[i] = attempt.low_res.clamp(-FEEDBACK_LIMIT, FEEDBACK_LIMIT)


def replay(
    segmenter: Segmenter,
    embeddings: Sequence[Embedding],
    sequences: Sequence[ClickSequence],
    policy: Policy | None = None,
) -> list[list[np.ndarray]]:
    """Decode finished sequences as they were made, one click at a time.

    Returns:
        For each sequence its masks bool [H, W] after each click; an empty list for an empty sequence.
    """
    clicking = Clicking(segmenter, embeddings, policy)
    history: list[list[np.ndarray]] = [[] for _ in sequences]
    for turn in range(max(map(len, sequences), default=0)):
        clicking.step([s[turn] if turn < len(s) else None for s in sequences])
        for i, sequence in enumerate(sequences):
            if turn < len(sequence):
                history[i].append(clicking.masks[i])
    return history


def joint(
    segmenter: Segmenter,
    embeddings: Sequence[Embedding],
    sequences: Sequence[ClickSequence],
    policy: Policy | None = None,
) -> list[np.ndarray]:
    """Decode finished sequences with all their clicks in one prompt each.

    Returns:
        One mask bool [H, W] a sequence; the empty mask for an empty sequence.
    """
    masks = [np.zeros(embedding.size, bool) for embedding in embeddings]
    active = [i for i, sequence in enumerate(sequences) if sequence]
    kept = [embeddings[i] for i in active]
    chosen = _decode_best(segmenter, kept, [Prompt(sequences[i]) for i in active], policy or Policy())
    for i, mask in zip(active, _masks(segmenter, kept, [c.low_res for c in chosen]), strict=True):
        masks[i] = mask
    return masks


def _decode_best(
    segmenter: Segmenter, embeddings: Sequence[Embedding], prompts: Sequence[Prompt], policy: Policy
) -> list[Decoded]:
    """One mask a prompt: the single one, or the best of three by predicted IoU where the policy says so."""
    chosen: dict[int, Decoded] = {}
    for multimask in (True, False):
        rows = [i for i, p in enumerate(prompts) if policy.takes_best_of_three(len(p.clicks)) == multimask]
        answers = segmenter.decode(
            [embeddings[i] for i in rows], [prompts[i] for i in rows], multimask=multimask
        )
        for i, answer in zip(rows, answers, strict=True):
            best = int(answer.scores.argmax())
            chosen[i] = Decoded(answer.low_res[best : best + 1], answer.scores[best : best + 1])
    return [chosen[i] for i in range(len(prompts))]


def _masks(
    segmenter: Segmenter, embeddings: Sequence[Embedding], low_res: Sequence[torch.Tensor]
) -> list[np.ndarray]:
    """Masks bool [H, W] of logits [1, h, w]; images of equal size are upscaled together."""
    groups: dict[tuple, list[int]] = {}
    for i, embedding in enumerate(embeddings):
        groups.setdefault((embedding.size, embedding.input_size), []).append(i)
    masks: dict[int, np.ndarray] = {}
    for (size, _), group in groups.items():
        at_once = max(1, UPSCALE_PIXELS // (size[0] * size[1]))
        for start in range(0, len(group), at_once):
            rows = group[start : start + at_once]
            logits = segmenter.upscale(torch.stack([low_res[i] for i in rows]), embeddings[rows[0]])
            masks |= dict(zip(rows, (logits > 0).cpu().numpy(), strict=True))
    return [masks[i] for i in range(len(embeddings))]
