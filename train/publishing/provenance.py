"""The provenance of an adapter or a merged model: its record, its training data and its training run."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geoclick import files, store
from geoclick.errors import GeoClickError
from geoclick.files import sha256
from geoclick.vlms import adapter, adapter_towers, merged
from geoclick.vlms.adapter import AdapterRecord
from geoclick.vlms.merged import MergedRecord

Values = dict[str, Any]
"""Values of JSON, by name."""

TRAINING = ("rows", "rows_left_out", "sources", "steps", "seconds", "samples_per_second", "processes")
"""The keys of the training run's metrics.json that are part of the provenance."""


@dataclass(frozen=True)
class Provenance:
    """The provenance of an adapter or a merged model.

    Attributes:
        record: the adapter's record.
        adapter_sha256: hash of the adapter's weights.
        data: manifest of the click store that it was trained on; empty if it is not available.
        training: the keys of TRAINING that the run recorded.
        merged: the merged model's record; None for an adapter.
    """

    record: AdapterRecord
    adapter_sha256: str
    data: Values
    training: Values
    merged: MergedRecord | None = None


def read_adapter(folder: Path, clicks: str | None = None) -> Provenance:
    """The provenance of an adapter.

    Args:
        folder: written by `geoclick train sft` or `grpo`.
        clicks: the click store, if it has moved since the training.

    Raises:
        GeoClickError: the folder holds no adapter, or `clicks` is not a click store.
    """
    record = adapter.read_record(folder)
    try:
        digest = sha256(folder / adapter.WEIGHTS)
    except FileNotFoundError as error:
        raise GeoClickError(
            f"{folder} holds no {adapter.WEIGHTS}; finish its 'geoclick train sft' with --resume."
        ) from error
    adapter_towers.check(record, folder)
    return Provenance(record, digest, _manifest(record, clicks), _training(folder))


def read(folder: Path, clicks: str | None = None) -> Provenance:
    """The provenance of an adapter or a merged model; arguments and errors as in `read_adapter`."""
    if not (folder / "config.json").is_file():
        return read_adapter(folder, clicks)
    record = merged.read_record(folder)
    if record is None:
        raise GeoClickError(
            f"{folder} holds no {adapter.RECORD}; give a folder of 'geoclick train' or 'geoclick merge'."
        )
    data = store.read_manifest(clicks) if clicks else record.data
    return Provenance(record.adapter, record.adapter_sha256, data, record.training, record)


def supervised_options(config: Values) -> Values:
    """The options of the last supervised run of a chain; `start` holds the options of the run before."""
    while "clicks" not in config and isinstance(config.get("start"), dict):
        config = config["start"]
    return config


def _manifest(record: AdapterRecord, clicks: str | None) -> Values:
    """The manifest of the click store; empty if the recorded store is gone and no other is given."""
    if clicks:
        return store.read_manifest(clicks)
    recorded = supervised_options(record.config).get("clicks")
    stores = recorded if isinstance(recorded, list) else [str(recorded)] if recorded else []
    if not stores or not all(Path(one, "manifest.json").is_file() for one in stores):
        return {}
    return _of_all([store.read_manifest(one) for one in stores])


def _of_all(manifests: list[Values]) -> Values:
    """What several stores have in common, with the sum of their numbers of samples."""
    first, *others = manifests
    common = {key: value for key, value in first.items() if all(one.get(key) == value for one in others)}
    if others and all(isinstance(one.get("samples"), int) for one in manifests):
        common["samples"] = sum(one["samples"] for one in manifests)
    return common


def _training(folder: Path) -> Values:
    path = folder / "metrics.json"
    files.refuse_special(path)
    try:
        metrics = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return _checkpoint(folder)
    except (OSError, ValueError) as error:
        raise GeoClickError(f"{path} is not valid JSON; remove it, or train again.") from error
    return {key: metrics[key] for key in TRAINING if key in metrics} if isinstance(metrics, dict) else {}


def _checkpoint(folder: Path) -> Values:
    """The steps of a checkpoint, which has no metrics.json; empty for any other folder."""
    _, prefix, step = folder.name.rpartition("checkpoint-")
    return {"steps": int(step)} if prefix and step.isdecimal() else {}
