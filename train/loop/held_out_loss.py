"""The loss on held-out rows, computed next to the answers of an evaluation during training."""

from collections.abc import Collection
from dataclasses import dataclass

import torch
from accelerate.utils import gather_object, send_to_device
from torch import nn

from geoclick.train.data.batches import Batch, Collator
from geoclick.train.data.lazy_rows import LazyRows
from geoclick.train.loop.answer_loss import AnswerModel, AnswerSmoother, total_weight, weights_of

LOSS = "eval_loss"
"""Name of the loss in the trainer's log."""


@dataclass(frozen=True)
class HeldOutLoss:
    """The loss of training on rows that are not trained on, without label smoothing.

    Attributes:
        rows: of `geoclick.train.data.rows.build`.
        collator: pads rows to a batch, with the weights of their tasks if training has them.
        average: `tokens` or `samples`.
        batch_size: rows of a batch.
    """

    rows: LazyRows
    collator: Collator
    average: str
    batch_size: int

    def compute(self, model: nn.Module, device: torch.device, rank: int, processes: int) -> float:
        """The mean over all rows; every process must call it.

        Args:
            model: in eval mode.
            device: of the model.
            rank: of this process.
            processes: number of processes.
        """
        batches = -(-len(self.rows) // self.batch_size)
        # The same number for each process, or the others would wait for the longest. Repeated batches count once.
        share, sums = -(-batches // processes), [0.0, 0.0]
        for index in range(rank * share, (rank + 1) * share):
            start = index % batches * self.batch_size
            places = range(start, min(start + self.batch_size, len(self.rows)))
            batch = self.collator(self.rows.__getitems__(places))
            loss = self._sum(model, send_to_device(batch, device))
            if index < batches:
                sums = [sums[0] + loss, sums[1] + float(total_weight(batch, self.average))]
        losses, weights = zip(*gather_object([sums]), strict=True)
        return float(sum(losses) / sum(weights))

    def _sum(self, model: nn.Module, batch: Batch) -> float:
        """The weighted sum of the losses of a batch."""
        weights = weights_of(batch, self.average)
        inputs = {name: value for name, value in batch.items() if name not in ("labels", "task_weights")}
        with torch.no_grad():
            outputs = AnswerModel(model, batch["labels"], weights)(**inputs)
            return float(
                AnswerSmoother(0.0)(outputs, batch["labels"], shift_labels=True, num_items_in_batch=1)
            )


class AllBut:
    """A container of everything but some values.

    Args:
        values: that it does not contain.
    """

    def __init__(self, values: Collection[str]) -> None:
        self.values = values

    def __contains__(self, value: object) -> bool:
        """Whether it is none of the values."""
        return value not in self.values
