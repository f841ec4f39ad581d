"""Reading weight files; only tensors and plain values are unpickled, and a wrong file is an error of one sentence."""

import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from geoclick.errors import GeoClickError

CODE = ("Unsupported global", "Unsupported class", "unrecognized function", "Trying to instantiate", "GLOBAL")
"""In PyTorch's messages about files with more than weights."""


def read_state(path: Path, what: str, *, instead: str = "a file of weights alone") -> dict[str, Tensor]:
    """The named weights in a `.pt`, `.ckpt`, `.bin` or `.safetensors` file.

    The weights of a training checkpoint are its `state_dict`; the prefix `module.` of a distributed training is
    removed.

    Args:
        path: the file.
        what: the model that the file should hold, for the messages.
        instead: of a TorchScript archive, for its message.

    Raises:
        GeoClickError: the file is missing, damaged, a TorchScript archive, holds code, or no weights.
    """
    if not path.is_file():
        raise GeoClickError(f"The {what} file {path} does not exist; fix the path.")
    content = _read(path, what, instead)
    state = content.get("state_dict", content) if isinstance(content, Mapping) else content
    if not isinstance(state, Mapping):
        raise GeoClickError(f"{path} holds no named weights; give the {what} file as it was published.")
    weights = {str(key): value for key, value in state.items() if isinstance(value, Tensor)}
    if not weights:
        raise GeoClickError(f"{path} holds no named weights; give the {what} file as it was published.")
    if all(key.startswith("module.") for key in weights):
        weights = {key.removeprefix("module."): value for key, value in weights.items()}
    return weights


def first_not_finite(weights: Mapping[str, Tensor]) -> str | None:
    """The name of the first weight that holds NaN or infinity; None if all are finite."""
    return next((name for name, weight in weights.items() if not weight.isfinite().all()), None)


def _read(path: Path, what: str, instead: str) -> dict[str, Tensor] | dict[str, dict[str, Tensor]] | Tensor:
    damaged = f"{path} is damaged or no PyTorch weight file; download the {what} file again."
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise GeoClickError(damaged) from error
    try:
        with warnings.catch_warnings(action="ignore"):  # of the kind of file, which the errors name
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a file that is not a pickle can raise any error
        message = str(error)
        if "TorchScript" in message:
            raise GeoClickError(
                f"{path} is a TorchScript archive, which holds code and is not run; give {instead}."
            ) from error
        if any(words in message for words in CODE):
            raise GeoClickError(
                f"{path} holds code or objects besides weights, which are not loaded; give a file of weights alone."
            ) from error
        raise GeoClickError(damaged) from error
