"""Folders of finished evaluations, made without a model: records and their summary."""

import json

import numpy as np

from geoclick import masks
from geoclick.inference.evaluation import results

SIZE = (48, 64)


def square(top, left, side, size=SIZE):
    """A mask, bool [H, W], with one square."""
    mask = np.zeros(size, bool)
    mask[top : top + side, left : left + side] = True
    return mask


def record(sample_id, target, mask, **fields):
    """A line of predictions.jsonl for two masks, bool [H, W]."""
    intersection, union = int((target & mask).sum()), int((target | mask).sum())
    return {
        "sample_id": sample_id,
        "task": "referring" if target.any() else "no_target",
        "category": "",
        "query": "the tank",
        "image": "0.png",
        "iou": intersection / union if union else 1.0,
        "intersection": intersection,
        "union": union,
        "boundary_iou": 0.5,
        "area": int(target.sum()),
        "size": list(target.shape),
        "status": "ok",
        "text": "",
        "clicks": [],
        "dropped": [],
        "mask": masks.encode_rle(mask),
        "target": masks.encode_rle(target),
        "valid": None,
    } | fields


def summary(records, **protocol):
    """The content of metrics.json."""
    common = {
        "dataset": "folder",
        "root": "data",
        "split": "test",
        "n": len(records),
        "images": len({r["image"] for r in records}),
        "samples_sha256": "5a",
        "mode": "native",
        "question": "all",
        "predictor": "generative",
        "vlm": "embedded",
        "adapter": None,
        "seed": 0,
    }
    return results.summarize(iter(records), common | protocol)


def write(folder, records, **protocol):
    """Write predictions.jsonl and metrics.json; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(r) + "\n" for r in records)
    (folder / "predictions.jsonl").write_text(lines, encoding="utf-8")
    (folder / "metrics.json").write_text(json.dumps(summary(records, **protocol)))
    return folder
