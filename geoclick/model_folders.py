"""Folders of models in transformers' layout, on this machine or from the hub."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from geoclick.errors import GeoClickError, first_line

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    Model = TypeVar("Model", bound=PreTrainedModel)


def locate(name: str, patterns: Sequence[str], instead: str, revision: str | None = None) -> Path:
    """The folder of a model; one from the hub is downloaded once.

    Args:
        name: a folder or a hub id.
        patterns: of the files that are downloaded.
        instead: what else to give, for the message about a folder that does not exist.
        revision: branch, tag or commit of a model on the hub.

    Raises:
        GeoClickError: no such folder, or the hub lacks it, does not give it, or cannot be reached.
    """
    if Path(name).is_dir():
        return Path(name)
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise GeoClickError(f"Model folder {name} does not exist; give {instead}.")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(patterns)))
    except Exception as error:  # the hub's client raises many kinds: network, HTTP, cache, validation
        if type(error).__name__ == "GatedRepoError":
            raise GeoClickError(
                f"Model {name} asks for an agreement; accept it at https://huggingface.co/{name} and log in with "
                "'hf auth login'."
            ) from error
        raise GeoClickError(
            f"Model {name} is neither a folder here nor reachable on the hub ({type(error).__name__}); check the name "
            "and the network, or download it and give its folder."
        ) from error


def model_type(folder: Path) -> str:
    """The type of the model in a folder, by its config.json; raises GeoClickError if that is missing or broken."""
    path = folder / "config.json"
    try:
        return str(json.loads(path.read_text(encoding="utf-8")).get("model_type", "unknown"))
    except FileNotFoundError as error:
        raise GeoClickError(
            f"{folder} holds no config.json; give a folder in transformers' layout."
        ) from error
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise GeoClickError(f"{path} cannot be read as JSON; download the model again.") from error


@contextmanager
def loading(part: str, folder: Path) -> Iterator[None]:
    """Raise GeoClickError for any error inside the block: the `part` of a model in `folder` is broken.

    A broken file surfaces as OSError, ValueError, KeyError or an error of the tokenizer's own.
    """
    try:
        yield
    except Exception as error:
        raise GeoClickError(
            f"The {part} in {folder} cannot be loaded ({type(error).__name__}); download the model again."
        ) from error


def load_model(kind: "type[Model]", folder: Path, title: str, **options: bool) -> "Model":
    """A model of transformers in float32, in evaluation mode and without gradients; no code from the folder is run.

    Args:
        kind: its class.
        folder: in transformers' layout.
        title: what messages call the model.
        options: of `from_pretrained`, on which weight files are read.

    Raises:
        GeoClickError: weights are missing, of another shape or corrupted.
    """
    import torch
    from transformers.utils import logging

    logging.disable_progress_bar()
    fix = "download or copy it again."
    try:
        model, report = kind.from_pretrained(
            folder,
            dtype=torch.float32,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
            **options,
        )
    except Exception as error:  # shape mismatches, missing files and config errors have no common type
        raise GeoClickError(
            f"The {title} in {folder} cannot be loaded ({first_line(error)}); {fix}"
        ) from error
    wrong = sorted(map(str, [*report["missing_keys"], *report["mismatched_keys"]]))
    if wrong:
        raise GeoClickError(
            f"{len(wrong)} weights in {folder} do not match its config.json, such as {wrong[0]}; {fix}"
        )
    return model.eval().requires_grad_(False)
