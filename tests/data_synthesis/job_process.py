"""One process of a job for the tests, with the segmenter of discs: tests call `start`, the process runs `main`."""

import os
import subprocess
import sys
import time
from pathlib import Path

from tests.paths import REPO


def start(root, output, rank, world, *, at_embed="", delay=0.0, parts="one", policy="center"):
    """Process `rank` of `world`, as a launcher starts it; `at_embed` is code that it runs when it embeds."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "RANK": str(rank), "WORLD_SIZE": str(world)}
    return subprocess.Popen(
        [sys.executable, __file__, root, output, at_embed, str(delay), parts, policy],
        env=environment | {"PYTHONPATH": str(REPO)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_until(condition, *jobs):
    """Wait for a condition, four minutes at most on a busy machine; the end of a job ends the wait."""
    deadline = time.time() + 240
    while not condition() and time.time() < deadline and all(job.poll() is None for job in jobs):
        time.sleep(0.005)
    assert condition(), [job.communicate() for job in jobs if job.poll() is not None]


def main():
    """Run the job and write the number of images that it embedded next to the output."""
    from geoclick.command import exit_code
    from geoclick.data_synthesis.run import SynthOptions, run
    from tests.data_synthesis.disc_segmenter import DiscSegmenter
    from tests.data_synthesis.pointing_student import PointingStudent, three_places

    root, output, at_embed, delay, parts, policy = sys.argv[1:]

    class Segmenter(DiscSegmenter):
        def embed(self, images):
            exec(at_embed, {"output": Path(output), "rank": int(os.environ["RANK"])})
            return super().embed(images)

    segmenter = Segmenter(float(delay))
    options = {"root": root, "output": output, "split": "train", "shards": 6, "batch": 1, "sheet": 0}
    options |= {"parts": parts, "policy": policy} | ({"adapter": "-"} if policy == "on-policy" else {})
    student = PointingStudent(three_places) if policy == "on-policy" else None
    code = exit_code(lambda: run(SynthOptions(**options), segmenter, student))
    Path(f"{output}.embedded-{os.environ['RANK']}").write_text(str(len(segmenter.embedded)))
    sys.exit(code)


if __name__ == "__main__":
    main()
