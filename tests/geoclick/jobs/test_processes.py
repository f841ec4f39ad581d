import pytest
import torch

from geoclick.errors import GeoClickError
from geoclick.jobs import processes


def test_rank_and_number_of_processes_come_from_the_environment(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setenv("RANK", "3")
    assert (processes.count(), processes.rank(), processes.is_first()) == (1, 0, True)
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert (processes.count(), processes.rank(), processes.is_first()) == (4, 3, False)


def test_each_process_has_a_gpu_of_its_own_unless_one_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert processes.device("auto") == "auto"
    monkeypatch.setenv("WORLD_SIZE", "8")
    devices = []
    for local in "0123":
        monkeypatch.setenv("LOCAL_RANK", local)
        devices.append(processes.device("auto"))
    assert devices == ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]
    assert (processes.device("cpu"), processes.device("cuda:7")) == ("cpu", "cuda:7")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert processes.device("auto") == "cpu"


def test_waiting_for_process_0_ends_with_an_error(monkeypatch):
    monkeypatch.setattr(processes, "FIRST_TIMEOUT", 0.0)
    with pytest.raises(
        GeoClickError, match=r"Process 0 has not generated scenes within 0 seconds; .* rerun the command"
    ):
        processes.wait_for_first(lambda: False, "generated scenes")
    processes.wait_for_first(lambda: True, "generated scenes")
