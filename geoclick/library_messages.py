"""Messages of libraries that a user cannot act on are dropped; all others are shown."""

import logging

DROPPED = {
    "bitsandbytes.backends.cpu.ops": "kernels-community",
    "DeepSpeed": "Setting accelerator to CPU",
    "transformers.configuration_utils": "to instantiate a model of type `sam",
    "transformers.utils.generic": "`past_key_values`/`cache_params` are deprecated",
}
"""Loggers, each with words of its message: a faster kernel for CPUs is not installed, there is no GPU, SAM 2 and SAM 3
are published as models for videos, and an argument has a new name in the newest transformers, which earlier ones do not
know."""


def drop() -> None:
    """Drop these messages; to be called before the libraries are imported."""
    for name, words in DROPPED.items():
        logger = logging.getLogger(name)
        if not any(isinstance(one, _Without) for one in logger.filters):
            logger.addFilter(_Without(words))


class _Without(logging.Filter):
    def __init__(self, words: str) -> None:
        super().__init__()
        self.words = words

    def filter(self, record: logging.LogRecord) -> bool:
        return self.words not in record.getMessage()
