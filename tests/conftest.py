"""Shared set-up: tests stay on one thread, on the CPU unless they are marked `gpu`, and off the network.

Hypothesis has no deadline: on a shared machine a slow example is no failure.
"""

import os
import tempfile

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
settings.register_profile("calm", deadline=None)
settings.load_profile("calm")


def pytest_configure(config: pytest.Config) -> None:
    """Hide GPUs from tests whose expected values are those of a CPU."""
    marks = config.option.markexpr
    if "gpu" not in marks or "not gpu" in marks:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the longest file first, so that no process waits for it at the end."""
    items.sort(key=lambda item: item.path.name != "test_chain.py")
