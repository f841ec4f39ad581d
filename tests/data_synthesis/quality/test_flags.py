import numpy as np
import pytest

from geoclick.clicks import Click
from geoclick.data_synthesis.quality.flags import (
    CONTRADICTION,
    DUPLICATE,
    LOW_IOU,
    SLIVER,
    Limits,
    candidate_pairs,
    find_duplicates,
    flag,
    flagged,
)
from geoclick.masks import decode_rle, iou
from tests.data_synthesis.click_rows import make_row, measure

LIMITS = Limits(min_iou=0.5, min_radius=2.0, duplicate_iou=0.9)
SAME_QUERY = Limits(min_iou=0.5, min_radius=2.0, duplicate_iou=0.9, same_query=True)


def box_mask(top, left, bottom, right, size=(40, 50)):
    mask = np.zeros(size, bool)
    mask[top:bottom, left:right] = True
    return mask


def duplicates_of(rows, limits=LIMITS):
    found = find_duplicates(measure(rows), lambda: iter(rows), limits, lambda: None)
    return found.of.tolist(), found.iou.tolist()


def numbered(masks, **changes):
    return [make_row(mask, sample_id=f"s{i}", **changes) for i, mask in enumerate(masks)]


def by_hand(rows, limits):
    """Every pair of masks compared, the first of similar ones is the original."""
    originals, of, ious = [], [], []
    for place, row in enumerate(rows):
        mask = decode_rle(row.mask)
        found = []
        for other in originals:
            earlier = rows[other]
            comparable = (
                earlier.image == row.image
                and earlier.sample_id != row.sample_id
                and (earlier.query == row.query or not limits.same_query)
            )
            if comparable and mask.any() and decode_rle(earlier.mask).any():
                value = iou(mask, decode_rle(earlier.mask))
                if value > limits.duplicate_iou:
                    found.append((value, -other))
        value, other = max(found, default=(0.0, 1))
        of.append(-other)
        ious.append(value)
        if not found:
            originals.append(place)
    return of, ious


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("same_query", [False, True])
def test_duplicates_equal_those_of_comparing_every_pair(seed, same_query):
    rng = np.random.default_rng(seed)
    shapes = [box_mask(*rng.integers(0, 12, 2), *rng.integers(20, 40, 2)) for _ in range(4)] + [
        np.zeros((40, 50), bool)
    ]
    rows = []
    for number in range(60):
        mask = shapes[rng.integers(len(shapes))].copy()
        if mask.any() and rng.random() < 0.7:
            # A few pixels more or less, and now and then a far one, which makes the bounding box large.
            mask.ravel()[rng.integers(0, mask.size, rng.integers(1, 40))] ^= True
        rows.append(
            make_row(
                mask,
                sample_id=f"s{number // 2 if rng.random() < 0.2 else number}",
                image=f"{rng.integers(3)}.png",
                query=str(rng.choice(["roof", "tree"])),
            )
        )
    limits = Limits(0.5, 2.0, 0.85, same_query)
    of, ious = by_hand(rows, limits)
    assert sum(other >= 0 for other in of) > 10
    assert sum(other < 0 for other in of) > 5
    found_of, found_ious = duplicates_of(rows, limits)
    assert found_of == of
    assert found_ious == pytest.approx(ious)


def test_the_first_of_equal_masks_of_an_image_is_the_original():
    square = box_mask(5, 5, 20, 20)
    rows = numbered([square, box_mask(0, 30, 9, 49), square, square])
    assert duplicates_of(rows) == ([-1, -1, 0, 0], [0, 0, 1, 1])
    apart = [make_row(square, sample_id=str(i), image=f"{i}.png") for i in range(3)]
    assert duplicates_of(apart)[0] == [-1, -1, -1]


def test_equal_masks_need_no_second_reading():
    rows = numbered([box_mask(5, 5, 20, 20)] * 3)

    def never():
        raise AssertionError("the store was read again")

    assert find_duplicates(measure(rows), never, LIMITS, lambda: None).of.tolist() == [-1, 0, 0]


def test_masks_of_other_queries_are_no_duplicates_with_same_query():
    square = box_mask(5, 5, 20, 20)
    rows = [make_row(square, sample_id=str(i), query=q) for i, q in enumerate(["roof", "house", "roof"])]
    assert duplicates_of(rows)[0] == [-1, 0, 0]
    assert duplicates_of(rows, SAME_QUERY)[0] == [-1, -1, 0]


def test_sequences_of_one_sample_are_no_duplicates_of_each_other():
    square = box_mask(5, 5, 20, 20)
    rows = [make_row(square, sample_id=name) for name in ("a", "a", "b", "b")]
    assert duplicates_of(rows)[0] == [-1, -1, 0, 0]


def test_the_iou_of_duplicates_is_above_the_threshold():
    whole, part = box_mask(0, 0, 10, 10), box_mask(0, 0, 9, 10)
    assert duplicates_of(numbered([whole, part]))[0] == [-1, -1]
    assert duplicates_of(numbered([whole, part]), Limits(0.5, 2, 0.8999)) == ([-1, 0], [0, 0.9])
    assert duplicates_of(numbered([whole, whole]), Limits(0.5, 2, 1.0))[0] == [-1, -1]


def test_distant_masks_of_a_chain_are_no_duplicates():
    chain = [box_mask(0, 0, 10, 40 - 3 * k) for k in range(3)]
    assert [round(iou(chain[0], m), 3) for m in chain] == [1, 0.925, 0.85]
    assert duplicates_of(numbered(chain))[0] == [-1, 0, -1]


def test_boxes_and_areas_exclude_most_pairs():
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 180, (120, 2))
    sides = rng.integers(4, 20, (120, 2))
    masks = [box_mask(*c, *(c + s), size=(200, 200)) for c, s in zip(corners, sides, strict=True)]
    measures = measure(numbered([*masks, np.roll(masks[0], 1, axis=1)]))
    pairs = candidate_pairs(measures, np.arange(121), LIMITS)
    assert len(pairs) < 20
    loose = candidate_pairs(measures, np.arange(121), Limits(0.5, 2, 0.5))
    assert [0, 120] in np.sort(loose, axis=1).tolist()


def test_slivers_are_masks_without_a_large_inner_disc():
    lines = [box_mask(2, 2, 2 + width, 40) for width in (1, 2, 3)]
    # Thin, but along the border: what lies beyond the image is no target.
    lines.append(box_mask(0, 0, 2, 50))
    measures = measure(numbered(lines, clicks=[Click(5, 2)], ious=[0.9]))
    none = find_duplicates(measures, lambda: [], Limits(0, 0, 1.0), lambda: None)
    for radius, expected in ((2.0, [True, True, False, True]), (1.0, [False] * 4), (2.5, [True] * 4)):
        assert flag(measures, none, Limits(0.5, radius, 1.0))[SLIVER].tolist() == expected


def test_low_iou_uses_the_final_iou_and_skips_samples_without_target():
    square = box_mask(5, 5, 20, 20)
    sequences = [[0.6, 0.3], [0.2, 0.49], [0.5], [], [0.3, 0.6]]
    rows = [
        make_row(square, [Click(9, 9)] * len(ious), ious, sample_id=str(i), image=f"{i}.png")
        for i, ious in enumerate(sequences)
    ]
    rows.append(make_row(np.zeros((40, 50), bool), sample_id="none"))
    measures = measure(rows)
    found = flag(measures, find_duplicates(measures, lambda: rows, LIMITS, lambda: None), LIMITS)
    assert found[LOW_IOU].tolist() == [True, True, False, True, False, False]
    assert not found[SLIVER].any()
    assert not found[DUPLICATE].any()
    assert flagged(found).tolist() == [True, True, False, True, False, False]


def test_rows_with_equal_image_and_query_and_another_target_contradict_each_other():
    square, other = box_mask(5, 5, 20, 20), box_mask(0, 30, 9, 49)
    asked = [
        ("a", "roof", square),
        ("a", "roof", other),
        ("b", "roof", square),
        ("b", "roof", square),
        ("c", "roof", square),
        ("c", "tree", other),
        ("d", "roof", np.zeros((40, 50), bool)),
        ("d", "roof", other),
    ]
    rows = [
        make_row(mask, sample_id=str(i), image=image, query=query)
        for i, (image, query, mask) in enumerate(asked)
    ]
    measures = measure(rows)
    found = flag(measures, find_duplicates(measures, lambda: rows, LIMITS, lambda: None), LIMITS)
    assert found[CONTRADICTION].tolist() == [True, True, False, False, False, False, True, True]
