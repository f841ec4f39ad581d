import pytest
import torch

from geoclick import devices
from geoclick.errors import GeoClickError, UsageError


def limited(limit):
    """A function that has memory for `limit` items, and the batches that it was given."""
    batches = []

    def function(batch):
        batches.append(len(batch))
        if len(batch) > limit:
            raise torch.OutOfMemoryError
        return [2 * item for item in batch]

    return function, batches


def test_a_batch_is_halved_until_it_fits_and_stays_so(capsys):
    function, batches = limited(2)
    size = devices.BatchSize(8, "windows")
    results = [r for batch in size.run(range(11), function) for r in batch]
    assert results == [2 * i for i in range(11)]
    assert batches == [8, 4, 2, 2, 2, 2, 2, 1]
    message = capsys.readouterr().err
    assert "too small for 8 windows at once; continuing with 4" in message
    assert list(size.run(range(3), function)) == [[0, 2], [4]]
    assert batches[8:] == [2, 1]


def test_a_batch_that_fits_is_silent(capsys):
    assert list(devices.BatchSize(4, "windows").run([1, 2], lambda batch: len(batch))) == [2]
    assert list(devices.BatchSize(4, "windows").run([], len)) == []
    assert capsys.readouterr().err == ""


def test_one_item_that_does_not_fit_is_an_error():
    function, _ = limited(0)
    with pytest.raises(GeoClickError, match="one of the windows; use a smaller model or --device cpu"):
        list(devices.BatchSize(4, "windows").run([1, 2], function))


def test_memory_that_is_too_small_for_a_whole_is_an_error():
    with (
        pytest.raises(GeoClickError, match="too small for an image; use a smaller model") as error,
        devices.enough_memory("an image"),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate")
    assert "\n" not in str(error.value)
    with devices.enough_memory("an image"):
        pass


def test_a_wrong_device_is_a_usage_error():
    assert devices.choose("cpu") == torch.device("cpu")
    with pytest.raises(UsageError, match="Unknown device 'gpu7'"):
        devices.choose("gpu7")
    for name in ("mps", "xpu", "meta", "cpu:7"):
        with pytest.raises(UsageError, match=f"Device {name} is not supported; use auto, cpu, cuda"):
            devices.choose(name)
