"""Plain folders of samples with noisy images, for tests that read a dataset."""

import json

import numpy as np

from geoclick import images, masks


def listed(root, queries, *, side=64, seed=0):
    """Write ROOT/train with one sample a query, two an image, every fifth without a target; returns the root."""
    random = np.random.default_rng(seed)
    folder = root / "train"
    (folder / "images").mkdir(parents=True)
    lines = []
    for i, query in enumerate(queries):
        name = f"images/{i // 2:04d}.png"
        if i % 2 == 0:
            images.write_png(folder / name, random.integers(0, 255, (side, side, 3), dtype=np.uint8))
        mask = np.zeros((side, side), bool)
        mask[10:40, 10:40] = i % 5 != 4
        lines.append(
            {
                "sample_id": f"s{i}",
                "task": "referring" if mask.any() else "no_target",
                "query": query,
                "image": name,
                "size": [side, side],
                "mask": masks.encode_rle(mask),
            }
        )
    (folder / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return root
