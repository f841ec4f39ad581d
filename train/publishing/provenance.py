"""What a folder of trained weights says about itself: the adapter's record, its data, its training, its merging."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geoclick import store
from geoclick.errors import GeoClickError
from geoclick.files import sha256
from geoclick.vlms import adapter, merged
from geoclick.vlms.adapter import AdapterRecord
from geoclick.vlms.merged import MergedRecord

TRAINING = ("rows", "rows_left_out", "steps", "seconds", "samples_per_second", "processes")
"""What is told of the run's metrics.json."""


@dataclass(frozen=True)
class Story:
    """The provenance of an adapter or a merged model.

    Attributes:
        record: the adapter's.
        adapter_sha256: of the adapter's weights.
        data: the manifest of the click store that it learnt from, empty when it is not at hand.
        training: the keys of TRAINING that the run recorded.
        merged: the merged model's record, None for an adapter.
    """

    record: AdapterRecord
    adapter_sha256: str
    data: dict[str, Any]
    training: dict[str, Any]
    merged: MergedRecord | None = None


def of_adapter(folder: Path, clicks: str | None = None) -> Story:
    """The story of an adapter folder.

    Args:
        folder: that `geoclick train sft` wrote.
        clicks: the click store, where it lies elsewhere than at training time.

    Raises:
        GeoClickError: there is no adapter, or `clicks` is no click store.
    """
    record = adapter.read_record(folder)
    try:
        digest = sha256(folder / adapter.WEIGHTS)
    except FileNotFoundError as error:
        raise GeoClickError(
            f"{folder} holds no {adapter.WEIGHTS}; finish its 'geoclick train sft' with --resume."
        ) from error
    return Story(record, digest, _manifest(record, clicks), _training(folder))


def of_folder(folder: Path, clicks: str | None = None) -> Story:
    """The story of an adapter or a merged model; arguments and errors as in `of_adapter`."""
    if not (folder / "config.json").is_file():
        return of_adapter(folder, clicks)
    own = merged.read_record(folder)
    if own is None:
        raise GeoClickError(f"{folder} holds no {adapter.RECORD}; give a folder of train sft or of merge.")
    data = store.read_manifest(clicks) if clicks else own.data
    return Story(own.adapter, own.adapter_sha256, data, own.training, own)


def supervised(config: dict[str, Any]) -> dict[str, Any]:
    """The options of the supervised run, with which every chain of runs begins; `start` leads from run to run."""
    while isinstance(config.get("start"), dict):
        config = config["start"]
    return config


def _manifest(record: AdapterRecord, clicks: str | None) -> dict[str, Any]:
    """The store's manifest; empty when the store of the training is gone and no other was named."""
    if clicks:
        return store.read_manifest(clicks)
    recorded = supervised(record.config).get("clicks")
    if not isinstance(recorded, str) or not Path(recorded, "manifest.json").is_file():
        return {}
    return store.read_manifest(recorded)


def _training(folder: Path) -> dict[str, Any]:
    path = folder / "metrics.json"
    try:
        metrics = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}  # a checkpoint's folder has none
    except (OSError, ValueError) as error:
        raise GeoClickError(f"{path} is not valid JSON; remove it, or train again.") from error
    return {key: metrics[key] for key in TRAINING if key in metrics} if isinstance(metrics, dict) else {}
