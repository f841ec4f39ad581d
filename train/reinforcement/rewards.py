"""What completions are worth: the IoU of the masks that their clicks decode to, form, economy, knowing of no target.

Every reward is a function of judged completions and says None where it does not apply, which TRL leaves out.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from geoclick import masks
from geoclick.datasets import Sample
from geoclick.inference.generative import decode_embedded, read_answers
from geoclick.segmenters import Segmenter
from geoclick.train.reinforcement.embedding_cache import Embeddings
from geoclick.vlms import Vlm


@dataclass(frozen=True)
class Judged:
    """What became of one completion.

    Attributes:
        status: of the parser: `ok`, `repaired`, `empty` or `unparsable`.
        clicks: how many there are.
        target: whether the sample has one.
        iou: of the clicks' mask with the target; 0.0 without clicks, and without a target.
    """

    status: str
    clicks: int
    target: bool
    iou: float


def iou(judged: Sequence[Judged]) -> list[float | None]:
    """The IoU with the target; None where there is no target."""
    return [one.iou if one.target else None for one in judged]


def format(judged: Sequence[Judged]) -> list[float | None]:
    """1 for an answer that needed no repair, clicks or none; else 0."""
    return [float(one.status in ("ok", "empty")) for one in judged]


def economy(judged: Sequence[Judged]) -> list[float | None]:
    """The IoU per click: more for fewer clicks at the same IoU, nothing for a bad mask; None without a target."""
    return [one.iou / max(one.clicks, 1) if one.target else None for one in judged]


def no_target(judged: Sequence[Judged]) -> list[float | None]:
    """1 for saying that there is no target where there is none, else 0; None where there is one."""
    return [None if one.target else float(one.status == "empty") for one in judged]


REWARDS: dict[str, Callable[[Sequence[Judged]], list[float | None]]] = {
    function.__name__: function for function in (iou, format, economy, no_target)
}
"""By the name under which TRL logs them; the option NAME_weight weighs them."""


def judge(
    vlm: Vlm,
    segmenter: Segmenter,
    embeddings: Embeddings,
    samples: Sequence[Sample],
    texts: Sequence[str],
    *,
    answer_format: str,
    decode: str = "replay",
) -> list[Judged]:
    """Read and decode completions, all in one batch; what several say of one sample is decoded once.

    Args:
        vlm: gives the codec's family and the resized size.
        segmenter: the frozen model.
        embeddings: its encoded images.
        samples: the sample of each completion.
        texts: the completions, without special tokens.
        answer_format: `json` or `compact`.
        decode: see `inference.generative.DECODE`.

    Raises:
        GeoClickError: an image cannot be read.
    """
    texts = [text.strip() for text in texts]
    answers = read_answers(vlm, texts, [sample.size for sample in samples], answer_format=answer_format)
    targets = [masks.area(sample.rle) > 0 for sample in samples]
    # A policy that knows what it wants says the same thing many times.
    first: dict[tuple[str, tuple], int] = {}
    for i, (sample, answer) in enumerate(zip(samples, answers, strict=True)):
        if targets[i] and answer.clicks:
            first.setdefault((sample.sample_id, answer.clicks), i)
    asked = list(first.values())
    decoded = decode_embedded(
        segmenter,
        embeddings.of([samples[i] for i in asked]),
        [answers[i].clicks for i in asked],
        decode=decode,
    )
    found = {key: _iou(samples[i], mask) for (key, i), mask in zip(first.items(), decoded, strict=True)}
    return [
        Judged(
            answer.status,
            len(answer.clicks),
            target,
            found.get((sample.sample_id, answer.clicks), 0.0),
        )
        for sample, answer, target in zip(samples, answers, targets, strict=True)
    ]


def _iou(sample: Sample, mask: np.ndarray) -> float:
    return masks.iou(mask, sample.mask, sample.valid)


class Judge:
    """The rewards as TRL asks for them: one function each, all of one batch of completions, which is judged once.

    Args:
        judge: samples and texts to what became of them.
        samples: all samples of the run.
    """

    def __init__(
        self, judge: Callable[[Sequence[Sample], Sequence[str]], list[Judged]], samples: Sequence[Sample]
    ) -> None:
        self._judge, self._samples = judge, samples
        self._completions: list[str] | None = None
        self._judged: list[Judged] = []

    def functions(self) -> list[Callable[..., list[float | None]]]:
        """The functions of REWARDS, in its order, under its names."""
        return [self._function(name) for name in REWARDS]

    def _function(self, name: str) -> Callable[..., list[float | None]]:
        def reward(completions: list[str], sample: list[int], **_: object) -> list[float | None]:
            return REWARDS[name](self._of(completions, sample))

        reward.__name__ = name
        return reward

    def _of(self, completions: list[str], sample: list[int]) -> list[Judged]:
        # TRL hands the same list to every function.
        if completions is not self._completions:
            self._judged = self._judge([self._samples[i] for i in sample], completions)
            self._completions = completions
        return self._judged
