"""predictions.jsonl: one line a sample, appended as predictions come, so that a killed run goes on."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from geoclick import masks, metrics
from geoclick.errors import GeoClickError
from geoclick.files import write_whole

if TYPE_CHECKING:
    from geoclick.datasets import Sample
    from inference.generative import Prediction

PREDICTIONS = "predictions.jsonl"
PROTOCOL = "protocol.json"


def record(sample: "Sample", prediction: "Prediction", mode: str) -> dict:
    """The line of one sample: ids, IoU, the model's text and what was made of it, the mask as RLE."""
    return {
        "sample_id": sample.sample_id,
        "task": sample.task,
        "category": sample.category,
        "query": sample.query,
        "image": sample.image,
        "iou": metrics.sample_iou(prediction.mask, sample.mask, mode, sample.valid),
        "status": prediction.status,
        "text": prediction.text,
        "clicks": [list(click) for click in prediction.clicks],
        "dropped": list(prediction.dropped),
        "mask": masks.encode_rle(prediction.mask),
    }


def lines(entries: Iterable[dict]) -> str:
    """Entries as JSON lines."""
    return "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries)


def append(folder: Path, entries: Iterable[dict]) -> None:
    """Add entries to the folder's predictions."""
    with (folder / PREDICTIONS).open("a", encoding="utf-8") as file:
        file.write(lines(entries))


def start(folder: Path, protocol: dict) -> dict[str, dict]:
    """The predictions that a run folder already holds, by sample id; a new folder gets its protocol.

    A last line that a kill cut short is taken off the file.

    Raises:
        GeoClickError: the folder holds a run with another protocol, or a broken file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / PREDICTIONS
    protocol = json.loads(json.dumps(protocol))
    if not path.exists():
        write_whole(folder / PROTOCOL, json.dumps(protocol, indent=2) + "\n")
        return {}
    try:
        earlier = json.loads((folder / PROTOCOL).read_text(encoding="utf-8"))
        whole = [
            line for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if line[-1] == "\n"
        ]
        entries = {entry["sample_id"]: entry for entry in map(json.loads, whole)}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise GeoClickError(
            f"The predictions in {folder} cannot be read ({error}); delete it or give another --output."
        ) from error
    other = [key for key in protocol.keys() | earlier.keys() if protocol.get(key) != earlier.get(key)]
    if other:
        key = min(other, key=list(protocol | earlier).index)
        raise GeoClickError(
            f"{folder} holds a run with {key} {earlier.get(key)!r}, not {protocol.get(key)!r}; "
            "give another --output or delete that folder."
        )
    write_whole(path, "".join(whole))
    return entries
