"""Views of scenes: regions lie where their colors are, and objects count by their visible part."""

import numpy as np
import pytest

from geoclick.scenes.queries import Fact
from geoclick.train.embedded import clip_views
from geoclick.train.embedded.clip_processor import PATCH
from geoclick.train.embedded.clip_views import Scenes, load_scenes, random_view
from geoclick.train.embedded.clip_words import CATEGORY_INDEX
from geoclick.train.embedded.scene_cache import SceneCache, VisibleObject

POND, CAR, GRASS = (CATEGORY_INDEX[one] for one in (("pond", "blue"), ("vehicle", "red"), ("grass", "")))
PAINT = {POND: 2, CAR: 0, GRASS: 1}
"""The color channel of each category in the painted scene."""


@pytest.fixture
def scenes():
    """A scene whose left part is a pond, with a small car in the corner; the rest is grass."""
    ids = np.zeros((1, 256, 256), np.uint8)
    ids[0, :, :100], ids[0, 246:, 250:] = 1, 3
    image = np.zeros((1, 256, 256, 3), np.uint8)
    for number, category in ((1, POND), (3, CAR), (0, GRASS)):
        image[0, ids[0] == number, PAINT[category]] = 200
    facts = [Fact(0, "pond", "blue", 25600, 50, 128), Fact(2, "vehicle", "red", 60, 252, 250)]
    cache = SceneCache(image, ids, (tuple(VisibleObject(fact, (0, 0)) for fact in facts),))
    return Scenes(cache, [GRASS])


@pytest.mark.parametrize("side", [128, 224])
def test_regions_lie_where_their_colors_are(scenes, side):
    rng, seen = np.random.default_rng(0), set()
    for _ in range(40):
        view = random_view(scenes, rng, side)
        assert view.image.shape == (side, side, 3)
        patches = (
            view.image.reshape(side // PATCH, PATCH, side // PATCH, PATCH, 3).mean((1, 3)).reshape(-1, 3)
        )
        for category, weights in zip(view.categories, view.weights, strict=True):
            seen.add(int(category))
            assert weights.sum() == pytest.approx(1)
            assert (weights @ patches)[PAINT[int(category)]] > 200 * clip_views.COVERED_BEST * 0.8
            assert view.most[category] == 1
    assert seen >= {POND, GRASS}


def test_objects_count_by_their_visible_part(scenes, monkeypatch):
    monkeypatch.setattr(clip_views, "SCALES", (1.0, 1.0))
    view = random_view(scenes, np.random.default_rng(0), 128)
    # At half the size, the car has 15 of its 60 pixels.
    assert (view.fewest[[POND, CAR, GRASS]].tolist(), view.most[[POND, CAR, GRASS]].tolist()) == (
        [1, 0, 1],
        [1, 1, 1],
    )
    assert random_view(scenes, np.random.default_rng(0), 224).fewest[CAR] == 1


def test_grounds_are_stored_with_the_scenes(tmp_path):
    first = load_scenes(tmp_path, count=3, seed=5)
    assert load_scenes(tmp_path, count=3, seed=5).grounds == first.grounds
    assert {clip_views.CATEGORIES[i][1] for i in first.grounds} == {""}
    assert len(first.cache.objects) == 3
