"""Rows of click stores for tests, made from masks or at random, and a count of tokens that needs no tokenizer."""

import numpy as np

from geoclick import images, masks
from geoclick.clicks import Click
from geoclick.data_synthesis.quality import measures
from geoclick.data_synthesis.quality.measures import CODECS
from geoclick.store import Row


def make_row(mask, clicks=(), ious=(), **changes):
    values = {
        "sample_id": "a",
        "dataset": "folder",
        "split": "train",
        "task": "referring" if mask.any() else "no_target",
        "image": "train/images/a.png",
        "width": mask.shape[1],
        "height": mask.shape[0],
        "query": "the red roof",
        "mask": masks.encode_rle(mask),
        "clicks": tuple(clicks),
        "ious": tuple(ious),
        "segmenter": "disc",
        "segmenter_sha256": "0" * 64,
        "policy": "center",
        "seed": 0,
        "category": "building",
    }
    return Row(**values | changes)


def random_rows(seed, count, *, longest=5):
    """Rows of which a third or so has no target, and some have a target and yet no click."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        height, width = rng.integers(6, 30, 2)
        mask = rng.random((height, width)) < rng.choice([0, 0.2, 0.7])
        length = int(rng.integers(0, longest + 1)) if mask.any() else 0
        clicks = [
            Click(float(x), float(y), bool(sign))
            for x, y, sign in zip(
                rng.uniform(-0.5, width - 0.5, length),
                rng.uniform(-0.5, height - 0.5, length),
                rng.random(length) < 0.6,
                strict=True,
            )
        ]
        rows.append(
            make_row(
                mask,
                clicks,
                # Two digits, so that some IoUs are exactly those that NoC asks for.
                [round(float(v), 2) for v in rng.uniform(0.6, 1, length)],
                sample_id=f"s{number}",
                image=f"train/images/{width}x{height}.png",
                dataset=str(rng.choice(["one", "two"])),
                category=str(rng.choice(["", "roof", "tree"])),
            )
        )
    return rows


def count_clicks(rows):
    """In place of tokens: 10 a click and the codec's number."""
    return np.array([[10 * len(row.clicks) + k for k in range(len(CODECS))] for row in rows])


def measure(rows):
    return measures.measure(rows, count_clicks, lambda: None)


def write_images(root, rows):
    """A grey picture for every image that rows name."""
    for row in rows:
        path = root / row.image
        path.parent.mkdir(parents=True, exist_ok=True)
        images.write_png(path, np.full((row.height, row.width, 3), 120, np.uint8))
