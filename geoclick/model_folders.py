"""Folders of models in transformers' layout, on this machine or from the hub."""

import json
from collections.abc import Sequence
from pathlib import Path

from geoclick.errors import GeoClickError


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
