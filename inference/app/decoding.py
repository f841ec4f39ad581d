"""Decoding of edited clicks: by the rules of `geoclick predict`, but only from the first click that has changed."""

from collections import OrderedDict

import torch

from geoclick.clicks import ClickSequence
from geoclick.codec import Part
from geoclick.inference.app.editing import Parts
from geoclick.inference.generative import mask_decoding
from geoclick.inference.generative.mask_decoding import Decoded
from geoclick.segmenters import clicking
from geoclick.segmenters.base import Embedding, Prompt, Segmenter
from geoclick.segmenters.clicking import Attempt, Clicking, ScoredMask

MAX_STEPS = 48
"""Sequences whose logits are in memory, 12 MB for a SAM; the one used the longest ago goes first."""


class EditDecoder:
    """Decodes the parts of answers about one image. `replay` takes one pass for each click after a known beginning.

    Args:
        segmenter: the frozen model.
        embedding: of the image.
        decode: `replay` or `joint`.
    """

    def __init__(self, segmenter: Segmenter, embedding: Embedding, decode: str) -> None:
        self._segmenter, self._embedding, self._decode = segmenter, embedding, decode
        self._steps: OrderedDict[ClickSequence, Attempt] = OrderedDict()

    def __call__(self, parts: Parts, earlier: Decoded | None = None) -> Decoded:
        """The union of the masks of parts, of which there is at least one.

        Args:
            parts: of an answer.
            earlier: of an answer of several parts, those of which are not decoded again.
        """
        known = {Part(one.clicks, one.prompt_box): one for one in (earlier.instances if earlier else ())}
        found = []
        for part in parts:
            instance = known.get(part)
            found.append(
                self._part(part)
                if instance is None
                else ScoredMask(instance.in_image(self._embedding.size), instance.score)
            )
        return mask_decoding.united(list(zip(parts, found, strict=True)))

    def _part(self, part: Part) -> ScoredMask:
        if part.box is None and self._decode == "replay":
            return self._replayed(part.clicks)
        if part.box is not None:
            prompts = [Prompt(part.clicks, box=part.box)]
            return clicking.prompted(self._segmenter, [self._embedding], prompts)[0]
        return clicking.joint(self._segmenter, [self._embedding], [part.clicks])[0]

    def _replayed(self, clicks: ClickSequence) -> ScoredMask:
        """As `clicking.replay_final`, from the longest beginning that was decoded before."""
        state = Clicking(self._segmenter, [self._embedding])
        known = next((n for n in range(len(clicks) - 1, 0, -1) if clicks[:n] in self._steps), 0)
        if known:
            self._steps.move_to_end(clicks[:known])
            state.take([self._steps[clicks[:known]]])
        for click in clicks[known:]:
            ((attempt,),) = state.attempt([[click]])
            state.take([attempt])
            # The mask of a beginning is not needed again, only its logits.
            self._steps[attempt.sequence] = Attempt(
                attempt.sequence, torch.zeros(0), attempt.score, attempt.low_res
            )
            while len(self._steps) > MAX_STEPS:
                self._steps.popitem(last=False)
        return ScoredMask(state.masks[0], state.scores[0])
