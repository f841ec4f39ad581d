"""Muon in single precision, for CPUs without bfloat16 instructions."""

from collections import defaultdict
from collections.abc import Iterable

import torch

COEFFICIENTS = (3.4445, -4.775, 2.0315)
"""Of the quintic iteration in Muon's reference (Keller Jordan, 2024)."""

ITERATIONS, MOMENTUM, ADAMW_SCALE = 5, 0.95, 0.2
"""As in torch.optim.Muon; ADAMW_SCALE is that of `match_rms_adamw`."""


class SinglePrecisionMuon(torch.optim.Optimizer):
    """torch.optim.Muon with `match_rms_adamw`, in the precision of the parameters.

    PyTorch's computes in bfloat16, which takes ten times as long on a CPU that has no instructions for it. Matrices of
    equal shape are computed as one batch.

    Args:
        parameters: matrices.
        lr: learning rate, as for AdamW.
        weight_decay: decoupled.
    """

    def __init__(self, parameters: Iterable[torch.nn.Parameter], *, lr: float, weight_decay: float) -> None:
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update all matrices that have a gradient."""
        for group in self.param_groups:
            by_shape = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape[parameter.shape].append(parameter)
            for shape, parameters in by_shape.items():
                updates = orthogonalized(torch.stack([self._momentum(p) for p in parameters]))
                size = group["lr"] * ADAMW_SCALE * max(shape) ** 0.5
                for parameter, update in zip(parameters, updates, strict=True):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"]).sub_(update, alpha=size)

    def _momentum(self, parameter: torch.nn.Parameter) -> torch.Tensor:
        """Nesterov's update of a parameter."""
        gradient = parameter.grad
        assert gradient is not None
        buffer = self.state[parameter].setdefault("momentum_buffer", torch.zeros_like(gradient))
        buffer.lerp_(gradient, 1 - MOMENTUM)
        return gradient.lerp(buffer, MOMENTUM)


def orthogonalized(matrices: torch.Tensor) -> torch.Tensor:
    """The nearest semi-orthogonal matrices, approximately (singular values of about 0.7 to 1.2), [N, A, B]."""
    first, second, third = COEFFICIENTS
    transposed = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if transposed else matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = first * x + (second * gram + third * gram @ gram) @ x
    return x.mT if transposed else x
