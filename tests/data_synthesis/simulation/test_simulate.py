from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geoclick.clicks import Click
from geoclick.data_synthesis.simulation import on_device
from geoclick.data_synthesis.simulation.policies import POLICIES, Clicker, click_rng, propose
from geoclick.data_synthesis.simulation.simulate import simulate
from geoclick.masks import iou
from geoclick.segmenters.clicking import Clicking, Prompting, replay
from tests import tiny
from tests.data_synthesis.disc_segmenter import DiscSegmenter


class Deaf(DiscSegmenter):
    """Answers every prompt with the empty mask."""

    def _decode(self, embedding, prompt, radii):
        decoded = super()._decode(embedding, prompt, radii)
        decoded.low_res.fill_(-9.0)
        return decoded


def disc(x, y, radius, height=40, width=50):
    ys, xs = np.ogrid[:height, :width]
    return (xs - x) ** 2 + (ys - y) ** 2 <= radius**2


def targets():
    square = np.zeros((40, 50), bool)
    square[5:30, 10:45] = True
    return [disc(20, 20, 9), square, disc(8, 8, 5) | disc(40, 30, 6), np.zeros((40, 50), bool)]


def embeddings(segmenter, count):
    return segmenter.embed([np.zeros((40, 50, 3), np.uint8)] * count)


def run(masks, segmenter=None, **options):
    segmenter = segmenter or DiscSegmenter()
    return simulate(segmenter, embeddings(segmenter, len(masks)), masks, **options)


def test_a_sequence_ends_at_the_iou_target_or_with_its_clicks():
    perfect, square, two, empty = run(targets(), max_clicks=4, iou_target=0.9)
    assert perfect.clicks == (Click(20, 20, True),)
    assert perfect.ious == (1.0,)
    assert len(square.clicks) == 4
    assert square.ious[-1] < 0.9
    assert len(two.clicks) == len(two.ious) > 1
    assert (empty.clicks, empty.ious, empty.mask.any()) == ((), (), False)


def test_the_first_click_is_positive_in_the_center():
    for target, result in zip(targets()[:3], run(targets()[:3], max_clicks=1), strict=True):
        click = result.clicks[0]
        assert click.positive
        assert target[click.y, click.x]


def test_recorded_ious_are_those_of_the_masks():
    segmenter = DiscSegmenter()
    results = run(targets(), segmenter)
    history = replay(segmenter, embeddings(segmenter, 4), [r.clicks for r in results])
    for target, result, after in zip(targets(), results, history, strict=True):
        assert list(result.ious) == [iou(mask, target) for mask in after]
        if after:
            np.testing.assert_array_equal(result.mask, after[-1])


def test_ignored_pixels_neither_count_nor_are_clicked():
    target = disc(20, 20, 9) | disc(40, 20, 7)
    (result,) = run([target], valids=[~disc(40, 20, 9)])
    assert (result.clicks, result.ious) == ((Click(20, 20, True),), (1.0,))


def test_the_prompting_reaches_the_decoder():
    (single,) = run([disc(20, 20, 6)], prompting=Prompting(multimask="never"))
    (best,) = run([disc(20, 20, 6)], prompting=Prompting(multimask="first"), max_clicks=1)
    assert single.ious == (1.0,)
    assert best.ious[0] < 0.5


def test_no_click_is_repeated_and_a_segmenter_without_progress_ends():
    dot = np.zeros((40, 50), bool)
    dot[3, 3:5] = True
    (result,) = run([dot], Deaf(), max_clicks=6)
    assert result.clicks == (Click(3, 3, True), Click(4, 3, True))


def test_batched_equals_one_by_one_with_sam():
    tiny_sam = tiny.sam_segmenter()
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 255, (40, 50, 3), dtype=np.uint8) for _ in range(3)]
    embedded = tiny_sam.embed(pictures)
    masks = targets()[:3]
    together = simulate(tiny_sam, embedded, masks, max_clicks=3)
    for mask, embedding, result in zip(masks, embedded, together, strict=True):
        (alone,) = simulate(tiny_sam, [embedding], [mask], max_clicks=3)
        assert alone.clicks == result.clicks
        np.testing.assert_allclose(alone.ious, result.ious, atol=0.01)


class CountingSegmenter(DiscSegmenter):
    """Counts the prompts of each decode."""

    def __init__(self):
        super().__init__()
        self.prompts = []

    def decode(self, embeddings, prompts, *, multimask):
        self.prompts.append(len(prompts))
        return super().decode(embeddings, prompts, multimask=multimask)


def shape(seed):
    """A target of a few boxes, and its pixels that count."""
    random, target = np.random.default_rng(seed), np.zeros((40, 50), bool)
    for top, left, height, width in random.integers(4, 26, (3, 4)):
        target[top : top + height, left : left + width] = True
    valid = np.ones((40, 50), bool)
    valid[:, 25:28] = random.random() < 0.5
    return target, valid


def click_on(seeds, clicker, segmenter=None, **options):
    segmenter = segmenter or DiscSegmenter()
    targets, valids = zip(*map(shape, seeds), strict=True)
    ids = [(f"s{seed}", 1) for seed in seeds]
    return simulate(
        segmenter,
        embeddings(segmenter, len(seeds)),
        targets,
        valids,
        clicker=clicker,
        **{"sequence_ids": ids} | options,
    )


ALL = [
    *(Clicker(policy) for policy in POLICIES),
    Clicker(jitter=3),
    Clicker("random", positive_only=True),
    Clicker("robust", keep_improving=True),
    Clicker("lookahead", tie="positive", jitter=2, candidates=4),
]


@pytest.mark.parametrize("clicker", ALL, ids=lambda c: c.rule + c.switches)
def test_batched_equals_one_by_one_in_any_order(clicker):
    together = click_on(range(6), clicker)
    assert [click_on([seed], clicker)[0].clicks for seed in range(6)] == [r.clicks for r in together]
    assert [r.ious for r in click_on([5, 2, 0], clicker)] == [together[i].ious for i in (5, 2, 0)]


@pytest.mark.parametrize("clicker", ALL, ids=lambda c: c.rule + c.switches)
def test_ious_are_those_of_the_clicks(clicker):
    segmenter = DiscSegmenter()
    results = click_on(range(4), clicker, segmenter)
    history = replay(segmenter, embeddings(segmenter, 4), [r.clicks for r in results])
    for seed, result, masks in zip(range(4), results, history, strict=True):
        assert list(result.ious) == [iou(mask, *shape(seed)) for mask in masks]
        np.testing.assert_array_equal(result.mask, masks[-1] if masks else np.zeros((40, 50), bool))


@pytest.mark.parametrize("clicker", [*ALL, Clicker(tie="positive")], ids=lambda c: c.rule + c.switches)
def test_the_center_rule_on_the_device_gives_the_same_clicks(clicker, monkeypatch):
    one_by_one = click_on(range(6), clicker)
    monkeypatch.setattr(on_device, "is_faster", lambda device: True)
    together = click_on(range(6), clicker)
    assert [(r.clicks, r.ious) for r in together] == [(r.clicks, r.ious) for r in one_by_one]


@pytest.mark.parametrize("policy", ["random", "robust", "lookahead"])
def test_seed_sample_and_number_change_random_clicks(policy):
    clicker = Clicker(policy)
    first, again, seed, sample, number = (
        [r.clicks for r in click_on([1], clicker, **options)]
        for options in ({}, {}, {"seed": 1}, {"sequence_ids": [("x", 1)]}, {"sequence_ids": [("s1", 2)]})
    )
    assert first == again
    assert first not in (seed, sample, number)


def test_the_center_rule_is_deterministic():
    assert click_on([1], Clicker(), seed=1)[0].clicks == click_on([1], None, seed=2)[0].clicks


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 8), st.integers(0, 3))
def test_lookahead_takes_the_best_of_its_candidates(seed, candidates, jitter):
    clicker = Clicker("lookahead", candidates=candidates, jitter=jitter)
    segmenter = DiscSegmenter()
    target, valid = shape(seed)
    (result,) = click_on([seed], clicker, segmenter, max_clicks=4)
    state = Clicking(segmenter, embeddings(segmenter, 1))
    for turn, click in enumerate(result.clicks):
        proposals = propose(
            clicker, target, state.masks[0], state.sequences[0], valid, click_rng(0, f"s{seed}", 1, turn)
        )
        assert click in proposals
        tried = state.attempt([proposals])[0]
        assert result.ious[turn] == max(iou(attempt.mask, target, valid) for attempt in tried)
        if not jitter:
            (center,) = propose(Clicker(), target, state.masks[0], state.sequences[0], valid, None)
            assert center in proposals
        state.step([click])


def test_all_candidates_of_a_step_are_decoded_together():
    segmenter = CountingSegmenter()
    click_on(range(4), Clicker("lookahead", candidates=5), segmenter, max_clicks=1)
    (together,) = [count for count in segmenter.prompts if count]
    assert together > 3 * 4


def test_one_candidate_is_the_center():
    assert [r.clicks for r in click_on(range(4), Clicker("lookahead", candidates=1))] == [
        r.clicks for r in click_on(range(4), Clicker())
    ]


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_positive_only_has_no_negative(policy):
    with_both = click_on(range(8), Clicker(policy))
    without = click_on(range(8), Clicker(policy, positive_only=True))
    assert any(not click.positive for result in with_both for click in result.clicks)
    assert all(click.positive for result in without for click in result.clicks)
    assert all(result.clicks for result in without)


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_keep_improving_ends_before_the_first_click_without_improvement(policy):
    free = click_on(range(8), Clicker(policy), max_clicks=8)
    kept = click_on(range(8), Clicker(policy, keep_improving=True), max_clicks=8)
    assert [r.clicks for r in free] != [r.clicks for r in kept]
    for all_of_it, result in zip(free, kept, strict=True):
        ious = (0.0, *result.ious)
        assert all(after > before for before, after in pairwise(ious))
        count = len(result.clicks)
        assert result.clicks == all_of_it.clicks[:count]
        assert all(after <= result.ious[-1] for after in all_of_it.ious[count : count + 1])


def test_a_first_click_without_effect_is_dropped_too():
    (result,) = click_on([0], Clicker(keep_improving=True), Deaf())
    assert (result.clicks, result.ious, result.mask.any()) == ((), (), False)
