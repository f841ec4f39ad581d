"""The device that `--device` names."""

import torch

from geoclick.errors import UsageError


def choose(name: str | torch.device | None) -> torch.device:
    """A device by name; None or "auto" takes the GPU where there is one, else the CPU.

    Raises:
        UsageError: no such device, or none on this machine.
    """
    if name is None or name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"Unknown device {name!r}; use auto, cpu, cuda or cuda:N.") from error
    count = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= count:
        raise UsageError(f"There is no device {name} here, where PyTorch sees {count} GPUs; use auto or cpu.")
    return device
