"""Reads all rows of a click store once, with the code of a checkout; a process of `benchmarks.reading_rows`.

    python benchmarks/reading_process.py CHECKOUT STORE ROOT batches|packs

Prints JSON: rows per second of the complete reading, seconds until the first batch, CPU seconds, and peak memory.
"""

import json
import random
import resource
import sys
import time
from pathlib import Path
from typing import Any

BATCH = 16
BUDGET = 2048


def use(checkout: Path) -> None:
    """Import geoclick from a checkout in place of the one that is installed in editable mode."""
    finder = next(module for name, module in sys.modules.items() if name.startswith("__editable___geoclick"))
    for name in finder.MAPPING:
        finder.MAPPING[name] = str(checkout / (name.partition(".")[2] or name))


def main() -> None:
    """Read the rows in random order, and print what that took."""
    checkout, clicks, root, way = sys.argv[1:]
    use(Path(checkout))
    from geoclick import vlms
    from geoclick.train.data import rows as rows_module
    from geoclick.train.packing import packed_dataset

    assert str(rows_module.__file__).startswith(checkout)
    vlm = vlms.load(device="cpu")
    before = resource.getrusage(resource.RUSAGE_SELF)
    began = time.perf_counter()
    rows, _ = rows_module.build(clicks, root, vlm, answer_format="compact", max_clicks=6, min_iou=0.0)
    source: Any = rows
    if way == "packs":
        packed = packed_dataset.build(rows, vlm.processor, budget=BUDGET, seed=0, per_step=1)
        batches, source = packed.keys(), packed
    else:
        order = list(range(len(rows)))
        random.Random(0).shuffle(order)
        batches = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
    count, first = 0, 0.0
    for batch in batches:
        if way == "packs":
            count += len(source[batch])
        elif hasattr(source, "__getitems__"):
            count += len(source.__getitems__(batch))
        first = first or time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    result = {
        "rows": count,
        "seconds": time.perf_counter() - began,
        "first_batch_seconds": first,
        "cpu_seconds": cpu,
        "rows_per_cpu_second": count / cpu,
        "added_mb": (after.ru_maxrss - before.ru_maxrss) / 1024,
        "peak_mb": after.ru_maxrss / 1024,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
