"""Two finished evaluations of the same samples: is one better, by how much, and where.

    geoclick evaluate --compare runs/base runs/lora --output runs/compared

Differences are B less A. compare.json holds them, compare.html shows the samples that changed most.
"""

import json
from pathlib import Path

import numpy as np

from geoclick.errors import GeoClickError
from geoclick.files import write_whole
from geoclick.inference.evaluation.results import PARTS
from geoclick.inference.reports import comparison_page, record_pairs, significance
from geoclick.inference.reports.record_pairs import Pairs
from geoclick.scoring.semantic import BACKGROUND

NAME, PAGE = "compare.json", "compare.html"
IOU, PIXELS, BOUNDARY = slice(0, 1), slice(1, 3), slice(3, 4)
"""Columns of pairing.NUMBERS."""


def compare(a: Path, b: Path, output: Path, *, gallery: int, seed: int) -> dict:
    """Compare two run folders; writes compare.json and compare.html.

    Args:
        a: folder of a finished `geoclick evaluate`.
        b: another, of the same samples.
        output: folder to write.
        gallery: how many samples that gained, and that lost, the page shows.
        seed: of resamples and permutations.

    Returns:
        What compare.json holds: the folders `a` and `b`, `mode`, `n`, `seed`, the `verdict` in words; `wins`, `losses`
        and `ties` of B by the IoU of samples; the scores `miou`, `oiou` and `boundary_iou`, in mode semantic `miou` and
        `foreground_iou`, each a dict of `a`, `b`, `difference` and its 95 % `interval`, miou with a `p_value`; for
        every key of PARTS that the mode scores, by name, such a dict of the mIoU, of a class's IoU in mode semantic,
        with `n`; `protocol`: what differs, by key, as [of A, of B].

    Raises:
        GeoClickError: a folder holds no finished evaluation, or they are not of the same samples in one mode.
    """
    protocols = [record_pairs.read_summary(folder)["protocol"] for folder in (a, b)]
    modes = [protocol.get("mode") for protocol in protocols]
    if modes[0] != modes[1]:
        raise GeoClickError(
            f"{a} was scored in mode {modes[0]} and {b} in mode {modes[1]}; evaluate both in one --mode."
        )
    semantic = modes[0] == "semantic"
    change = record_pairs.fewer_wrong if semantic else record_pairs.higher_iou
    pairs = record_pairs.gather(a, b, count=gallery, change=change)
    before, after = (numbers[:, 0] for numbers in pairs.both())
    scores = of_set(pairs, seed) if semantic else of_samples(pairs, seed)
    result = {
        "a": str(a),
        "b": str(b),
        "mode": modes[0],
        "n": len(before),
        "seed": seed,
        "verdict": verdict(scores["miou"]),
        "wins": int(np.count_nonzero(after > before)),
        "losses": int(np.count_nonzero(after < before)),
        "ties": int(np.count_nonzero(after == before)),
        **scores,
        "protocol": {
            key: [protocol.get(key) for protocol in protocols]
            for key in dict.fromkeys([*protocols[0], *protocols[1]])
            if protocols[0].get(key) != protocols[1].get(key)
        },
    }
    try:
        page = comparison_page.render(result, protocols, pairs)
    except record_pairs.FAULTS as error:
        raise GeoClickError(
            f"The records of {a} and {b} cannot be shown ({error!r}); evaluate both again."
        ) from error
    write_whole(output / PAGE, page)
    write_whole(output / NAME, json.dumps(result, indent=2) + "\n")
    return result


def of_samples(pairs: Pairs, seed: int) -> dict:
    """The scores of samples one by one, and of groups of them."""
    a, b = pairs.both()
    mean = significance.mean(len(a))
    miou = significance.difference(a[:, IOU], b[:, IOU], mean, seed)
    found = {
        "miou": miou | {"p_value": significance.p_value(a[:, IOU], b[:, IOU], mean, seed)},
        "oiou": significance.difference(a[:, PIXELS], b[:, PIXELS], significance.mean_ratio, seed),
        "boundary_iou": significance.difference(a[:, BOUNDARY], b[:, BOUNDARY], mean, seed),
    }
    for part, (order, _) in PARTS.items():
        groups = pairs.groups[part]
        found[part] = {}
        for name in (n for n in order or sorted(groups) if n in groups):
            rows = np.array(groups[name])
            told = significance.difference(a[rows, IOU], b[rows, IOU], significance.mean(len(rows)), seed)
            found[part][name] = {"n": len(rows)} | told
    return found


def of_set(pairs: Pairs, seed: int) -> dict:
    """The scores of classes over a whole set, where images are what was drawn."""
    images, classes = np.array(pairs.images), pairs.groups["by_category"]
    tables = []
    for numbers in pairs.both():
        # [images, 2 * classes]: intersections, then unions.
        pixels = np.zeros((2, images.max() + 1, len(classes)))
        for column, rows in enumerate(map(np.array, classes.values())):
            for plane, values in zip(pixels, numbers[rows, PIXELS].T, strict=True):
                np.add.at(plane[:, column], images[rows], values)
        tables.append(np.hstack(list(pixels)))
    a, b = tables
    miou = significance.difference(a, b, significance.mean_ratio, seed)
    found = {"miou": miou | {"p_value": significance.p_value(a, b, significance.mean_ratio, seed)}}
    by_class = {}
    for column, (name, rows) in enumerate(classes.items()):
        of_class = [table[:, column :: len(classes)] for table in tables]
        by_class[name] = {"n": len(rows)} | significance.difference(*of_class, significance.mean_ratio, seed)
    foreground = [name for name in classes if name != BACKGROUND]
    if len(foreground) == 1:
        found["foreground_iou"] = {key: value for key, value in by_class[foreground[0]].items() if key != "n"}
    return found | {"by_category": by_class}


def verdict(miou: dict) -> str:
    """What interval and p-value of a difference say together, in words.

    Resamples of a few units are narrower than chance is, which the p-value is not.
    """
    low, high = miou["interval"] or (0, 0)
    if (low > 0 or high < 0) and miou["p_value"] < 0.05:
        return "B is better" if low > 0 else "A is better"
    return "no difference that these samples show"


def text(result: dict) -> str:
    """What `compare` found, for the terminal."""
    miou, n = result["miou"], result["n"]
    counted = (
        f"of {n} samples {result['wins']} are better in B, {result['losses']} worse, {result['ties']} equal"
    )
    if miou["difference"] is None:
        return (
            f"no class is in any target or mask of one of the runs: they have no mIoU to compare; {counted}"
        )
    low, high = miou["interval"]
    return (
        f"mIoU of A {miou['a']:.3f}, of B {miou['b']:.3f}: {miou['difference']:+.3f} ({low:+.3f} to {high:+.3f}), "
        f"p = {miou['p_value']:.4f}: {result['verdict']}\n{counted}"
    )
