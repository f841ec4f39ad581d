"""The figures of `geoclick evaluate` as a model card needs them: checked to be this model's."""

import json
from pathlib import Path

from geoclick.datasets.benchmarks import TITLES
from geoclick.errors import GeoClickError
from geoclick.scoring import model_index
from geoclick.scoring.model_index import Evaluation
from geoclick.train.publishing.provenance import Story


def read(folder: Path, story: Story) -> Evaluation:
    """The figures in an evaluation's folder.

    Args:
        folder: that `geoclick evaluate` wrote.
        story: of the model that the card is about.

    Raises:
        GeoClickError: there are none, they are broken, or they are another model's.
    """
    path = folder / "metrics.json"
    try:
        metrics = json.loads(path.read_text(encoding="utf-8"))
        found, protocol = model_index.of_summary(metrics, TITLES), metrics["protocol"]
    except FileNotFoundError as error:
        raise GeoClickError(
            f"{folder} holds no metrics.json; give a folder of a finished 'geoclick evaluate'."
        ) from error
    except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise GeoClickError(
            f"{path} is none of 'geoclick evaluate' ({error!r}); evaluate the model again."
        ) from error
    if story.merged:
        same = protocol.get("vlm_fingerprint") == story.merged.fingerprint and not protocol.get("adapter")
    else:
        same = protocol.get("adapter_sha256") == story.adapter_sha256
    if not same:
        raise GeoClickError(
            f"The figures in {folder} are not this model's: evaluate it by "
            f"{'--vlm' if story.merged else '--adapter'}, and give that folder."
        )
    return found
