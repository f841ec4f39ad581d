"""The rewards of completions: IoU of the decoded masks, answer format, economy of clicks, "no target" answers.

Each reward is a function of scored completions and is None where it does not apply; TRL leaves those out.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from geoclick import masks
from geoclick.codec import Answer, Part
from geoclick.datasets import Sample
from geoclick.inference.generative.answering import read_answers
from geoclick.inference.generative.mask_decoding import decode_embedded_objects
from geoclick.segmenters import Segmenter
from geoclick.train.reinforcement.embedding_cache import EmbeddingCache
from geoclick.vlms.loading import Vlm

Rewards = list[float | None]
"""One value for each completion."""


@dataclass(frozen=True)
class ScoredCompletion:
    """One completion, parsed and decoded.

    Attributes:
        status: of the parser: `ok`, `repaired`, `empty` or `unparsable`.
        clicks: number of clicks.
        target: whether the sample has a target.
        iou: of the clicks' mask and the target; 0.0 without clicks or without a target.
    """

    status: str
    clicks: int
    target: bool
    iou: float


def iou(completions: Sequence[ScoredCompletion]) -> Rewards:
    """The IoU with the target; None where there is no target."""
    return [one.iou if one.target else None for one in completions]


def format(completions: Sequence[ScoredCompletion]) -> Rewards:
    """1 for an answer that needed no repair, with or without clicks; else 0."""
    return [float(one.status in ("ok", "empty")) for one in completions]


def economy(completions: Sequence[ScoredCompletion]) -> Rewards:
    """The IoU per click: higher for fewer clicks at the same IoU; None without a target."""
    return [one.iou / max(one.clicks, 1) if one.target else None for one in completions]


def no_target(completions: Sequence[ScoredCompletion]) -> Rewards:
    """1 for a "no target" answer if there is no target, else 0; None if there is one."""
    return [None if one.target else float(one.status == "empty") for one in completions]


REWARDS: dict[str, Callable[[Sequence[ScoredCompletion]], Rewards]] = {
    function.__name__: function for function in (iou, format, economy, no_target)
}
"""By the name under which TRL logs them; the option NAME_weight is their weight."""


def score_completions(
    vlm: Vlm,
    segmenter: Segmenter,
    embeddings: EmbeddingCache,
    samples: Sequence[Sample],
    texts: Sequence[str],
    *,
    answer_format: str,
    decode: str = "replay",
) -> list[ScoredCompletion]:
    """Parse and decode completions in one batch; equal answers about one sample are decoded once.

    Args:
        vlm: its family and processor define how clicks are written.
        segmenter: the frozen model.
        embeddings: of its images.
        samples: the sample of each completion.
        texts: the completions, without special tokens.
        answer_format: `json` or `compact`.
        decode: see `inference.generative.mask_decoding.DECODE`.

    Raises:
        GeoClickError: an image cannot be read.
    """
    texts = [text.strip() for text in texts]
    answers = read_answers(vlm, texts, [sample.size for sample in samples], answer_format=answer_format)
    targets = [masks.area(sample.rle) > 0 for sample in samples]
    # A confident model writes the same answer many times.
    first: dict[tuple[str, tuple[Part, ...]], int] = {}
    for i, (sample, answer) in enumerate(zip(samples, answers, strict=True)):
        if targets[i] and answer.clicks:
            first.setdefault((sample.sample_id, prompts_of(answer)), i)
    distinct = list(first.values())
    decoded = decode_embedded_objects(
        segmenter,
        embeddings.of([samples[i] for i in distinct]),
        [prompts_of(answers[i]) for i in distinct],
        decode=decode,
    )
    ious = {key: _iou(samples[i], one.mask) for (key, i), one in zip(first.items(), decoded, strict=True)}
    return [
        ScoredCompletion(
            answer.status,
            len(answer.clicks),
            target,
            ious.get((sample.sample_id, prompts_of(answer)), 0.0),
        )
        for sample, answer, target in zip(samples, answers, targets, strict=True)
    ]


def prompts_of(answer: Answer) -> tuple[Part, ...]:
    """The clicks of each object; boxes are left out, since the models here are trained to write clicks."""
    return tuple(Part(clicks) for clicks in answer.parts if clicks)


def _iou(sample: Sample, mask: np.ndarray) -> float:
    return masks.iou(mask, sample.mask, sample.valid)


class RewardFunctions:
    """The rewards as TRL calls them: one function each; a batch of completions is scored once for all of them.

    Args:
        score: scores texts, given their samples.
        samples: all samples of the run.
    """

    def __init__(
        self,
        score: Callable[[Sequence[Sample], Sequence[str]], list[ScoredCompletion]],
        samples: Sequence[Sample],
    ) -> None:
        self._score, self._samples = score, samples
        self._completions: list[str] | None = None
        self._scored: list[ScoredCompletion] = []

    def functions(self) -> list[Callable[..., Rewards]]:
        """One function for each of REWARDS, with its name, in the same order."""
        return [self._function(name) for name in REWARDS]

    def _function(self, name: str) -> Callable[..., Rewards]:
        def reward(completions: list[str], sample: list[int], **_: object) -> Rewards:
            return REWARDS[name](self._of(completions, sample))

        reward.__name__ = name
        return reward

    def _of(self, completions: list[str], sample: list[int]) -> list[ScoredCompletion]:
        # TRL passes the same list to every function.
        if completions is not self._completions:
            self._scored = self._score([self._samples[i] for i in sample], completions)
            self._completions = completions
        return self._scored
