"""The device of `--device`, and batches that fit its memory."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch

from geoclick.errors import GeoClickError, UsageError

Item = TypeVar("Item")
Result = TypeVar("Result")


class BatchSize:
    """Items in one batch, halved for good when the memory of the GPU is too small.

    Args:
        size: of a batch, at least 1.
        items: what a batch consists of, in the plural, for the messages.
    """

    def __init__(self, size: int, items: str) -> None:
        self.size, self.items = size, items

    def run(self, items: Sequence[Item], function: Callable[[Sequence[Item]], Result]) -> Iterator[Result]:
        """The results of `function` for one batch of `items` after another.

        Raises:
            GeoClickError: the memory is too small for a single item.
        """
        start = 0
        while start < len(items):
            batch = items[start : start + self.size]
            try:
                result = function(batch)
            except torch.OutOfMemoryError as error:
                if len(batch) == 1:
                    raise GeoClickError(
                        f"The memory of the GPU is too small for one of the {self.items}; use a smaller model or "
                        "--device cpu."
                    ) from error
                self.size = len(batch) // 2
            else:
                yield result
                start += len(batch)
                continue
            # Outside the handler, whose exception holds the tensors of the failed batch.
            torch.cuda.empty_cache()
            print(
                f"The memory of the GPU is too small for {len(batch)} {self.items} at once; continuing with "
                f"{self.size}.",
                file=sys.stderr,
                flush=True,
            )


@contextmanager
def enough_memory(what: str) -> Iterator[None]:
    """Raise GeoClickError if the memory of the GPU is too small for `what`, such as an image."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise GeoClickError(
            f"The memory of the GPU is too small for {what}; use a smaller model or --device cpu."
        ) from error


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device has instructions for bfloat16; a CPU without them is about ten times slower with it."""
    return device.type != "cpu" or torch.cpu._is_avx512_bf16_supported()


def choose(name: str | torch.device | None) -> torch.device:
    """A device by name; None or "auto" selects the GPU if there is one, else the CPU.

    Raises:
        UsageError: the name is not valid, or this machine has no such device.
    """
    if name is None or name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"Unknown device {name!r}; use auto, cpu, cuda or cuda:N.") from error
    if device.type not in ("cpu", "cuda") or (device.type == "cpu" and device.index):
        raise UsageError(f"Device {name} is not supported; use auto, cpu, cuda or cuda:N.")
    count = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= count:
        raise UsageError(f"Device {name} does not exist, PyTorch sees {count} GPUs; use auto or cpu.")
    return device
