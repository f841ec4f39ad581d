"""Selection equals its definition, pixel by pixel and mask by mask."""

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from geoclick import masks
from geoclick.errors import GeoClickError, UsageError
from geoclick.inference.contrastive import classes as class_lists
from geoclick.inference.contrastive import selection
from geoclick.inference.contrastive.regions import OVERLAPS, UNCOVERED, PaintingRules, Regions
from geoclick.inference.contrastive.selection import oracle_proposals, vote

SIZE = (23, 31)
CLASSES = 4


@dataclass
class Mask:
    mask: np.ndarray
    predicted_iou: float = 0.9
    rle: dict = field(init=False)

    def __post_init__(self):
        self.rle = masks.encode_rle(self.mask)


def draw(seed, number=9):
    """Labels, and masks that overlap, nest, touch the border, or are empty."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    labels = rng.integers(0, CLASSES, (4, 5)).repeat(6, 0).repeat(7, 1)[: SIZE[0], : SIZE[1]]
    proposals = []
    for index in range(number):
        cy, cx, r = rng.uniform(0, SIZE[0]), rng.uniform(0, SIZE[1]), rng.uniform(1, 9)
        mask = (
            (np.abs(y - cy) < r) & (np.abs(x - cx) < r)
            if index % 2
            else (y - cy) ** 2 + (x - cx) ** 2 < r * r
        )
        proposals.append(Mask(mask & (rng.random(SIZE) < 0.95), round(rng.random(), 1)))
    proposals.append(Mask(np.zeros(SIZE, bool)))
    return labels, proposals


def painted(classes, margins, proposals, rules, labels):
    """The definition: masks painted one after another."""
    keys = {
        "small-on-top": lambda i: -proposals[i].mask.sum(),
        "large-on-top": lambda i: proposals[i].mask.sum(),
        "predicted-iou": lambda i: proposals[i].predicted_iou,
        "margin": lambda i: margins[i],
    }
    key = keys[rules.overlaps]
    order = sorted(range(len(proposals)), key=lambda i: (key(i), proposals[i].predicted_iou, -i))
    result = np.full(SIZE, -1)
    for i in order:
        if classes[i] >= 0:
            result[proposals[i].mask] = classes[i]
    free = result < 0
    if rules.uncovered == "nearest" and not free.all():
        covered = np.argwhere(~free)
        for y, x in np.argwhere(free):
            distance = ((covered - (y, x)) ** 2).sum(1)
            candidates = {result[tuple(c)] for c in covered[distance == distance.min()]}
            result[y, x] = -2 - min(candidates) if len(candidates) == 1 else -99
        return result
    result[free] = labels[free] if rules.uncovered == "dense" else rules.background
    return result


def assert_map(ours, expected):
    """Equal; where `expected` is -99 several nearest pixels disagree, and -2 - c marks the nearest class c."""
    decided = expected != -99
    np.testing.assert_array_equal(ours[decided], np.where(expected < -1, -2 - expected, expected)[decided])
    assert ours.dtype == np.int32
    assert ours.shape == SIZE


def counted(labels, proposals):
    counts = np.array([[(labels[p.mask] == c).sum() for c in range(CLASSES)] for p in proposals])
    classes = [int(row.argmax()) if row.max() else -1 for row in counts]
    ordered = np.sort(counts, axis=1)
    margins = [(o[-1] - o[-2]) / max(p.mask.sum(), 1) for o, p in zip(ordered, proposals, strict=True)]
    return classes, margins


@pytest.mark.parametrize("overlaps", OVERLAPS)
@pytest.mark.parametrize("uncovered", UNCOVERED)
@pytest.mark.parametrize("seed", range(4))
def test_vote_is_its_definition(overlaps, uncovered, seed):
    labels, proposals = draw(seed)
    rules = PaintingRules(overlaps=overlaps, uncovered=uncovered, background=2)
    classes, margins = counted(labels, proposals)
    expected = painted(classes, margins, proposals, rules, labels)
    assert_map(vote(labels, proposals, CLASSES, rules), expected)


def test_classes_are_a_number_the_classes_of_queries_or_a_list():
    labels, proposals = draw(0)
    expected = vote(labels, proposals, CLASSES)
    parsed = class_lists.parse("a, b; c; d; e, f")
    for classes in ([0, 0, 1, 2, 3], np.array([3, 2, 1, 0]), parsed, np.int64(4)):
        np.testing.assert_array_equal(vote(labels, proposals, classes), expected)


def test_equal_votes_take_the_lower_class_and_other_values_do_not_vote():
    labels = np.array([[3, 3, 1, 1, 255, -1]])
    proposal = Mask(np.ones((1, 6), bool))
    assert vote(labels, [proposal], CLASSES).tolist() == [[1] * 6]
    assert vote(np.full((1, 6), 255), [proposal], CLASSES).tolist() == [[255] * 6]


def test_no_proposals_leave_the_labels():
    labels, _ = draw(0)
    np.testing.assert_array_equal(vote(labels, [], CLASSES), labels)
    nearest = PaintingRules(uncovered="nearest", background=3)
    assert (vote(labels, [], CLASSES, nearest) == 3).all()
    assert selection.coverage([], SIZE) == 0


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("uncovered", ["background", "dense"])
def test_share_is_the_union_of_masks_above_the_threshold(threshold, uncovered):
    labels, proposals = draw(1)
    target = labels == 2
    union, covered = np.zeros(SIZE, bool), np.zeros(SIZE, bool)
    for proposal in proposals:
        covered |= proposal.mask
        if proposal.mask.any() and target[proposal.mask].mean() > threshold:
            union |= proposal.mask
    expected = union | (target & ~covered) if uncovered == "dense" else union
    ours = selection.share(labels, proposals, target=2, threshold=threshold, uncovered=uncovered)
    assert ours.dtype == bool
    np.testing.assert_array_equal(ours, expected)


def test_soft_vote_takes_the_highest_mean_probability():
    labels, proposals = draw(2)
    probabilities = np.random.default_rng(0).random((CLASSES, *SIZE)).astype(np.float32)
    means = [probabilities[:, p.mask].mean(1) if p.mask.any() else np.zeros(CLASSES) for p in proposals]
    classes = [int(m.argmax()) if p.mask.any() else -1 for m, p in zip(means, proposals, strict=True)]
    margins = [float(np.sort(m)[-1] - np.sort(m)[-2]) for m in means]
    for overlaps in OVERLAPS:
        rules = PaintingRules(overlaps=overlaps)
        expected = painted(classes, margins, proposals, rules, probabilities.argmax(0))
        assert_map(selection.soft_vote(torch.from_numpy(probabilities), proposals, rules), expected)
        expected = painted(classes, margins, proposals, rules, labels)
        assert_map(selection.soft_vote(probabilities, proposals, rules, labels), expected)


@pytest.mark.parametrize("grid", [(3, 4), (23, 31), (1, 1), (7, 40)])
def test_pool_takes_the_mean_feature_of_a_mask(grid):
    labels, proposals = draw(3)
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(*grid, 6, generator=generator)
    text = torch.nn.functional.normalize(torch.randn(5, 6, generator=generator), dim=-1)
    query_classes = (0, 0, 1, 2, 3)
    row, column = (
        np.array([max(c for c in range(n) if c * side // n <= i) for i in range(side)])
        for n, side in zip(grid, SIZE, strict=True)
    )
    pixels = features.numpy()[row][:, column]
    classes, margins = [], []
    for proposal in proposals:
        mean = pixels[proposal.mask].sum(0)
        cosines = text.numpy() @ (mean / max(np.linalg.norm(mean), 1e-12))
        best = np.array(
            [cosines[[q for q in range(5) if query_classes[q] == c]].max() for c in range(CLASSES)]
        )
        classes.append(int(best.argmax()) if proposal.mask.any() else -1)
        margins.append(np.sort(best)[-1] - np.sort(best)[-2])
    for overlaps in ("small-on-top", "margin"):
        rules = PaintingRules(overlaps=overlaps)
        ours = selection.pool(features, text, query_classes, proposals, labels, rules)
        assert_map(ours, painted(classes, margins, proposals, rules, labels))


def test_the_oracle_takes_the_true_majority_without_ignored_pixels():
    truth, proposals = draw(5)
    truth = truth.copy()
    truth[:, :12] = 255
    voters = np.where(truth == 255, -1, truth)
    classes, margins = counted(voters, proposals)
    assert any(c < 0 and p.mask.any() for c, p in zip(classes, proposals, strict=True))
    rules = PaintingRules(uncovered="background", background=1)
    ours = oracle_proposals(truth, proposals, CLASSES, rules)
    assert_map(ours, painted(classes, margins, proposals, rules, truth))
    dense, labels = PaintingRules(uncovered="dense"), np.full(SIZE, 3)
    ours = oracle_proposals(truth.astype(np.uint8), proposals, CLASSES, dense, labels=labels)
    assert_map(ours, painted(classes, margins, proposals, dense, labels))
    with pytest.raises(UsageError, match="'dense' for uncovered pixels needs dense labels"):
        oracle_proposals(truth, proposals, CLASSES, dense)


def test_no_selection_with_the_same_masks_beats_the_oracle():
    rng = np.random.default_rng(0)
    truth, _ = draw(6)
    # Disjoint masks: an overlap rule could otherwise hide the better mask.
    cells = rng.integers(0, 12, (6, 8)).repeat(4, 0).repeat(4, 1)[: SIZE[0], : SIZE[1]]
    proposals = [Mask(cells == number) for number in range(12)]
    best = (oracle_proposals(truth, proposals, CLASSES) == truth).mean()
    for _ in range(5):
        labels = np.where(rng.random(SIZE) < 0.6, truth, rng.integers(0, CLASSES, SIZE))
        assert (vote(labels, proposals, CLASSES) == truth).mean() <= best


def test_coverage_counts_each_pixel_once():
    _, proposals = draw(7)
    expected = np.logical_or.reduce([p.mask for p in proposals]).mean()
    assert selection.coverage(proposals, SIZE) == pytest.approx(expected)
    assert selection.coverage([Mask(np.ones(SIZE, bool))] * 2, SIZE) == 1


def test_cost_follows_the_runs_and_not_the_pixels_of_the_masks(monkeypatch):
    """A mask is never decoded."""
    labels, proposals = draw(8)
    rules = PaintingRules(uncovered="background")
    expected = vote(labels, proposals, CLASSES, rules)
    monkeypatch.setattr(masks, "decode_rle", None)
    np.testing.assert_array_equal(vote(labels, proposals, CLASSES, rules), expected)
    regions = Regions(proposals, SIZE)
    assert len(regions.starts) == sum(len(masks.decode_runs(p.rle)[1]) // 2 for p in proposals)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda s: vote(s[0], s[1], 4, PaintingRules(overlaps="top")), "Unknown rule 'top' for overlaps"),
        (lambda s: vote(s[0], s[1], 4, PaintingRules(uncovered="x")), "Unknown rule 'x' for uncovered"),
        (lambda s: selection.share(s[0], s[1], threshold=50), "must be from 0 to 1, not 50"),
        (lambda s: selection.share(s[0], s[1], uncovered="nearest"), "use background or dense"),
    ],
)
def test_a_wrong_rule_is_one_sentence(call, words):
    with pytest.raises(UsageError, match=words):
        call(draw(0))


def test_proposals_of_another_image_are_refused():
    labels, proposals = draw(0)
    with pytest.raises(GeoClickError, match="A proposal of size 23x31 does not fit labels of 22x31"):
        vote(labels[1:], proposals, CLASSES)
    with pytest.raises(GeoClickError, match="10 proposals and 2 queries need as many cosines"):
        selection.by_query(np.zeros((3, 2)), [0, 1], proposals, labels)
