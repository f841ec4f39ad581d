"""Pushing an adapter or a merged model to the hub by its own client, in one commit, with no path of this machine."""

import json
from pathlib import Path, PurePath
from typing import Any

from geoclick.errors import GeoClickError, UsageError
from geoclick.vlms.adapter import RECORD

PUBLISHED = ("*.safetensors", "*.json", "*.jinja", "*.txt", "README.md")
"""The files of a folder that make the model; not config.yaml, not what lies in folders (checkpoints)."""
PATHS = (RECORD, "adapter_config.json")
"""The files that name folders of the machine where the adapter was trained."""


def without_paths(values: Any) -> Any:
    """Values of a JSON file with every absolute path replaced by its last part, which says as much elsewhere."""
    if isinstance(values, dict):
        return {key: without_paths(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [without_paths(value) for value in values]
    if isinstance(values, str) and PurePath(values).is_absolute():
        return PurePath(values).name
    return values


def check_name(name: str) -> None:
    """Raise UsageError unless `name` is a hub id with its namespace, so that a long job does not end in this."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise UsageError(f"--push {name} is no name for the hub; give it as NAMESPACE/NAME.") from error
    if name.count("/") != 1:
        raise UsageError(f"--push {name} names no namespace; give it as NAMESPACE/NAME.")


def check_push(name: str | None, private: bool) -> None:
    """Refuse a wrong name, or --private without one, before the work begins; raises UsageError."""
    if name is not None:
        check_name(name)
    elif private:
        raise UsageError("--private is about the hub; add --push NAMESPACE/NAME, or leave it out.")


def published(folder: Path) -> list[Path]:
    """The files to push, in order of name; links are followed to files only, folders are left out."""
    return sorted({path for pattern in PUBLISHED for path in folder.glob(pattern) if path.is_file()})


def push(folder: Path, name: str, *, private: bool) -> str:
    """Push a folder's model files as one commit, making the repository where there is none.

    Args:
        folder: of an adapter or a merged model.
        name: `NAMESPACE/NAME`.
        private: whether nobody else may see it; a repository that is public already is refused then.

    Returns:
        The address of the commit.

    Raises:
        GeoClickError: the hub cannot be reached, refuses, or has a public repository of that name.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    operations = []
    for path in published(folder):
        content: str | bytes = str(path)
        if path.name in PATHS:
            values = without_paths(json.loads(path.read_text(encoding="utf-8")))
            content = (json.dumps(values, indent=2) + "\n").encode()
        operations.append(CommitOperationAdd(path_in_repo=path.name, path_or_fileobj=content))
    api = HfApi()
    try:
        # None leaves a new repository to the account's own setting.
        api.create_repo(name, private=private or None, exist_ok=True)
        public = private and not api.model_info(name).private
        if not public:
            commit = api.create_commit(name, operations, commit_message="Push with geoclick")
    except Exception as error:  # the hub's client raises many kinds: network, HTTP, validation, no token
        reason = (str(error).splitlines() or [""])[0].rstrip(".: ")
        raise GeoClickError(
            f"{folder} is whole but could not be pushed to {name} ({type(error).__name__}: {reason}); log in with 'hf "
            f"auth login', then push it by 'geoclick card {folder} --push {name}{' --private' * private}' with the "
            "other options of its card."
        ) from error
    if public:
        raise GeoClickError(
            f"{name} is public on the hub, so that nothing was pushed; make it private there, or leave --private out."
        )
    return commit.commit_url
