"""Shared set-up: tests stay on one thread, on the CPU unless they are marked `gpu`, and off the network.

Hypothesis has no deadline: on a shared machine a slow example is no failure. It draws 40 examples, and 1,000 with
`--hypothesis-profile thorough`.
"""

import os
import tempfile
from collections.abc import Iterator

import pytest
from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
if "GEOCLICK_CACHE" not in os.environ:
    # Removed at the end; the processes of a test inherit it.
    CACHE = tempfile.TemporaryDirectory(prefix="geoclick-cache-")
    os.environ["GEOCLICK_CACHE"] = CACHE.name
settings.register_profile("calm", deadline=None, max_examples=40)
settings.register_profile("thorough", deadline=None, max_examples=1000)
settings.load_profile("calm")


@pytest.fixture
def short_answers() -> Iterator[None]:
    """Default answers of at most three clicks; only for tests whose models run in this process."""
    from tests import tiny

    with tiny.short_answers():
        yield


def pytest_configure(config: pytest.Config) -> None:
    """Hide GPUs from tests whose expected values are those of a CPU."""
    marks = config.option.markexpr
    if "gpu" not in marks or "not gpu" in marks:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the longest file first, so that no process waits for it at the end."""
    items.sort(key=lambda item: item.path.name != "test_chain.py")
