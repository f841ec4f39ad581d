"""What collators take and make."""

from collections.abc import Callable, Sequence
from typing import Any

Batch = dict[str, Any]
"""Tensors, and lists of numbers, by name."""

Collator = Callable[[Sequence[Any]], Batch]
"""Makes a batch of training rows, or of one pack of them."""
