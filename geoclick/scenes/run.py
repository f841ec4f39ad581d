"""`geoclick scenes OUT --count N`: procedural overhead scenes with masks and queries, in the plain-folder layout.

With `--layout NAME` they are written as a tiny copy of a public dataset, to try the commands that read it.
"""

import os
import sys
from dataclasses import dataclass, fields, replace
from pathlib import Path

from geoclick import output_folder
from geoclick.command import Command, print_next
from geoclick.config import option
from geoclick.datasets.benchmarks import BENCHMARKS
from geoclick.errors import UsageError
from geoclick.scenes import drawing
from geoclick.scenes.copies import LAYOUTS
from geoclick.scenes.drawing import TASKS, VARIED_TASKS

COUNT, COPY_COUNT = 300, 6


@dataclass(frozen=True)
class ScenesOptions:
    """Options of `geoclick scenes`."""

    output: str = option(positional=True, help="folder to write; each split is a folder in it")
    count: int | None = option(
        None,
        help=f"number of samples (default: {COUNT}); with --layout, images of the scored split (default: {COPY_COUNT})",
        minimum=1,
    )
    split: str = option("train", help="name of the split; each split has scenes of its own for the same seed")
    seed: int = option(0, help="random seed; the same seed gives the same files", minimum=0)
    version: int = option(
        1,
        help="1: scenes with single targets, as in scenes-v1; 2: with groups and objects that are hard to segment, "
        "as in scenes-v2",
        minimum=1,
    )
    tasks: tuple[str, ...] = option(
        (),
        help="kinds of query; every scene gets one of each (default: all; the last three need --version 2)",
        choices=VARIED_TASKS,
    )
    workers: int = option(os.cpu_count() or 1, help="number of processes", minimum=1, maximum=1024)
    layout: str | None = option(
        None,
        choices=tuple(LAYOUTS),
        help="public dataset to write a tiny copy of; plain folders if it is omitted",
    )


def run(options: ScenesOptions) -> None:
    """Draw scenes as plain folders, or as a tiny copy of a public dataset."""
    if options.layout is None:
        write_folder(replace(options, count=options.count or COUNT))
    else:
        write_copy(options.layout, replace(options, count=options.count or COPY_COUNT))


def write_copy(layout: str, options: ScenesOptions) -> None:
    """Write a tiny copy of a public dataset in a new folder."""
    for field in fields(ScenesOptions):
        if field.name in ("split", "tasks", "version") and getattr(options, field.name) != field.default:
            raise UsageError(
                f"--{field.name} is not for --layout, which has splits and queries of its own; leave it out."
            )
    root = Path(options.output)
    check_empty(root)
    with output_folder.opened(root, "scenes"):
        check_empty(root)
        print(f"drawing a copy of {layout} into {root}", flush=True)
        LAYOUTS[layout](root, options.count or COPY_COUNT, options.seed)
        output_folder.write_config(options, root, "scenes")
    print(f"A copy of {layout} with {options.count} images is in {root}.")
    if layout in BENCHMARKS:
        split = BENCHMARKS[layout].split
        print(f"Read it with --dataset {layout} --root {root} --split {split}")
        reading = ["--dataset", layout, "--root", root, "--split", split]
        print_next("evaluate", *reading, "--output", f"runs/{layout}")


def check_empty(root: Path) -> None:
    """Raise UsageError if a folder holds anything."""
    if root.exists() and (
        not root.is_dir() or any(path.name != output_folder.LOCK for path in root.iterdir())
    ):
        raise UsageError(f"{root} exists already and is not an empty folder; name another OUT, or remove it.")


def write_folder(options: ScenesOptions) -> None:
    """Draw a split as a plain folder."""
    folder = split_folder(Path(options.output), options.split)
    output_folder.check_origin(Path(options.output), "scenes")
    split = drawing.SplitOptions(
        split=options.split,
        count=options.count or COUNT,
        seed=options.seed,
        tasks=tasks_of(options),
        version=options.version,
    )
    with output_folder.opened(folder, "scenes"):
        drawing.check_new(folder)
        output_folder.write_config(options, folder, "scenes")
        print(f"drawing {split.count:,} samples into {folder}", flush=True)
        drawing.write_split(folder, split, options.workers)
    data = ["--root", options.output, "--split", options.split]
    if options.split == "train":
        print_next("synth", *data, "--output", "runs/clicks")
    else:
        print_next("evaluate", *data, "--output", "runs/evaluate")


def tasks_of(options: ScenesOptions) -> tuple[str, ...]:
    """The kinds of query; raises UsageError for an unknown version, or one that is too low for them."""
    if options.version > 2:
        raise UsageError(f"--version is 1 or 2, not {options.version}.")
    if options.version == 2:
        return options.tasks or VARIED_TASKS
    for task in options.tasks:
        if task not in TASKS:
            raise UsageError(f"--tasks {task} needs scenes with groups and hard objects; add --version 2.")
    return options.tasks or TASKS


def split_folder(output: Path, split: str) -> Path:
    """The folder of a split; raises UsageError if it does not lie directly in the output folder."""
    folder = output / split
    if Path(split).name != split or split in ("", ".", ".."):
        raise UsageError(f"--split is the name of a folder in OUT, without slashes, not {split!r}.")
    if folder.is_symlink():
        raise UsageError(f"{folder} is a link to another place; remove it, or name another OUT.")
    return folder


main = Command(
    prog="geoclick scenes",
    options=ScenesOptions,
    run=run,
    description="Draw procedural overhead scenes with exact masks and queries, as plain folders or as a tiny copy "
    "of a public dataset.",
    example="geoclick scenes runs/scenes --count 300 --split train\n"
    "  geoclick scenes runs/scenes-2 --version 2 --count 300\n"
    "  geoclick scenes runs/loveda --layout loveda --count 6",
)


if __name__ == "__main__":
    sys.exit(main())
