"""A backend for the faulty server of the tests."""

import numpy as np

from geoclick.inference.backends import openai
from geoclick.options import GenerationOptions

KEY = "sk-test-0123456789abcdefghij"
IMAGE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


def backend(server, *, temperature=None, folder=None, **options):
    words = {"backend": "openai", "vlm": "tiny", "base_url": server.url, "retries": 3, "timeout": 5.0}
    return openai.load(GenerationOptions(**(words | options)), temperature=temperature, ledger=folder)


def ask(server, *queries, **options):
    made = backend(server, **options)
    return made.answer([IMAGE] * len(queries), queries)
