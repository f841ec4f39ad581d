"""A segmenter of discs for workers in other processes: it tells who embeds, and does what a test wants then."""

import os
import time

from tests.data_synthesis.disc_segmenter import DiscSegmenter


class TellingSegmenter(DiscSegmenter):
    """Leaves a file named after each process that embeds in the folder `told`; `at_embed` is done then."""

    def __init__(self, told, at_embed=lambda: None):
        super().__init__()
        self.told, self.at_embed = told, at_embed

    def embed(self, images):
        (self.told / str(os.getpid())).touch()
        self.at_embed()
        return super().embed(images)


def numbers(told):
    """The processes that have embedded."""
    return {int(path.name) for path in told.iterdir()}


def until(condition, *arguments):
    """Wait for a condition, four minutes at most."""
    deadline = time.time() + 240
    while not condition(*arguments):
        assert time.time() < deadline
        time.sleep(0.01)
