import os

import pytest
import torch

from geoclick.errors import GeoClickError
from geoclick.train.data import shared_work


@pytest.fixture(params=[1, 2])
def processors(request, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(request.param)))
    return request.param


def test_results_come_in_order(processors):
    processes = set()

    def work(item):
        return item * item, os.getpid()

    found = list(shared_work.in_processes(work, list(range(50))))
    assert [result for result, _ in found] == [item * item for item in range(50)]
    processes = {process for _, process in found}
    assert len(processes) == processors
    assert (os.getpid() in processes) == (processors == 1)


@pytest.mark.parametrize("count", [0, 1, 7, 8, 100])
def test_blocks_hold_each_row_once(processors, monkeypatch, count):
    monkeypatch.setattr(shared_work, "BLOCK", 8)
    monkeypatch.setattr(shared_work, "LONG", 50)
    found = list(shared_work.blocks_of(list, count, "Rows"))
    assert [row for block in found for row in block] == list(range(count))
    assert all(len(block) == 8 for block in found[:-1])


def test_an_error_of_ours_is_raised_as_it_is(processors):
    def work(item):
        if item == 3:
            raise GeoClickError("Row 3 is broken.")
        return item

    found = []
    with pytest.raises(GeoClickError, match=r"^Row 3 is broken\.$"):
        found.extend(shared_work.in_processes(work, range(6)))


def test_the_random_numbers_of_a_run_stay_the_same(processors):
    before = torch.random.get_rng_state()
    list(shared_work.in_processes(str, range(4)))
    assert torch.equal(torch.random.get_rng_state(), before)
