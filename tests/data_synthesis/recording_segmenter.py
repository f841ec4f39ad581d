"""A segmenter of discs for workers in other processes: it records which process embeds, and runs a test's function."""

import os
import time

from tests.data_synthesis.disc_segmenter import DiscSegmenter


class RecordingSegmenter(DiscSegmenter):
    """Creates a file named after each process that embeds in `folder`, and calls `at_embed` there."""

    def __init__(self, folder, at_embed=lambda: None):
        super().__init__()
        self.folder, self.at_embed = folder, at_embed

    def embed(self, images):
        (self.folder / str(os.getpid())).touch()
        self.at_embed()
        return super().embed(images)


def process_ids(folder):
    """The processes that have embedded."""
    return {int(path.name) for path in folder.iterdir()}


def until(condition, *arguments):
    """Wait for a condition, four minutes at most."""
    deadline = time.time() + 240
    while not condition(*arguments):
        assert time.time() < deadline
        time.sleep(0.01)
