"""Features in the cache folder: those of the tower, computed once, shared, and deleted only while nobody uses them."""

import multiprocessing
import pickle
import shutil
from contextlib import nullcontext

import pytest
import torch

from geoclick import images, vlms
from geoclick.errors import GeoClickError
from geoclick.geo.reading import read_image
from geoclick.train.data import cache_folder, cached_features, vision_features
from tests import tiny


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """A tiny VLM, and the sizes of 20 images."""
    folder = tmp_path_factory.mktemp("features")
    vlm = vlms.load(str(tiny.qwen3_vl_folder(folder / "vlm")), device="cpu")
    _, root = tiny.click_store(folder, rows=40)
    return vlm, {str(path): (64, 64) for path in sorted((root / "train/images").iterdir())}


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("GEOCLICK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cached_features, "_held", [])
    return tmp_path / "cache"


def compute(case, limit=2**30):
    vlm, sizes = case
    return cached_features.compute(
        vlm, sizes, device=torch.device("cpu"), autocast=nullcontext(), limit=limit
    )


def same(one, two):
    """Whether two mappings hold the same features, bit by bit."""
    assert list(one) == list(two)
    for path in one:
        assert torch.equal(one[path].grid, two[path].grid)
        assert one[path].kind is two[path].kind
        assert one[path].fields.keys() == two[path].fields.keys()
        for name, value in one[path].fields.items():
            other = two[path].fields[name]
            pairs = zip(value, other, strict=True) if isinstance(value, list) else [(value, other)]
            assert all(torch.equal(a, b) for a, b in pairs)
    return True


def direct(case):
    """The features of batches of 16 images, as the tower makes them."""
    vlm, sizes = case
    found = {}
    for start in range(0, len(sizes), 16):
        some = dict(list(sizes.items())[start : start + 16])
        found |= vision_features.of_images(vlm, some, device=torch.device("cpu"), autocast=nullcontext())
    return found


def test_they_are_those_of_the_tower_and_computed_once(case, cache, monkeypatch):
    found = compute(case)
    assert same(found, direct(case))
    assert 0 < found.nbytes < 2**30
    assert cache in found.folder.parents
    batches = []
    of_images = vision_features.of_images
    monkeypatch.setattr(vision_features, "of_images", lambda *a, **k: batches.append(1) or of_images(*a, **k))
    again = compute(case)
    # One batch tells how large all of them are.
    assert len(batches) == 1
    assert same(again, found)
    assert same(pickle.loads(pickle.dumps(again)), found)


def test_other_weights_limits_or_bytes_are_other_features(case, cache, tmp_path):
    vlm, sizes = case
    folders = {compute(case).folder}
    weight = next(p for name, p in vlm.model.named_parameters() if ".visual." in name)
    before = weight.detach().clone()
    with torch.no_grad():
        weight += 1
        folders.add(compute(case).folder)
        weight.copy_(before)
    size = vlm.processor.image_processor.size
    vlm.processor.image_processor.size = type(size)(shortest_edge=1024, longest_edge=1024)
    folders.add(compute(case).folder)
    vlm.processor.image_processor.size = size
    shutil.copytree(next(iter(map(cache_folder.Path, sizes))).parent, tmp_path / "images")
    copied = {str(tmp_path / "images" / path.rpartition("/")[2]): side for path, side in sizes.items()}
    assert compute((vlm, copied)).folder in folders
    first = next(iter(copied))
    images.write_png(cache_folder.Path(first), 255 - read_image(first))
    folders.add(compute((vlm, copied)).folder)
    assert len(folders) == 4


def test_a_killed_run_leaves_no_broken_file(case, cache, monkeypatch):
    expected = direct(case)
    monkeypatch.setattr(cached_features.safetensors.torch, "save_file", lambda *a: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        compute(case)
    monkeypatch.undo()
    monkeypatch.setenv("GEOCLICK_CACHE", str(cache))
    assert not list(cache.rglob("*.safetensors"))
    assert same(compute(case), expected)


def test_a_damaged_file_is_one_sentence(case, cache):
    found = compute(case)
    cached_features.file_of(found.folder, 1).write_bytes(b"damaged")
    with pytest.raises(
        GeoClickError, match=r"000001.safetensors is damaged or was deleted; delete its folder"
    ):
        list(compute(case).values())


def in_process(case, rank, results):
    """Compute as one of two processes; returns how many batches were computed, and the features' sum."""
    import os

    os.environ |= {"WORLD_SIZE": "2", "RANK": str(rank)}
    torch.set_num_threads(1)
    batches = []
    of_images = vision_features.of_images
    vision_features.of_images = lambda *a, **k: batches.append(1) or of_images(*a, **k)
    found = compute(case)
    results.put((len(batches), [found[path].fields["pooler_output"].double().sum().item() for path in found]))


def test_two_processes_share_the_work(case, cache):
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    both = [context.Process(target=in_process, args=(case, rank, results)) for rank in range(2)]
    for process in both:
        process.start()
    (one, sums), (two, others) = results.get(timeout=120), results.get(timeout=120)
    for process in both:
        process.join()
    assert sums == others
    # Two batches, and the first one of each process that tells the size.
    assert 3 <= one + two <= 4
    assert sums == [f.fields["pooler_output"].double().sum().item() for f in direct(case).values()]


def test_features_of_earlier_runs_make_room_unless_they_are_in_use(case, cache, monkeypatch):
    vlm, sizes = case
    halves = [dict(list(sizes.items())[part::2]) for part in range(2)]
    first = compute((vlm, halves[0]))
    limit = int(1.5 * first.nbytes)
    compute((vlm, halves[1]), limit)
    # This process holds the first one.
    assert len(list(cache.glob("features/*/*.safetensors"))) == 2
    for lock in cached_features._held:
        lock.close()
    third = dict(list(sizes.items())[:10])
    features = compute((vlm, third), limit)
    assert {path.parent for path in cache.glob("features/*/*.safetensors")} == {features.folder}
    assert compute((vlm, third), features.nbytes // 2) is None
