import itertools
import random
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoclick import codec, images, masks, store, vlms
from geoclick.clicks import Click
from geoclick.geo import reading
from geoclick.train.augmentation import augment, question_views, sheet
from geoclick.train.augmentation.augment import KINDS, Augmentation
from geoclick.train.augmentation.image_views import ImageView
from geoclick.train.data import rows
from geoclick.train.data.token_lengths import token_lengths
from tests import tiny
from tests.train.texts import with_texts

SIZE = (60, 100)
CLICKS = (Click(20, 20), Click(24, 15), Click(40, 8, False), Click(70, 50, False), Click(12, 25))
QUERIES = ("the barn", "the top left barn", "the largest barn", "the barn above the road")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A store with images that are wider than high, whose clicks are on the correct side of the mask's edge."""
    folder = tmp_path_factory.mktemp("data")
    clicks, root = tiny.click_store(folder, rows=8)
    mask = np.zeros(SIZE, bool)
    mask[10:30, 10:30] = True
    found = []
    for index, row in enumerate(store.read(clicks)):
        empty = row.task == "no_target"
        values = {**vars(row), "height": SIZE[0], "width": SIZE[1], "query": QUERIES[index % 4]}
        parts = () if empty else (2, 3)
        values |= {"clicks": CLICKS[: sum(parts)], "ious": (0.5,) * sum(parts), "parts": parts}
        found.append(store.Row(**values | {"mask": masks.encode_rle(mask & (not empty))}))
        pixels = np.random.default_rng(index).integers(0, 255, (*SIZE, 3), dtype=np.uint8)
        images.write_png(root / row.image, pixels)
    shutil.rmtree(clicks)
    store.write_shard(clicks, 0, 1, found)
    store.write_manifest(clicks, {"rows": 8})
    return clicks, root


def build(data, vlm):
    dataset, _ = rows.build(*data, vlm, answer_format="compact", max_clicks=6, min_iou=0.0, raw=True)
    return dataset


def of(vlm, kinds=KINDS, share=0.4, seed=0):
    return Augmentation(vlm.processor, vlm.family, "compact", kinds, share, seed)


@pytest.fixture(scope="module", params=tiny.FAMILIES)
def case(request, data, tmp_path_factory):
    """A VLM that preserves the aspect ratio of images, and its raw rows."""
    folder = tmp_path_factory.mktemp(request.param)
    base = str(tiny.FOLDERS[request.param](folder))
    vlm = vlms.load(base, device="cpu", min_pixels=56 * 56, max_pixels=112 * 112)
    return vlm, build(data, vlm)


def test_answers_point_to_the_same_pixels_of_the_view(case):
    """All kinds together: a decoded click is inside the view's mask if it is positive, else outside."""
    vlm, dataset = case
    change = of(vlm)
    seen = set()
    for epoch in range(12):
        for row in dataset:
            drawn, made = change.draw(row, epoch), with_texts(vlm, change(row, epoch))
            view, size = made["view"], made["view"].size(SIZE)
            assert drawn.query in made["prompt"]
            answer = codec.decode(
                made["completion"].removesuffix("<|im_end|>"),
                family=vlm.family,
                answer_format=drawn.answer_format,
                image_size=size,
                resized_size=vlms.resized_size(vlm.processor, size),
            )
            assert [click.positive for click in answer.clicks] == [bool(p) for *_, p in row["clicks"]]
            target = view.mask(augment.mask_of(row))
            assert target.shape == size
            for click, written in zip(answer.clicks, drawn.clicks, strict=True):
                assert abs(click.x - written.x) <= size[1] / 56
                assert abs(click.y - written.y) <= size[0] / 56
                assert target[round(written.y), round(written.x)] == written.positive
            seen.add((view.mirrored, view.turns, view.crop is None, drawn.answer_format, drawn.query))
    for name, count in zip(range(5), (2, 4, 2, 2, 5), strict=True):
        assert len({entry[name] for entry in seen}) >= count
    for mirrored, turns, whole, _, query in seen:
        assert whole or query == "the barn"
        assert "above" not in query or (turns == 0 and not (mirrored and turns))


def test_rows_are_the_same_in_every_worker_and_differ_between_epochs(case):
    vlm, dataset = case
    one, two = of(vlm), of(vlm)
    forth = [one(row, 3) for row in dataset]
    back = [two(dataset[index], 3) for index in reversed(range(len(dataset)))][::-1]
    assert forth == back
    assert forth != [one(row, 4) for row in dataset]
    assert forth != [of(vlm, seed=1)(row, 3) for row in dataset]


def test_queries_of_one_image_share_its_position(case):
    vlm, dataset = case
    change = of(vlm, ("flip", "rotate"))
    for epoch in range(6):
        shown = {}
        for row in dataset:
            if row["query"] in ("the barn", "the largest barn"):
                view = change.draw(row, epoch).view
                assert shown.setdefault(row["image"], view) == view


@pytest.mark.parametrize("kinds", [(), ("shuffle",), ("flip", "rotate"), KINDS])
def test_no_epoch_has_more_tokens_than_the_longest(case, kinds):
    vlm, dataset = case
    change = of(vlm, kinds, share=0.5 * (kinds != ("shuffle",)))
    bounds = token_lengths(map(change.longest, dataset), vlm.processor)
    most = [0] * len(bounds)
    for epoch in range(15):
        lengths = token_lengths([change(row, epoch) for row in dataset], vlm.processor)
        most = [max(pair) for pair in zip(most, lengths, strict=True)]
    slack = [bound - length for bound, length in zip(bounds, most, strict=True)]
    assert min(slack) >= 0
    # Tight but for the digits that the far corner has and the clicks have not.
    assert max(slack) <= 2 * len(CLICKS)


@pytest.mark.parametrize("kinds", [("shuffle",), ("jitter",), ("shuffle", "jitter")])
def test_kinds_that_do_not_change_images_keep_the_image_and_the_query(case, kinds):
    vlm, dataset = case
    change = of(vlm, kinds, share=0)
    for row in dataset:
        drawn = change.draw(row, 1)
        assert (drawn.view, drawn.query, drawn.answer_format) == (ImageView(), row["query"], "compact")
        if kinds == ("shuffle",):
            assert sorted(drawn.clicks) == sorted(sum(augment.parts_of(row), ()))


@st.composite
def scenes(draw):
    """A mask of random rectangles with clicks anywhere."""
    height, width = draw(st.integers(1, 50)), draw(st.integers(1, 50))
    mask = np.zeros((height, width), bool)
    for _ in range(draw(st.integers(0, 3))):
        top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
        mask[top : top + draw(st.integers(1, 30)), left : left + draw(st.integers(1, 30))] = True
    x, y = st.floats(-0.4, width - 0.6), st.floats(-0.4, height - 0.6)
    return mask, tuple(draw(st.lists(st.builds(Click, x, y, st.booleans()), max_size=5)))


def under(mask, click):
    return mask[int(np.clip(round(click.y), 0, None)), int(np.clip(round(click.x), 0, None))]


@given(scenes(), st.integers(0, 99), st.floats(0.001, 0.5))
def test_jittered_clicks_stay_on_their_side_and_in_the_image(case_, seed, jitter):
    mask, clicks = case_
    before, augment.JITTER = augment.JITTER, jitter
    try:
        moved = augment.jittered(clicks, mask, random.Random(seed))
    finally:
        augment.JITTER = before
    for old, new in zip(clicks, moved, strict=True):
        if under(mask, old) == old.positive:
            assert under(mask, new) == new.positive == old.positive
            assert np.hypot(new.x - old.x, new.y - old.y) <= jitter * mask.size**0.5 + 1e-9
        else:
            assert new == old


def test_jitter_moves_clicks_that_have_room():
    mask = np.ones((100, 100), bool)
    found = {augment.jittered([Click(50, 50)], mask, random.Random(s))[0] for s in range(300)}
    assert len(found) == 29  # pixels of a disc of radius 3


@given(scenes(), st.integers(0, 99))
def test_a_crop_holds_the_mask_and_every_click(case_, seed):
    mask, clicks = case_
    crop = question_views.crop_around(mask, clicks, random.Random(seed))
    if crop is None:
        return
    left, top, width, height = crop
    assert 0 <= left <= left + width <= mask.shape[1]
    assert 0 <= top <= top + height <= mask.shape[0]
    assert mask[top : top + height, left : left + width].sum() == mask.sum()
    assert height * 2 >= mask.shape[0] - 1
    for click in clicks:
        moved = ImageView(crop).click(click, mask.shape)
        assert -0.5 <= moved.x <= mask.shape[1] - 0.5
        assert -0.5 <= moved.y <= mask.shape[0] - 0.5


@given(st.lists(st.booleans(), max_size=9), st.integers(0, 99))
def test_only_clicks_of_one_sign_are_shuffled(signs, seed):
    clicks = tuple(Click(n, n, sign) for n, sign in enumerate(signs))
    found = augment.shuffled(clicks, random.Random(seed))
    assert [click.positive for click in found] == signs
    runs = np.cumsum([0, *(a != b for a, b in itertools.pairwise(signs))])
    assert all(runs[int(click.x)] == runs[place] for place, click in enumerate(found))


def test_the_sheet_shows_each_row_as_stored_and_in_four_epochs(case, tmp_path):
    vlm, dataset = case
    sheet.write(tmp_path / "sheet.png", dataset, of(vlm))
    written = reading.read_image(tmp_path / "sheet.png")
    assert written.shape == (8 + 8 * (296 + 36), 8 + 5 * 296, 3)
