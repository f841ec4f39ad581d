"""Shared set-up: `import tiny` works everywhere, and tests stay on one thread and off the network.

Hypothesis has no deadline: on a shared machine a slow example is no failure.
"""

import os

from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
settings.register_profile("calm", deadline=None)
settings.load_profile("calm")
