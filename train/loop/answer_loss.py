"""The loss of click answers: its mean over tokens or over samples, with label smoothing or without.

TRL's trainer computes a loss from the log-probabilities of the answers' tokens and a count over all processes and
accumulated batches. Here those log-probabilities get weights and the count is that of samples, so that the result does
not depend on how samples are packed, padded, accumulated or distributed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from geoclick.train.data.collator import IGNORED

if TYPE_CHECKING:
    from transformers.modeling_outputs import ModelOutput

Batch = dict[str, torch.Tensor]
Count = torch.Tensor | int | None


def sample_count(batch: Batch) -> int:
    """Samples of a batch, packed or padded."""
    return len(batch["cu_seq_lens"]) - 1 if "cu_seq_lens" in batch else len(batch["input_ids"])


def sample_weights(batch: Batch) -> torch.Tensor:
    """For each token that follows another, one over the number of answer tokens of its sample.

    Returns:
        [1, K] for a packed batch, one weight for each label; [N, L - 1] for a padded one.
    """
    is_answer = batch["labels"] != IGNORED
    if "cu_seq_lens" not in batch:
        return is_answer.sum(1, keepdim=True).clamp(min=1).reciprocal().expand(-1, is_answer.shape[1] - 1)
    lengths = batch["cu_seq_lens"].diff()
    sample = torch.arange(len(lengths), device=lengths.device).repeat_interleave(lengths)
    counts = torch.bincount(sample[is_answer[0]], minlength=len(lengths))
    return counts.clamp(min=1).reciprocal()[sample[1:][batch["logits_to_keep"]]][None]


@dataclass
class AnswerSmoother:
    """Label smoothing at the answers' tokens; takes the place of transformers' LabelSmoother.

    Attributes:
        factor: weight of the mean over the vocabulary.
    """

    factor: float

    def __call__(
        self,
        outputs: Mapping[str, torch.Tensor],
        labels: torch.Tensor,
        *,
        shift_labels: bool,
        num_items_in_batch: Count = None,
    ) -> torch.Tensor:
        """The smoothed loss of the outputs of `AnswerModel`, which hold their own labels and weights."""
        logs = outputs["logits"].float().log_softmax(-1)
        labels = outputs["labels"]
        chosen = logs.gather(-1, labels.clamp(min=0)[..., None])[..., 0]
        losses = -(1 - self.factor) * chosen - self.factor * logs.mean(-1)
        is_answer = labels != IGNORED
        total = (losses * outputs["weights"] * is_answer).sum()
        return total / (is_answer.sum() if num_items_in_batch is None else num_items_in_batch)


@dataclass
class AnswerModel:
    """The model as TRL's loss calls it on one batch.

    Attributes:
        model: the model, wrapped or not.
        labels: of the batch, int64 [N, L].
        weights: as `sample_weights` makes them, or None for equal ones.
    """

    model: nn.Module
    labels: torch.Tensor
    weights: torch.Tensor | None

    def __call__(self, *, fused_lm_head: bool = False, **inputs: torch.Tensor) -> "ModelOutput | Batch":
        """The outputs of TRL's fused head, weighted; without that head, what `AnswerSmoother` takes."""
        if fused_lm_head:
            outputs = self.model(fused_lm_head=True, **inputs)
            if self.weights is not None:
                outputs.log_probs = outputs.log_probs * self.weights
            fused: ModelOutput = outputs
            return fused
        inputs.pop("shift_labels", None)
        next_labels, weights = self.labels[:, 1:], self.weights
        kept = inputs.get("logits_to_keep")
        if kept is None:
            # Padded: only the positions before an answer's token need logits.
            kept = (next_labels != IGNORED).any(0).nonzero()[:, 0]
            weights = None if weights is None else weights[:, kept]
        logits = self.model(**inputs | {"logits_to_keep": kept}).logits
        equal = torch.ones_like(kept, dtype=torch.float32)
        return {
            "logits": logits,
            "labels": next_labels[:, kept],
            "weights": equal if weights is None else weights,
        }


class AnswerLossMixin:
    """A trainer whose loss is the mean over tokens or over samples.

    Attributes:
        loss_average: `tokens` or `samples`.
    """

    loss_average: str = "tokens"

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: Count = None,
    ) -> torch.Tensor:
        """TRL's loss and metrics, with the weights of the average."""
        weights = sample_weights(inputs) if self.loss_average == "samples" else None
        answers = AnswerModel(model, inputs["labels"], weights)
        loss: torch.Tensor = super().compute_loss(  # type: ignore[misc]
            answers, inputs, return_outputs, num_items_in_batch
        )
        return loss

    def _get_num_items_in_batch(self, batch_samples: list[Batch], device: torch.device) -> Count:
        """What the sum of a step's losses is divided by: answer tokens, or samples, over all processes."""
        if self.loss_average == "samples":
            counts = [torch.zeros(sample_count(batch)) for batch in batch_samples]
            batch_samples = [{"labels": count, "shift_labels": count} for count in counts]
        count: Count = super()._get_num_items_in_batch(batch_samples, device)  # type: ignore[misc]
        return count
