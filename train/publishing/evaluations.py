"""Reading the scores of `geoclick evaluate` for a model card, and checking that they belong to the model."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from geoclick import files
from geoclick.datasets.benchmarks import TITLES
from geoclick.errors import GeoClickError
from geoclick.scoring import model_index
from geoclick.scoring.model_index import Evaluation
from geoclick.train.publishing.provenance import Provenance


def read(folder: Path, provenance: Provenance) -> Evaluation:
    """The scores in the run folder of an evaluation.

    Args:
        folder: written by `geoclick evaluate`.
        provenance: of the model that the card describes.

    Raises:
        GeoClickError: metrics.json is missing or invalid, or belongs to another model.
    """
    path = folder / "metrics.json"
    files.refuse_special(path)
    try:
        metrics = json.loads(path.read_text(encoding="utf-8"))
        evaluation, protocol = model_index.of_summary(metrics, TITLES), metrics["protocol"]
    except FileNotFoundError as error:
        raise GeoClickError(
            f"{folder} holds no metrics.json; give the folder of a finished 'geoclick evaluate'."
        ) from error
    except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise GeoClickError(
            f"{path} is not from 'geoclick evaluate' ({error!r}); evaluate the model again."
        ) from error
    if provenance.merged:
        same = protocol.get("vlm_fingerprint") == provenance.merged.fingerprint
        same = same and not protocol.get("adapter")
        same = same or (_gave_equal_answers(provenance) and _of_adapter(protocol, provenance))
    else:
        same = _of_adapter(protocol, provenance)
    if not same:
        raise GeoClickError(
            f"The scores in {folder} belong to another model; evaluate this one with "
            f"{'--vlm' if provenance.merged else '--adapter'} and give that folder."
        )
    return evaluation


def _of_adapter(protocol: Mapping[str, Any], provenance: Provenance) -> bool:
    """Whether an evaluation is that of the adapter, which a merged model names."""
    return bool(protocol.get("adapter_sha256") == provenance.adapter_sha256)


def _gave_equal_answers(provenance: Provenance) -> bool:
    """Whether the check of a merge recorded that all answers equal the adapter's."""
    check = provenance.merged.check if provenance.merged else {}
    return bool(check.get("questions")) and check.get("same_answers") == check.get("questions")
