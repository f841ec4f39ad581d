"""`geoclick synth`: ground-truth masks to click sequences, with a frozen segmenter in the loop.

    geoclick synth --dataset folder --root DATA --split train --segmenter embedded --output runs/synth

    accelerate launch --config_file accelerate_configs/multi_gpu.yaml -m data_synthesis.run ...   (or torchrun)
    geoclick synth --engine ray ...                                       (a Ray cluster, or this machine as one)

The output is a click store (clicks-*.parquet, manifest.json) with metrics.json, failures.jsonl, dropped.jsonl,
config.yaml and sheet.png. The same command continues an interrupted job, with any number of processes or workers: they
share the shards, and the bytes are those of one process.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from geoclick import output_folder, progress_bar
from geoclick.command import Command, print_next
from geoclick.data_synthesis.shards.options import SHARD_SAMPLES, SynthOptions
from geoclick.errors import GeoClickError
from geoclick.files import write_whole
from geoclick.jobs import failures, processes

if TYPE_CHECKING:
    from geoclick.data_synthesis.shards.job import Job, LoadSegmenter
    from geoclick.data_synthesis.shards.student import Student
    from geoclick.datasets import LeftOut, Sample
    from geoclick.segmenters.base import Segmenter
    from geoclick.segmenters.clicking import Multimask


def run(
    options: SynthOptions, segmenter: "Segmenter | None" = None, student: "Student | None" = None
) -> None:
    """Make or continue a click store.

    Args:
        options: the options.
        segmenter: used instead of the one that the options name, so that a test can pass a fake.
        student: used instead of the model that the options name, likewise.
    """
    options.check()
    output_folder.check(Path(options.output), "synth")
    from geoclick import datasets
    from geoclick.data_synthesis.shards.samples import check_contradictions, read_samples

    # Before the model libraries are imported.
    options = replace(options, root=datasets.root_of(options.dataset, options.root))
    samples, left_out = read_samples(options)
    processes.print_loading(f"the segmenter {options.segmenter} for {len(samples):,} samples")
    from geoclick.data_synthesis.shards import job as jobs
    from geoclick.data_synthesis.shards import progress

    load = segmenter_loader(options, segmenter)
    job = make_job(options, load, student)
    settings = describe(options, job, samples)
    folder = progress.StoreFolder(Path(options.output), settings)
    if not folder.is_complete():
        check_contradictions(samples, options)
    with folder.open() as held:
        if held is None:
            if processes.is_first():
                print(f"{options.output} is complete already; nothing to do.")
            return
        if processes.is_first():
            output_folder.write_config(options, folder.path, folder.COMMAND)
        write_shards(options, job, jobs.split_shards(samples, settings["shards"]), held, load)
        if processes.is_first():
            finish(options, job, settings, left_out)
        else:
            folder.wait_until_complete(held)


def segmenter_loader(options: SynthOptions, segmenter: "Segmenter | None") -> "LoadSegmenter":
    """What loads the segmenter on a device, here and in workers."""
    if segmenter is not None:
        return partial(_same, segmenter)
    import torch

    from geoclick import segmenters

    return partial(
        segmenters.load,
        options.segmenter,
        checkpoint=options.checkpoint,
        dtype=None if options.precision == "float32" else getattr(torch, options.precision),
        compiled=options.compile,
    )


def _same(segmenter: "Segmenter", *, device: str) -> "Segmenter":
    """A test's fake, on any device."""
    return segmenter


def make_job(options: SynthOptions, load: "LoadSegmenter", student: "Student | None" = None) -> "Job":
    """How the shards are made."""
    from geoclick.data_synthesis.shards import student as students
    from geoclick.data_synthesis.shards.job import Job
    from geoclick.segmenters.clicking import Prompting

    if options.is_on_policy and student is None:
        from geoclick.vlms import pixel_rules

        student = students.load(
            options.vlm,
            options.adapter,
            processes.device(options.device),
            pixels=(options.min_pixels, options.max_pixels),
        )
        warning = pixel_rules.warning(student.vlm.record, options.pixels())
        if warning and processes.is_first():
            print(f"warning: {warning}")
    return Job(
        # Under Ray the GPUs belong to the workers.
        segmenter=load(device="cpu" if options.engine == "ray" else processes.device(options.device)),
        max_clicks=options.max_clicks,
        iou_target=options.iou_target,
        prompting=Prompting(cast("Multimask", options.multimask), options.feedback),
        seed=options.seed,
        batch=options.batch,
        image_batch=options.image_batch,
        clicker=options.clicker,
        sequences=options.sequences,
        parts=options.part_rules,
        student=student,
        own_clicks=options.own_clicks,
        show_masks=options.show_masks,
    )


def describe(options: SynthOptions, job: "Job", samples: "Sequence[Sample]") -> dict[str, Any]:
    """Everything that decides the store: a job with other settings does not continue it."""
    from geoclick.data_synthesis.shards import progress

    return {
        **options.recorded(),
        "shards": options.shards or max(1, -(-len(samples) * options.sequences // SHARD_SAMPLES)),
        "segmenter": job.segmenter.name,
        "segmenter_sha256": job.segmenter.sha256,
        "samples_read": len(samples),
        "samples_sha256": progress.fingerprint(samples),
        "pixels_sha256": progress.pixels_fingerprint(samples),
        **(job.student.describe() if job.student else {}),
    }


def write_shards(
    options: SynthOptions,
    job: "Job",
    shards: "Sequence[Sequence[Sample]]",
    held: BinaryIO,
    load: "LoadSegmenter",
) -> None:
    """Write the missing shards, with a progress bar; returns when those of the other processes exist too."""
    from geoclick.data_synthesis.shards import make, progress

    output = Path(options.output)
    with progress_bar.progress("Clicking", sum(map(len, shards)), shown=processes.is_first()) as bar:

        def advance_by_shard(index: int) -> None:
            bar.advance(len(shards[index]))

        if options.engine == "ray":
            from geoclick.data_synthesis.shards import ray_engine
            from geoclick.jobs.ray_pool import Resources

            where = Resources(options.device, options.workers, options.ray_address)
            ray_engine.write_shards(output, job, shards, held, advance_by_shard, load=load, where=where)
            return
        for index in progress.claim_shards(output, len(shards), held, advance_by_shard):
            shard = make.make(job, shards[index], advance=bar.advance)
            make.write(output, index, len(shards), shard)


def finish(
    options: SynthOptions, job: "Job", settings: dict[str, Any], left_out: "Sequence[LeftOut]"
) -> None:
    """Complete the store: what was left out, metrics, sheet, and the manifest last; print the result."""
    from geoclick import store
    from geoclick.data_synthesis.shards import summary
    from geoclick.data_synthesis.sheet import write_sheet
    from geoclick.geo.reading import recorded_rule
    from geoclick.segmenters import visibility

    output = Path(options.output)
    of_shards, seconds = summary.read_accounts(output, settings["shards"])
    left_out = [*left_out, *of_shards]
    write_left_out(output, left_out)
    metrics = summary.summarize(store.read(output), options.max_clicks, options.iou_target)
    metrics |= summary.counts(metrics, left_out, seconds)
    targets = (row.mask for row in store.read(output))
    metrics["small_targets"] = visibility.count(targets, job.segmenter.name)
    if metrics["samples"] == 0:
        reasons = ", ".join(f"{n} {reason}" for reason, n in metrics["dropped"].items()) or "there is none"
        first = next((item.error.rstrip(".") for item in left_out if item.error), reasons)
        raise GeoClickError(
            f"No sample could be used ({first}); fix what {output}/failures.jsonl and dropped.jsonl list."
        )
    if options.sheet:
        pixels = recorded_rule(settings)
        write_sheet(output, str(options.root), job, count=options.sheet, pixels=pixels)
    write_whole(output / "metrics.json", json.dumps(metrics, indent=2) + "\n")
    store.write_manifest(output, settings | {"samples": metrics["samples"]})
    unit = " per worker" if options.engine == "ray" else " per process" if processes.count() > 1 else ""
    print(summary.text(metrics, output, unit))
    if warning := visibility.text(metrics["small_targets"]):
        print(f"warning: {warning}")
    print_next("quality", output, "--root", options.root, "--output", f"{output}-quality")


def write_left_out(output: Path, left_out: "Sequence[LeftOut]") -> None:
    """Write failures.jsonl and dropped.jsonl."""
    failed = [{"item": item.item, "error": item.error} for item in left_out if item.error]
    dropped = [{"item": i.item, "reason": i.reason, "count": i.count} for i in left_out if not i.error]
    for name, lines in (("failures", failed), ("dropped", dropped)):
        write_whole(output / f"{name}.jsonl", "".join(json.dumps(line) + "\n" for line in lines))


main = Command(
    prog="geoclick synth",
    options=SynthOptions,
    run=run,
    description="Turn masks into click sequences, with a frozen segmenter in the loop.",
    example="geoclick synth --root runs/scenes --split train --output runs/synth",
    around=failures.reported_by_first,
)


if __name__ == "__main__":
    sys.exit(main())
