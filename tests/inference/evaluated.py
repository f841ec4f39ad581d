"""Folders of finished evaluations without any model: records of the contract's fields, and a summary of them."""

import json
from collections import Counter, defaultdict

import numpy as np

from geoclick import masks

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


def block(records):
    """The scores of some records, as far as a report looks at them."""
    ious = np.array([r["iou"] for r in records])
    union = sum(r["union"] for r in records)
    oiou = sum(r["intersection"] for r in records) / union if union else 1.0
    miou = float(ious.mean())
    found = {"miou": miou, "oiou": oiou, "giou": miou, "ciou": oiou, "n": len(records)}
    found |= {f"pr@0.{n}": float((ious >= n / 10).mean()) for n in range(5, 10)}
    return found | {"miou_interval": [max(0, miou - 0.05), min(1, miou + 0.05)], "boundary_iou": miou / 2}


def semantic_block(records):
    """The scores of mode `semantic`."""
    totals = defaultdict(lambda: np.zeros(2, int))
    for r in records:
        totals[r["category"]] += r["intersection"], r["union"]
    per_class = {name: float(i / u) if u else None for name, (i, u) in totals.items()}
    miou = float(np.mean([value for value in per_class.values() if value is not None]))
    images = len({r["image"] for r in records})
    found = {"miou": miou, "miou_interval": [miou, miou], "per_class": per_class, "images": images}
    return found | {"n": len(records)} | ({"foreground_iou": miou} if len(per_class) == 1 else {})


def summary(records, **protocol):
    """What metrics.json holds."""
    protocol = {
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
        "seed": 0,
    } | protocol
    score = semantic_block if protocol["mode"] == "semantic" else block

    def by(name):
        groups = defaultdict(list)
        for r in records:
            groups[name(r)].append(r)
        return {key: block(found) for key, found in sorted(groups.items()) if key}

    nothing = [r for r in records if r["task"] == "no_target"]
    alarms = sum(r["union"] > 0 for r in nothing)
    return {
        "scores": score(records),
        "by_task": by(lambda r: r["task"]),
        "by_category": by(lambda r: r["category"]),
        "by_size": by(lambda r: "small" if 0 < r["area"] < 100 else "large" if r["area"] else ""),
        "by_query_kind": by(lambda r: "relation" if " next " in r["query"] else "name"),
        "no_target": {
            "n": len(nothing),
            "accuracy": 1 - alarms / len(nothing) if nothing else None,
            "false_alarms": alarms,
            "targets_without_mask": 0,
        },
        "answers": {
            "by_status": dict(Counter(r["status"] for r in records)),
            "parse_rate": 1.0,
            "dropped": 0,
        },
        "mean_clicks": 1.0,
        "protocol": protocol,
    }


def write(folder, records, **protocol):
    """Write predictions.jsonl and metrics.json; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "predictions.jsonl").write_text(
        "".join(json.dumps(r) + "\n" for r in records), encoding="utf-8"
    )
    (folder / "metrics.json").write_text(json.dumps(summary(records, **protocol)))
    return folder
