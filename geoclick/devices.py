"""The device of `--device`."""

import torch

from geoclick.errors import UsageError


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
    count = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= count:
        raise UsageError(f"Device {name} does not exist, PyTorch sees {count} GPUs; use auto or cpu.")
    return device
