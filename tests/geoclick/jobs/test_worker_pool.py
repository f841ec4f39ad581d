import os
from functools import partial
from pathlib import Path

import pytest

from geoclick.errors import GeoClickError
from geoclick.jobs import worker_pool


def touch(folder: Path, number: int) -> None:
    if number == 3:
        raise GeoClickError("the third one")
    (folder / str(number)).touch()


def die(_number: int) -> None:
    os._exit(9)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_work_is_done_once_each(tmp_path, workers):
    worker_pool.for_each(partial(touch, tmp_path), [0, 1, 2, 4, 5], workers, "Working")
    assert {path.name for path in tmp_path.iterdir()} == set("01245")


@pytest.mark.parametrize("workers", [1, 2])
def test_the_first_error_ends_the_work(tmp_path, workers):
    with pytest.raises(GeoClickError, match="the third one"):
        worker_pool.for_each(partial(touch, tmp_path), [3, *range(100, 2000)], workers, "Working")
    assert len(list(tmp_path.iterdir())) < 1900


def test_a_dead_process_is_one_sentence():
    with pytest.raises(GeoClickError, match=r"A worker process died, .* with fewer --workers\.$"):
        worker_pool.for_each(die, [1, 2], 2, "Working")


def test_there_are_no_more_processes_than_items(tmp_path, monkeypatch):
    numbers = []
    make = worker_pool.ProcessPoolExecutor
    monkeypatch.setattr(
        worker_pool, "ProcessPoolExecutor", lambda n, **rest: numbers.append(n) or make(n, **rest)
    )
    worker_pool.for_each(partial(touch, tmp_path), [1, 2], 5400, "Working")
    worker_pool.for_each(partial(touch, tmp_path), [4], 5400, "Working")
    assert numbers == [2]


def test_nothing_to_do_is_no_error():
    for workers in (1, 2):
        worker_pool.for_each(die, [], workers, "Working")
