"""Every mode against a second implementation of the published scores, on images of mixed sizes.

The second implementation follows the published evaluations sample by sample and shares no code with the project; it
prints its table with `python -m tests.geoclick.scoring.test_published_scores`.
"""

import math

import numpy as np
import pytest
from PIL import Image

from geoclick.scoring import metrics, semantic

SIZES = [(3000, 4000), *[(400, 300)] * 9, (123, 700), (800, 801), (97, 31), (512, 512)]
"""(height, width) of the images."""


def blob(size, top, left, height, width):
    """An ellipse inside a box whose sides are fractions of the image, bool [H, W]."""
    rows, columns = np.ogrid[: size[0], : size[1]]
    y, x = (rows / size[0] - top) / height * 2 - 1, (columns / size[1] - left) / width * 2 - 1
    return y**2 + x**2 <= 1


def large_and_small():
    """One poor mask on an image of 4000x3000 and nine good ones on images of 300x400: (prediction, target) each."""
    pairs = [(blob(SIZES[0], 0.1, 0.1, 0.3, 0.3), blob(SIZES[0], 0.25, 0.25, 0.3, 0.3))]
    return pairs + [
        (blob(size, 0.1, 0.1, 0.8, 0.79), blob(size, 0.1, 0.1, 0.8 - i / 300, 0.8))
        for i, size in enumerate(SIZES[1:10])
    ]


def mixed():
    """Masks on images of SIZES, with empty targets and empty predictions: (prediction, target, parsed) each."""
    samples = [(*pair, True) for pair in large_and_small()]
    for i, size in enumerate(SIZES):
        empty, mask = np.zeros(size, bool), blob(size, 0.2, 0.3, 0.1 + i / 40, 0.4)
        samples += [(empty, mask, True), (mask, empty, True), (empty, empty, True), (empty, mask, False)]
        samples.append((mask, blob(size, 0.2, 0.3, 0.2 + i / 40, 0.3), True))
    return samples


def corners(mask, height, width):
    """A mask resized by OpenCV's nearest neighbor: each pixel takes the one at its top left corner."""
    rows = [min(math.floor(i * mask.shape[0] / height), mask.shape[0] - 1) for i in range(height)]
    columns = [min(math.floor(i * mask.shape[1] / width), mask.shape[1] - 1) for i in range(width)]
    return mask[rows][:, columns]


def square(mask, side):
    """A mask resized to a square by Pillow's nearest neighbor, bool [side, side]."""
    return np.array(Image.fromarray(np.uint8(mask)).resize((side, side), Image.NEAREST)) > 0


def letterboxed(mask, side=1024):
    """A mask whose long side is 1024, padded to a square around it."""
    height, width = mask.shape
    if width > height:
        height, width = int(height * (side / width)), side
    else:
        height, width = side, int(width * (side / height))
    padded = np.zeros((side, side), bool)
    top, left = (side - height) // 2, (side - width) // 2
    padded[top : top + height, left : left + width] = corners(mask, height, width)
    return padded


def segearth_r1(samples):
    """gIoU, cIoU and Pr@0.5 of SegEarth-R1: at 1024x1024, 1e-5 added to the union, an empty union scores 1."""
    ious, inner, outer = [], 0, 0
    for prediction, target, _ in samples:
        a, b = letterboxed(prediction), letterboxed(target)
        intersection, union = (a * b).sum(), (a | b).sum()
        ious.append(intersection / (union + 1e-5) if union else 1.0)
        inner, outer = inner + intersection, outer + union
    return np.mean(ious), inner / (outer + 1e-10), np.mean([iou > 0.5 for iou in ious])


def rmsin(samples):
    """mIoU, oIoU and Pr@0.5 of RMSIN: at 480x480, an empty union scores 0."""
    ious, inner, outer = [], 0, 0
    for prediction, target, _ in samples:
        a, b = square(prediction, 480), square(target, 480)
        intersection, union = np.logical_and(a, b).sum(), np.logical_or(a, b).sum()
        ious.append(intersection / union if union else 0.0)
        inner, outer = inner + intersection, outer + union
    return np.mean(ious), inner / outer, np.mean([iou >= 0.5 for iou in ious])


def think2seg(samples):
    """gIoU, cIoU and Pr@0.5 of Think2Seg-RS: at 840x840, samples without target by the answer."""
    total, inner, outer, hits, answered = 0.0, 0, 0, 0, 0
    for prediction, target, parsed in samples:
        target = square(target, 840)
        if not target.any():
            if not parsed:
                continue
            answered += 1
            right = not prediction.any()
            total, hits = total + right, hits + right
        elif prediction.any():
            prediction = square(prediction, 840)
            intersection, union = (prediction & target).sum(), (prediction | target).sum()
            inner, outer, answered = inner + intersection, outer + union, answered + 1
            total, hits = total + intersection / union, hits + (intersection / union >= 0.5)
        else:
            outer += target.sum()
    return total / len(samples), inner / outer, hits / answered


def native(samples):
    """mIoU, oIoU and Pr@0.5 at the images' sizes; an empty union scores 1 if the answer can be read."""
    ious = []
    for prediction, target, parsed in samples:
        union = (prediction | target).sum()
        ious.append((prediction & target).sum() / union if union else float(parsed))
    inner = sum((prediction & target).sum() for prediction, target, _ in samples)
    outer = sum((prediction | target).sum() for prediction, target, _ in samples)
    return np.mean(ious), inner / outer, np.mean([iou >= 0.5 for iou in ious])


PUBLISHED = {"native": native, "rmsin": rmsin, "segearth-r1": segearth_r1, "think2seg": think2seg}


def scores(samples, mode):
    """mIoU, oIoU and Pr@0.5 of the project."""
    total = metrics.Scores(mode)
    for prediction, target, parsed in samples:
        total.count(metrics.compare(prediction, target, mode, parsed=parsed))
    result = total.result()
    return result["miou"], result["oiou"], result["pr@0.5"]


@pytest.mark.parametrize("mode", PUBLISHED)
def test_scores_equal_the_published_ones_on_mixed_sizes(mode):
    samples = mixed()
    # SegEarth-R1 adds 1e-5 to each union.
    assert scores(samples, mode) == pytest.approx(PUBLISHED[mode](samples), abs=1e-7)


def test_segearth_r1_weights_large_and_small_images_equally():
    samples = [(*pair, True) for pair in large_and_small()]
    letterbox, original = scores(samples, "segearth-r1"), scores(samples, "native")
    assert letterbox == pytest.approx(segearth_r1(samples), abs=1e-7)
    assert letterbox[0] == pytest.approx(original[0], abs=0.002)
    assert letterbox[1] > 0.85
    assert original[1] < 0.35


def test_the_letterbox_of_a_very_narrow_image_has_at_least_one_row():
    mask = np.ones((1, 3000), bool)
    assert metrics.compare(mask, mask, "segearth-r1").intersection == 1024


def test_semantic_scores_equal_class_ious_over_all_pixels():
    """Mixed sizes, ignored pixels, a class without target in some images, one in no image."""
    rng, classes = np.random.default_rng(0), ["background", "road", "roof", "nowhere"]
    found = semantic.SemanticScores()
    inner, outer = np.zeros(4), np.zeros(4)
    for image, size in enumerate([(60, 80), (7, 300), (1, 1), (128, 64)]):
        target, prediction = rng.integers(0, 3, size), rng.integers(0, 2 + image % 2, size)
        target[rng.random(size) < 0.1] = 255
        for index, name in enumerate(classes):
            agreement = metrics.compare(prediction == index, target == index, "semantic", target != 255)
            found.count(str(image), name, agreement.intersection, agreement.union)
        pairs = [(p, t) for p, t in zip(prediction.flat, target.flat, strict=True) if t != 255]
        for index in range(4):
            inner[index] += sum(p == index and t == index for p, t in pairs)
            outer[index] += sum(p == index or t == index for p, t in pairs)
    result = found.result()
    expected = inner[:3] / outer[:3]
    *occurring, nowhere = result["per_class"].values()
    assert occurring == pytest.approx(expected, abs=1e-12)
    assert nowhere is None
    assert result["miou"] == pytest.approx(expected.mean(), abs=1e-12)


if __name__ == "__main__":
    for name, samples in {
        "one large, nine small": [(*pair, True) for pair in large_and_small()],
        "mixed sizes": mixed(),
    }.items():
        for mode, function in PUBLISHED.items():
            figures = zip(function(samples), scores(samples, mode), strict=True)
            columns = " | ".join(f"{published:.4f} | {ours:.4f}" for published, ours in figures)
            print(f"| {name} | {mode} | {columns} |")
