"""A merged model's folder: transformers' files and geoclick.json, the provenance of the model."""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from geoclick import files, secrets
from geoclick.errors import GeoClickError
from geoclick.prompts import INSTRUCTIONS, PROMPT_VERSION
from geoclick.vlms import adapter, weights
from geoclick.vlms.adapter import RECORD, AdapterRecord

KIND = adapter.MERGED
SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class MergedRecord:
    """Provenance of a merged model; its prompts and answers are those that its adapter was trained on.

    Attributes:
        fingerprint: of the merged weights, from `geoclick.vlms.loading.fingerprint`.
        dtype: of the merged weights.
        adapter: the record of the adapter that was merged.
        adapter_sha256: of its weights.
        data: manifest of the click store that the adapter was trained on; empty if it was not available.
        training: figures of the training run; empty if they were not available.
        check: how the answers compare with the adapter's, see `geoclick.train.publishing.merge_check`.
        versions: library name to version, at the time of merging.
        weights_sha256: of all merged weights, from `geoclick.vlms.weights`; empty in records of earlier versions.
    """

    fingerprint: str
    dtype: str
    adapter: AdapterRecord
    adapter_sha256: str
    data: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    check: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    kind: str = KIND
    schema_version: int = SCHEMA_VERSION
    weights_sha256: str = ""

    @property
    def answer_format(self) -> str:
        """`json` or `compact`."""
        return self.adapter.answer_format

    @property
    def min_pixels(self) -> int:
        """Smallest area of the resized image."""
        return self.adapter.min_pixels

    @property
    def max_pixels(self) -> int:
        """Largest area of the resized image."""
        return self.adapter.max_pixels

    @property
    def shown_masks(self) -> bool | None:
        """Whether masks were drawn on images of the training; None if not recorded."""
        return self.adapter.shown_masks


def write_record(folder: Path, record: MergedRecord) -> None:
    """Write geoclick.json to a merged model's folder, atomically; options that hold a secret are left out."""
    values = secrets.without_secrets(dataclasses.asdict(record))
    files.write_whole(folder / RECORD, json.dumps(values, indent=2) + "\n")


def read_record(folder: Path) -> MergedRecord | None:
    """The record in a model's folder, or None if there is none, because GeoClick did not make the model.

    Raises:
        GeoClickError: the folder is an adapter, or its record is broken or of another schema.
    """
    path = folder / RECORD
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        kind, version = values.get("kind"), values.get("schema_version")
        if kind == KIND and version == SCHEMA_VERSION:
            record = MergedRecord(**values | {"adapter": AdapterRecord(**values["adapter"])})
            limits = (record.min_pixels, record.max_pixels)
            if record.answer_format not in INSTRUCTIONS or not all(type(n) is int and n > 0 for n in limits):
                raise ValueError("no answer format or no pixel limits")
            return record
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError, OSError) as error:
        raise GeoClickError(f"{path} is broken ({error}); copy or merge the model again.") from error
    if kind != KIND:
        raise GeoClickError(
            f"{folder} is an adapter, not a model; give it by --adapter, and by --vlm the base that it names."
        )
    raise GeoClickError(
        f"{path} has schema version {version}, but this GeoClick reads {SCHEMA_VERSION}; merge the adapter again "
        "or use the GeoClick that wrote it."
    )


def check(record: MergedRecord, folder: Path, *, name: str, fingerprint: str) -> None:
    """Refuse a merged model whose weights are not the recorded ones, or that was trained with other prompts.

    Args:
        record: the model's.
        folder: of the model.
        name: the model as the user names it.
        fingerprint: of the weights next to the record.

    Raises:
        GeoClickError: with the reason and the fix.
    """
    expected = record.weights_sha256
    if fingerprint != record.fingerprint or (expected and weights.weights_sha256(folder) != expected):
        raise GeoClickError(
            f"The weights of {name} are not those that its {RECORD} describes; copy or merge the model again, or "
            f"remove its {RECORD} to use it as any other model."
        )
    if record.adapter.prompt_version != PROMPT_VERSION:
        raise GeoClickError(
            f"{name} was trained with prompts {record.adapter.prompt_version}, but this GeoClick uses "
            f"{PROMPT_VERSION}; train it again or use the GeoClick that wrote it."
        )
