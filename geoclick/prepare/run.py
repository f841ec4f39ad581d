"""`geoclick prepare JOB`: the public download of a benchmark to the layout that its reader reads.

    geoclick prepare potsdam --root downloads/potsdam --output data/potsdam
    geoclick prepare potsdam --output data/potsdam --verify

The output is `img_dir/SPLIT` with `ann_dir/SPLIT` (of xbd `SPLIT/images_pre` with `SPLIT/targets_cvt_pre`) and
`prepared.json`. A job that was killed goes on when the same command is given again, and ends with the same bytes.
"""

import os
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoclick import config
from geoclick.command import Command
from geoclick.config import option
from geoclick.errors import UsageError

if TYPE_CHECKING:
    from geoclick.prepare import Job

NAMES = ("potsdam", "vaihingen", "isaid", "uavid", "inria", "loveda", "xbd")
VERSION = 1
"""Of what the jobs write: another one does not go on with what this one left."""


@dataclass(frozen=True)
class PrepareOptions:
    """What `geoclick prepare` takes."""

    job: str = option(positional=True, help=f"the benchmark: {', '.join(NAMES)}", choices=NAMES)
    output: str = option(help="folder to write; the same command on it goes on where it was stopped")
    root: str | None = option(None, help="folder with the public download, its archives unpacked")
    split: str | None = option(None, help="split of the set; none takes the one that is scored")
    only: tuple[str, ...] = option(
        (), help="raw images to take instead of all, by name or by first part, such as 2_13, area2, seq21"
    )
    workers: int = option(
        os.cpu_count() or 1, help="processes that cut, each with one raw image in memory", minimum=1
    )
    verify: bool = option(False, help="only check that an output still is what its prepared.json says")


def run(options: PrepareOptions) -> None:
    """Prepare a set, or go on with it, or check it."""
    from geoclick.prepare import JOBS, manifest, output_folder, pool, raw_files, tile_writer

    output, job = Path(options.output), JOBS[options.job]
    if options.verify:
        count = manifest.verify(output, options.job, options.workers)
        print(f"{count} files in {output} are as {manifest.NAME} says.")
        return
    if options.root is None:
        raise UsageError("Missing --root; name the folder with the unpacked download.")
    split = options.split or next(iter(job.splits))
    if split not in job.splits:
        raise UsageError(f"--split of {options.job} must be one of {', '.join(job.splits)}, not {split}.")
    found = raw_files.find(job, Path(options.root), split, options.only)
    begun = {
        "job": options.job,
        "version": VERSION,
        "split": split,
        "tile": job.tile and list(job.tile),
        "overlap": job.overlap,
        "images": [source.name for source in found],
    }
    if output_folder.is_whole(output, begun):
        print(f"{output} is whole already; --verify checks it.")
        return
    output_folder.check_origin(output, begun)
    with pool.alone(output / tile_writer.FOLDER / "lock"):
        output_folder.begin(output, begun)
        config.write_config(options, output)
        missing = [source for source in found if tile_writer.read_account(output, source.name) is None]
        one = partial(tile_writer.prepare, options.job, split=split, output=output)
        pool.each(one, missing, options.workers, f"Preparing {job.title}")
        whole = output_folder.finish(output, begun)
    print(_told(job, whole, output))


def _told(job: "Job", whole: dict[str, Any], output: Path) -> str:
    """The last lines, with what is published beside what there is."""
    published, images, tiles = job.splits[whole["split"]], len(whole["images"]), whole["tiles"]
    if (images, tiles) == (published.images, published.tiles):
        beside = "as published"
    else:
        beside = f"published: {published.tiles or 'an unknown number'} of {published.images}"
    lines = [f"{job.title} {whole['split']}: {tiles} pictures of {images} raw images in {output} ({beside})"]
    if unknown := whole["unknown_pixels"]:
        ignored = "" if job.ignored is None else " and are ignored"
        lines.append(
            f"note: {sum(unknown.values())} label pixels of {len(unknown)} raw images have a color or value that "
            f"{job.title} does not name{ignored}; prepared.json counts them."
        )
    return "\n".join(lines)


main = Command(
    prog="geoclick prepare",
    options=PrepareOptions,
    run=run,
    description="Cut and decode the public download of a benchmark to the layout that its reader reads.",
    example="geoclick prepare potsdam --root downloads/potsdam --output data/potsdam",
)


if __name__ == "__main__":
    sys.exit(main())
