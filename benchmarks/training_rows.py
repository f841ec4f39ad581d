"""The click store of `benchmarks.training`, with resized images."""

from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.training_options import TrainingOptions
from geoclick import images, masks, store
from geoclick.clicks import Click
from geoclick.geo import reading


def resize_store(options: TrainingOptions, side: int | None, folder: Path) -> tuple[Path, Path, int]:
    """Write the first rows of the click store with images and clicks resized to a square.

    Args:
        options: of the benchmark.
        side: of the square in pixels; None keeps the sizes.
        folder: where to write.

    Returns:
        The folder of the new store, the root of its images, and the number of distinct images.
    """
    root, rows = folder / "data", []
    names = set()
    for row in islice(store.read(options.clicks), options.rows):
        image = reading.read_image(store.existing_image(Path(options.root), row.image))
        height, width = (side, side) if side else image.shape[:2]
        name = f"{row.image.rsplit('.', 1)[0]}.png"
        if name not in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            resized = Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC)
            images.write_png(root / name, np.asarray(resized))
            names.add(name)
        x, y = width / row.width, height / row.height
        clicks = tuple(Click((c.x + 0.5) * x - 0.5, (c.y + 0.5) * y - 0.5, c.positive) for c in row.clicks)
        mask = masks.encode_rle(np.zeros((height, width), bool))
        rows.append(
            replace(row, image=name, width=width, height=height, clicks=clicks, parts=row.parts, mask=mask)
        )
    store.write_shard(folder / "clicks", 0, 1, rows)
    return folder / "clicks", root, len(names)
