"""A value is computed once; a damaged file is computed again; a full cache takes nothing more."""

import os
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest

from geoclick.inference.contrastive.cache import GIB, Cache, Stored, image_key

NUMBERS = Stored("numbers", lambda value: str(value).encode(), int)


def test_a_value_is_computed_once(tmp_path):
    cache = Cache(tmp_path)
    assert NUMBERS.value(cache, {"a": 1}, lambda: 7) == 7
    assert NUMBERS.value(cache, {"a": 1}, lambda: 8) == 7
    assert NUMBERS.value(cache, {"a": 2}, lambda: 9) == 9
    assert (cache.made, cache.read) == (2, 1)
    assert NUMBERS.value(None, {"a": 1}, lambda: 8) == 8
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 2
    assert Cache(tmp_path).size == cache.size == sum(path.stat().st_size for path in files)


@pytest.mark.parametrize(
    "damage", [lambda b: b"", lambda b: b[:-1], lambda b: b[:-1] + b"8", lambda b: b"x" + b]
)
def test_a_damaged_file_is_computed_again_and_one_line_says_so(tmp_path, capsys, damage):
    cache = Cache(tmp_path)
    NUMBERS.value(cache, {}, lambda: 7)
    path = cache.path("numbers", {})
    path.write_bytes(damage(path.read_bytes()))
    assert NUMBERS.value(Cache(tmp_path), {}, lambda: 9) == 9
    assert capsys.readouterr().out == f"{path} is damaged; its value is computed again.\n"
    assert NUMBERS.value(Cache(tmp_path), {}, lambda: 1) == 9


def test_a_full_cache_says_so_once_and_takes_nothing_more(tmp_path, capsys):
    cache = Cache(tmp_path, limit=100)
    values = [NUMBERS.value(cache, {"n": n}, lambda n=n: n) for n in range(4)]
    assert values == [0, 1, 2, 3]
    assert cache.size <= 100
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"The cache {tmp_path} has reached its limit of {100 / GIB:g} GiB")


def save(folder, content):
    cache = Cache(folder)
    for _ in range(50):
        cache.save(cache.path("numbers", {}), content)
    return os.getpid()


def test_two_processes_may_write_one_value(tmp_path):
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(save, [tmp_path] * 2, [b"12345" * 1000] * 2))
    cache = Cache(tmp_path)
    assert cache.load(cache.path("numbers", {})) == b"12345" * 1000
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 1


def test_the_key_of_an_image_is_that_of_its_pixels_and_shape():
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    assert image_key(image) == image_key(np.asfortranarray(image))
    assert image_key(image) != image_key(image.reshape(4, 2, 3))
    assert image_key(image) != image_key(image + 1)
