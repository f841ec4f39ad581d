"""The loss of click answers: its mean over tokens or over samples, weighted by tasks, with label smoothing or not.

TRL's trainer computes a loss from the log-probabilities of the answers' tokens and a count over all processes and
accumulated batches. Here those log-probabilities get weights and the count is that of samples, so that the result does
not depend on how samples are packed, padded, accumulated or distributed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from accelerate import Accelerator
from torch import nn

from geoclick.train.data.collator import IGNORED
from geoclick.train.data.task_weights import TASK_WEIGHTS

if TYPE_CHECKING:
    from transformers.modeling_outputs import ModelOutput

Batch = dict[str, torch.Tensor]
Count = torch.Tensor | int | None


def sample_count(batch: Batch) -> int:
    """Samples of a batch, packed or padded."""
    return len(batch["cu_seq_lens"]) - 1 if "cu_seq_lens" in batch else len(batch["input_ids"])


def answer_lengths(batch: Batch) -> torch.Tensor:
    """The number of answer tokens of each sample, int64 [N]."""
    is_answer = batch["labels"] != IGNORED
    if "cu_seq_lens" not in batch:
        return is_answer.sum(1)
    lengths = batch["cu_seq_lens"].diff()
    return torch.bincount(_sample_of_token(batch)[is_answer[0]], minlength=len(lengths))


def weights_of(batch: Batch, average: str) -> torch.Tensor | None:
    """The weight of the sample of each token that follows another, over its number of answer tokens for `samples`.

    Args:
        batch: packed or padded; `task_weights` are those of its samples.
        average: `tokens` or `samples`.

    Returns:
        [1, K] for a packed batch, one weight for each label; [N, L - 1] for a padded one. None if all are equal.
    """
    given = batch.get(TASK_WEIGHTS)
    if average == "tokens" and given is None:
        return None
    lengths = answer_lengths(batch)
    ones = [1.0] * len(lengths)
    weights = torch.tensor(ones if given is None else given, dtype=torch.float32, device=lengths.device)
    if average == "samples":
        weights = weights / lengths.clamp(min=1)
    if "cu_seq_lens" not in batch:
        return weights[:, None].expand(-1, batch["labels"].shape[1] - 1)
    return weights[_sample_of_token(batch)[1:][batch["logits_to_keep"]]][None]


def total_weight(batch: Batch, average: str) -> torch.Tensor:
    """What the sum of a batch's weighted losses is divided by: the weights of its answer tokens, or of its samples."""
    given = batch.get(TASK_WEIGHTS)
    count = answer_lengths(batch) if average == "tokens" else torch.ones(sample_count(batch))
    return count.sum() if given is None else (count.cpu() * torch.tensor(given)).sum()


def _sample_of_token(batch: Batch) -> torch.Tensor:
    """The sample of each token of a pack, int64 [T]."""
    lengths = batch["cu_seq_lens"].diff()
    return torch.arange(len(lengths), device=lengths.device).repeat_interleave(lengths)


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
        weights: as `weights_of` makes them, or None for equal ones.
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
    """A trainer whose loss is the mean over tokens or over samples, weighted by tasks or not.

    Attributes:
        loss_average: `tokens` or `samples`.
    """

    loss_average: str = "tokens"
    accelerator: Accelerator

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: Count = None,
    ) -> torch.Tensor:
        """TRL's loss and metrics, with the weights of the average."""
        answers = AnswerModel(model, inputs["labels"], weights_of(inputs, self.loss_average))
        inputs = {name: value for name, value in inputs.items() if name != TASK_WEIGHTS}
        loss: torch.Tensor = super().compute_loss(  # type: ignore[misc]
            answers, inputs, return_outputs, num_items_in_batch
        )
        return loss

    def _get_num_items_in_batch(self, batch_samples: list[Batch], device: torch.device) -> Count:
        """What the sum of a step's losses is divided by, over all processes: see `total_weight`."""
        if batch_samples and TASK_WEIGHTS in batch_samples[0]:
            own = sum(total_weight(batch, self.loss_average) for batch in batch_samples)
            return self.accelerator.gather(torch.as_tensor(own).to(device).reshape(1)).sum()
        if self.loss_average == "samples":
            counts = [torch.zeros(sample_count(batch)) for batch in batch_samples]
            batch_samples = [{"labels": count, "shift_labels": count} for count in counts]
        count: Count = super()._get_num_items_in_batch(batch_samples, device)  # type: ignore[misc]
        return count
