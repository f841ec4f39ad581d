"""The graphics cards that a dry run can estimate for."""

from typing import NamedTuple


class Card(NamedTuple):
    """A card.

    Attributes:
        memory: bytes.
        flops: operations a second in bfloat16 with float32 sums, dense.
        bandwidth: bytes a second between memory and processors.
    """

    memory: float
    flops: float
    bandwidth: float


CARDS = {
    "a100-40gb": Card(40e9, 312e12, 1.555e12),
    "a100-80gb": Card(80e9, 312e12, 2.039e12),
    "h100-80gb": Card(80e9, 989e12, 3.35e12),
    "h200-141gb": Card(141e9, 989e12, 4.8e12),
    "l4-24gb": Card(24e9, 121e12, 0.3e12),
    "l40s-48gb": Card(48e9, 362e12, 0.864e12),
    "rtx3090-24gb": Card(24e9, 71e12, 0.936e12),
    "rtx4090-24gb": Card(24e9, 165e12, 1.008e12),
}
"""Sources: NVIDIA's data sheets of A100 (SXM), H100 (SXM), H200 (SXM), L4 and L40S, without sparsity, and its
whitepapers on GA102 (RTX 3090) and Ada (RTX 4090)."""
