"""The loss of each source of a run: the mean negative log-likelihood of its answers' tokens between two log entries.

It is that of the tokens alone: without the weights of tasks, the mean over samples and label smoothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator
from torch import nn

from geoclick.train.data.batches import Batch
from geoclick.train.data.collator import IGNORED
from geoclick.train.data.sources import LOSS, SOURCES

if TYPE_CHECKING:
    from transformers.modeling_outputs import ModelOutput


@dataclass
class RecordingModel:
    """A model that keeps the log-probabilities of the answers' tokens.

    Attributes:
        model: the model, wrapped or not.
        log_probs: of the last call with TRL's fused head, zero at other tokens.
    """

    model: nn.Module
    log_probs: torch.Tensor | None = None

    def __call__(self, **inputs: Any) -> "ModelOutput":
        """The outputs of the model."""
        outputs: ModelOutput = self.model(**inputs)
        if inputs.get("fused_lm_head"):
            self.log_probs = outputs.log_probs.detach()
        return outputs


def sums_by_source(batch: Batch, log_probs: torch.Tensor, count: int) -> torch.Tensor:
    """The sum of the losses, and the number of answer tokens, of each source.

    Args:
        batch: with `sources`, packed or padded.
        log_probs: of TRL's fused head, [1, K] or [N, L - 1]; zero at tokens that are no answer.
        count: number of sources.

    Returns:
        float64 [2, count].
    """
    device = log_probs.device
    sources = torch.tensor(batch[SOURCES], device=device)
    if "cu_seq_lens" in batch:
        lengths = batch["cu_seq_lens"].diff()
        of_token = sources.repeat_interleave(lengths)[1:][batch["logits_to_keep"]]
        values = torch.stack([-log_probs[0], torch.ones_like(log_probs[0])])
    else:
        of_token = sources
        answers = (batch["labels"][:, 1:] != IGNORED).sum(1)
        values = torch.stack([-log_probs.sum(1), answers.to(log_probs.dtype)])
    return torch.zeros(2, count, dtype=torch.float64, device=device).index_add(1, of_token, values.double())


class SourceLossMixin:
    """A trainer that logs the loss of each source.

    Attributes:
        source_names: of a run with several sources; empty logs nothing.
    """

    source_names: Sequence[str] = ()
    accelerator: Accelerator
    _sums: torch.Tensor | None = None

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """The loss; its parts by source are added to those since the last log entry."""
        if SOURCES not in inputs:
            whole: torch.Tensor = super().compute_loss(  # type: ignore[misc]
                model, inputs, return_outputs, num_items_in_batch
            )
            return whole
        recording = RecordingModel(model)
        others = {name: value for name, value in inputs.items() if name != SOURCES}
        loss: torch.Tensor = super().compute_loss(  # type: ignore[misc]
            recording, others, return_outputs, num_items_in_batch
        )
        if recording.log_probs is not None:
            sums = sums_by_source(inputs, recording.log_probs, len(self.source_names))
            self._sums = sums if self._sums is None else self._sums + sums
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log some figures; those of a step get the loss of each source that had an answer since the last entry."""
        if "loss" in logs and self._sums is not None:
            losses, tokens = self.accelerator.gather(self._sums[None]).sum(0).tolist()
            for name, loss, number in zip(self.source_names, losses, tokens, strict=True):
                if number:
                    logs[f"{LOSS}{name}"] = loss / number
            self._sums = None
        super().log(logs, start_time)  # type: ignore[misc]
