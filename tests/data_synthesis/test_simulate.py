import numpy as np
import tiny
from disc_segmenter import DiscSegmenter

from data_synthesis.simulate import simulate
from geoclick.clicks import Click
from geoclick.masks import iou
from geoclick.segmenters.clicking import Policy, replay


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


def test_the_first_click_is_positive_in_the_centre():
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


def test_the_policy_reaches_the_decoder():
    (single,) = run([disc(20, 20, 6)], policy=Policy(multimask="never"))
    (best,) = run([disc(20, 20, 6)], policy=Policy(multimask="first"), max_clicks=1)
    assert single.ious == (1.0,)
    assert best.ious[0] < 0.5


def test_no_click_is_given_twice_and_an_unhelpful_segmenter_ends():
    class Deaf(DiscSegmenter):
        def _decode(self, embedding, prompt, radii):
            decoded = super()._decode(embedding, prompt, radii)
            decoded.low_res.fill_(-9.0)
            return decoded

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
