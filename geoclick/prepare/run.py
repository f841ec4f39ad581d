"""`geoclick prepare JOB`: convert the public download of a benchmark to the layout of its reader.

    geoclick prepare potsdam --root downloads/potsdam --output data/potsdam
    geoclick prepare potsdam --output data/potsdam --verify

The output is `img_dir/SPLIT` with `ann_dir/SPLIT` (for xbd `SPLIT/images_pre` with `SPLIT/targets_cvt_pre`) and
`prepared.json`. A killed job is resumed by rerunning the command, and ends with the same bytes.
"""

import os
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from geoclick.command import Command, print_next
from geoclick.config import option
from geoclick.errors import UsageError
from geoclick.prepare import JOBS, Job
from geoclick.prepare.manifest import Identity, Manifest

VERSION = 1
"""Version of what the jobs write; a job does not resume the output of another version."""

PATIENCE = 5.0
"""Seconds to wait for the workers of a job that was killed."""


@dataclass(frozen=True)
class PrepareOptions:
    """Options of `geoclick prepare`."""

    job: str = option(positional=True, help=f"the benchmark: {', '.join(JOBS)}", choices=tuple(JOBS))
    output: str = option(help="folder to write; rerun the command to resume an unfinished one")
    root: str | None = option(None, help="folder with the public download, its archives unpacked")
    split: str | None = option(None, help="split of the dataset (default: the scored one)")
    only: tuple[str, ...] = option(
        (), help="raw images to process, by name or by first part, such as 2_13, area2, seq21 (default: all)"
    )
    workers: int = option(
        os.cpu_count() or 1,
        help="number of processes, each with one raw image in memory",
        minimum=1,
        maximum=1024,
    )
    verify: bool = option(False, help="only compare an existing output with its prepared.json")


def run(options: PrepareOptions) -> None:
    """Prepare a dataset, resume an unfinished job, or verify an output."""
    from geoclick import output_folder
    from geoclick.jobs import worker_pool
    from geoclick.prepare import manifest, progress, raw_files, tile_writer

    output, job = Path(options.output), JOBS[options.job]
    if options.verify:
        count = manifest.verify(output, options.job, options.workers)
        print(f"The {count} files in {output} are those of {manifest.NAME}.")
        return
    if options.root is None:
        raise UsageError("Missing --root; name the folder with the unpacked download.")
    split = options.split or next(iter(job.splits))
    if split not in job.splits:
        raise UsageError(f"--split of {options.job} must be one of {', '.join(job.splits)}, not {split}.")
    output_folder.check(output, "prepare")
    sources = raw_files.find(job, Path(options.root), split, options.only)
    identity: Identity = {
        "job": options.job,
        "version": VERSION,
        "split": split,
        "tile": list(job.tile) if job.tile else None,
        "overlap": job.overlap,
        "images": [source.name for source in sources],
    }
    folder = progress.PreparedFolder(output, identity)
    folder.check()
    if folder.is_tidy():
        print(f"{output} is complete already; --verify checks it.")
        return
    with output_folder.opened(output, "prepare", patience=PATIENCE):
        folder.check()
        if folder.is_complete():
            folder.end()
            print(f"{output} is complete already; --verify checks it.")
            return
        folder.record()
        output_folder.write_config(options, output, "prepare")
        missing = [source for source in sources if tile_writer.read_record(output, source.name) is None]
        write_tiles = partial(tile_writer.write_tiles, options.job, split=split, output=output)
        worker_pool.for_each(write_tiles, missing, options.workers, f"Preparing {job.title}")
        finished = folder.finish()
    print(_summary(job, finished, output))
    print_next("evaluate", "--dataset", options.job, "--root", output, "--output", f"runs/{options.job}")


def _summary(job: Job, finished: Manifest, output: Path) -> str:
    """The last lines of output: the numbers of images and tiles next to the published ones."""
    published, images, tiles = job.splits[finished["split"]], len(finished["images"]), finished["tiles"]
    if (images, tiles) == (published.images, published.tiles):
        comparison = "as published"
    else:
        comparison = f"published: {published.tiles or 'an unknown number'} of {published.images}"
    lines = [
        f"{job.title} {finished['split']}: {tiles} tiles of {images} raw images in {output} ({comparison})"
    ]
    if unknown := finished["unknown_pixels"]:
        ignored = "" if job.ignored is None else " and are ignored"
        lines.append(
            f"note: {sum(unknown.values())} label pixels of {len(unknown)} raw images have an unknown color or value"
            f"{ignored}; prepared.json counts them."
        )
    return "\n".join(lines)


main = Command(
    prog="geoclick prepare",
    options=PrepareOptions,
    run=run,
    description="Cut and decode the public download of a benchmark to the layout of its reader.",
    example="geoclick prepare potsdam --root downloads/potsdam --output data/potsdam",
)


if __name__ == "__main__":
    sys.exit(main())
