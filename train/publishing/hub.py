"""Uploading an adapter or a merged model to the Hugging Face Hub in one commit, without local paths."""

import json
import re
from pathlib import Path
from typing import Any

from geoclick import secrets
from geoclick.errors import GeoClickError, UsageError, first_line
from geoclick.vlms.adapter import RECORD

MODEL_FILES = ("*.safetensors", "*.json", "*.jinja", "*.txt", "README.md", "rewards.png")
"""Patterns of the uploaded files; config.yaml and subfolders (checkpoints) are left out."""
FILES_WITH_PATHS = (RECORD, "adapter_config.json")
"""The files that contain paths of the machine where the adapter was trained."""
TEXTS = (".json", ".jinja", ".txt", ".md")
_START = r"(?:file:/+|~[\w.-]*/|(?:\.{1,2}[/\\])+|[A-Za-z]:[/\\]|\\\\(?=\w)|/(?=[\w.~-]))"
"""How a path outside the package starts: absolute, of a home folder, relative with dots, of Windows or a file URL."""
_PATH = re.compile(rf"{_START}.*|.*[/\\]\.\.[/\\].*", re.DOTALL)
_PATH_INSIDE = re.compile(rf"(?<![\w.:/\\<~-]){_START}[^\"'<>|,;\n]*|(?<=:)/(?=\w)[^\"'<>|,;\n]*")
"""A path in a longer text, up to the end of its clause, because paths may hold spaces."""


def without_paths(values: Any) -> Any:
    """JSON values in which every path that shows folders of this machine is replaced by its last part.

    Those are absolute paths, also of Windows and as URLs, and those that start at a home folder or with dots, as a
    complete value or inside a text. Names of the hub and other relative paths remain.
    """
    if isinstance(values, dict):
        return {key: without_paths(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [without_paths(value) for value in values]
    if not isinstance(values, str):
        return values
    if values.startswith("/") or _PATH.fullmatch(values):
        return _last_part(values)
    return _PATH_INSIDE.sub(lambda match: _last_part(match[0]), values)


def _last_part(path: str) -> str:
    """The name of a file or folder, of POSIX or Windows."""
    return next((part for part in reversed(re.split(r"[/\\]", path)) if part not in ("", ".")), "")


def check_name(name: str, option: str = "--push") -> None:
    """Check that `name`, the value of an option, is a repository id with a namespace; raises UsageError."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise UsageError(
            f"{option} {name} is not a valid name on the hub; give it as NAMESPACE/NAME."
        ) from error
    if name.count("/") != 1:
        raise UsageError(f"{option} {name} has no namespace; give it as NAMESPACE/NAME.")


def check_push(name: str | None, private: bool) -> None:
    """Check --push and --private before the work starts; raises UsageError."""
    if name is not None:
        check_name(name)
    elif private:
        raise UsageError("--private needs an upload; add --push NAMESPACE/NAME, or drop it.")


def check_secrets(folder: Path) -> None:
    """Refuse to push a folder whose files hold a token, a key or a password, which earlier versions wrote.

    Raises:
        UsageError: names the file and the option; never the secret.
    """
    for path in model_files(folder):
        if path.suffix not in TEXTS:
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        names = list(secrets.secret_names(_json(text))) if path.name in FILES_WITH_PATHS else []
        if names or secrets.has_token(text):
            what = names[0] if names else "a token of the hub"
            raise UsageError(
                f"{path} holds a secret ({what}); remove it from the file, revoke it, and rerun."
            )


def _json(text: str) -> Any:
    """The values of a JSON file, or None if it is invalid: its reader reports that."""
    try:
        return json.loads(text)
    except ValueError:
        return None


def model_files(folder: Path) -> list[Path]:
    """The files to upload, sorted by name."""
    return sorted({path for pattern in MODEL_FILES for path in folder.glob(pattern) if path.is_file()})


def push(folder: Path, name: str, *, private: bool) -> str:
    """Upload the model files of a folder as one commit; the repository is created if it does not exist.

    Args:
        folder: of an adapter or a merged model.
        name: `NAMESPACE/NAME`.
        private: whether the repository must be private.

    Returns:
        URL of the commit.

    Raises:
        GeoClickError: the hub cannot be reached or refuses, or the repository is public although `private` is set.
        UsageError: a file holds a secret.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    check_secrets(folder)
    operations = [
        CommitOperationAdd(path_in_repo=path.name, path_or_fileobj=_content(path))
        for path in model_files(folder)
    ]
    api = HfApi()
    try:
        # None leaves the visibility of a new repository to the account's default.
        api.create_repo(name, private=private or None, exist_ok=True)
        public = private and not api.model_info(name).private
        if not public:
            commit = api.create_commit(name, operations, commit_message="Push with geoclick")
    except Exception as error:  # the client raises many kinds: network, HTTP, validation, no token
        reason = first_line(error).rstrip(": ")
        raise GeoClickError(
            f"{folder} is complete but could not be pushed to {name} ({type(error).__name__}: {reason}); log in with "
            f"'hf auth login', then run 'geoclick card {folder} --push {name}{' --private' * private}' with the other "
            "options of its card."
        ) from error
    if public:
        raise GeoClickError(
            f"{name} is public on the hub, so nothing was pushed; make it private there, or drop --private."
        )
    return commit.commit_url


def _content(path: Path) -> str | bytes:
    """What is uploaded for a file: the file by its path, or its content without local paths."""
    if path.name not in FILES_WITH_PATHS:
        return str(path)
    values = without_paths(json.loads(path.read_text(encoding="utf-8")))
    return (json.dumps(values, indent=2) + "\n").encode()
