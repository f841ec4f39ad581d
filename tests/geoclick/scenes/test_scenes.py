import numpy as np
import pytest

from geoclick.scenes import SIZE, generate, render
from geoclick.scenes.kinds import KINDS, PAINT_ORDER, RESOLUTIONS
from geoclick.scenes.layout import COUNTS
from geoclick.scenes.outlines import fill

SEEDS = range(12)


def test_tables_agree():
    assert set(KINDS) == set(PAINT_ORDER) == set(COUNTS)
    assert len(KINDS) >= 9
    assert all(len(kind.purposes) >= 4 for kind in KINDS.values())


def test_purposes_never_name_any_kind():
    words = {word for kind in KINDS.values() for word in kind.words}
    for kind in KINDS.values():
        for purpose in kind.purposes:
            assert not words & set(purpose.replace(",", "").split()), purpose


def test_same_seed_same_scene_other_seed_another():
    first, again, other = render(generate(3)), render(generate(3)), render(generate(4))
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])


@pytest.mark.parametrize("seed", SEEDS)
def test_ids_are_the_outlines_less_what_hides_them(seed):
    scene = generate(seed)
    image, ids = render(scene)
    assert image.shape == (SIZE, SIZE, 3)
    assert image.dtype == np.uint8
    hidden = np.zeros((SIZE, SIZE), bool)
    for i in reversed(range(len(scene.objects))):
        outline = fill(scene.objects[i].outline)
        assert np.array_equal(ids == i + 1, outline & ~hidden)
        hidden |= outline
    assert np.array_equal(ids == 0, ~hidden)


def test_objects_have_their_size_in_metres():
    for seed in range(40):
        scene = generate(seed)
        for thing in scene.objects:
            if thing.kind in ("field", "sports court", "vehicle"):
                sides = np.linalg.norm(np.diff(thing.outline, axis=0), axis=1) * scene.resolution
                spec = KINDS[thing.kind]
                assert spec.length[0] - 0.01 <= max(sides) <= spec.length[1] + 0.01
                assert spec.width[0] - 0.01 <= min(sides) <= spec.width[1] + 0.01


def test_every_kind_and_resolution_occurs_and_some_objects_hide_others():
    scenes = [generate(seed) for seed in range(60)]
    assert {thing.kind for scene in scenes for thing in scene.objects} == set(KINDS)
    assert {scene.resolution for scene in scenes} == set(RESOLUTIONS)
    hidden = 0
    for scene in scenes[:20]:
        _, ids = render(scene)
        hidden += sum((fill(t.outline) & (ids != i + 1)).any() for i, t in enumerate(scene.objects))
    assert hidden >= 10


def test_difficulty_sets_how_much_there_is():
    assert all(len(generate(seed, 0).objects) <= 1 for seed in range(30))
    assert all(len(generate(seed, 1).objects) <= 4 for seed in range(30))
    assert np.mean([len(generate(seed).objects) for seed in range(30)]) > 7


def test_the_same_kind_looks_different_from_scene_to_scene():
    means = []
    for seed in range(60):
        scene = generate(seed)
        image, ids = render(scene)
        means += [
            image[ids == i + 1].mean(0)
            for i, thing in enumerate(scene.objects)
            if thing.kind == "building" and thing.color == "red" and (ids == i + 1).sum() > 40
        ]
    assert len(means) > 5
    assert np.std(means, axis=0).max() > 8
