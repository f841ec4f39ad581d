"""`geoclick synth`: ground-truth masks to click sequences, with a frozen segmenter in the loop.

    geoclick synth --dataset folder --root DATA --split train --segmenter embedded --output runs/synth

    accelerate launch --config_file accelerate_configs/multi_gpu.yaml -m data_synthesis.run ...   (or torchrun)
    geoclick synth --engine ray ...                                       (a Ray cluster, or this machine as one)

The output is a click store (clicks-*.parquet, manifest.json) with metrics.json, failures.jsonl,
dropped.jsonl, config.yaml and sheet.png. A job that was killed goes on when the same command is given again,
with as many processes or workers as that starts: they share the shards, and the bytes are those of one process.
"""

import json
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from geoclick import config
from geoclick.command import Command
from geoclick.config import option
from geoclick.errors import GeoClickError, UsageError
from geoclick.files import write_whole
from geoclick.jobs import failures, processes
from geoclick.options import DatasetOptions, SegmenterOptions

if TYPE_CHECKING:
    from geoclick.data_synthesis.shards.job import Job
    from geoclick.data_synthesis.simulation.policies import Clicker
    from geoclick.datasets import LeftOut, Sample
    from geoclick.segmenters.base import Segmenter

SHARD_SAMPLES = 2000
MAX_CLICKS = 16


@dataclass(frozen=True, kw_only=True)
class SynthOptions(SegmenterOptions, DatasetOptions):
    """What `geoclick synth` takes."""

    output: str = option(
        help="folder for the click store; the same command on it goes on where it was stopped"
    )
    split: str = option("train", help="name of the split")
    device: str = option("auto", help="auto, cpu, cuda or cuda:N")
    precision: str = option(
        "float32",
        help="arithmetic of the segmenter; bfloat16 is fast on GPUs",
        choices=("float32", "bfloat16"),
    )
    compile: bool = option(
        False, help="have torch.compile make the segmenter's kernels: minutes at first, then faster"
    )
    policy: str = option(
        "center",
        help="where the clicks go: the center of the largest mistake, any mistake, human-like around the center, "
        "or where the segmenter does best with them",
        choices=("center", "random", "robust", "lookahead"),
    )
    candidates: int = option(6, help="clicks that lookahead tries at most in one step", minimum=1)
    clicks: int = option(6, help=f"clicks that a sequence has at most, 1 to {MAX_CLICKS}", minimum=1)
    iou_target: float = option(0.9, help="a sequence ends when its mask has this IoU")
    keep_improving: bool = option(
        False, help="drop the first click that does not raise the IoU, and end the sequence there"
    )
    tie: str = option(
        "negative",
        help="sign of a click when what is missing and what is too much reach equally far",
        choices=("negative", "positive"),
    )
    positive_only: bool = option(False, help="never click on what is too much")
    jitter: int = option(
        0, help="pixels by which a click is moved at random at most, within its mistake", minimum=0
    )
    sequences: int = option(1, help="sequences that each mask gets; they differ by chance", minimum=1)
    multimask: str = option(
        "first",
        help="on which clicks the best of three masks is taken",
        choices=("first", "never", "always"),
    )
    feedback: bool = option(True, help="give the last mask's logits to the next click")
    batch: int = option(32, help="prompts decoded together; changes rounding only", minimum=1)
    image_batch: int = option(4, help="images embedded together; changes rounding only", minimum=1)
    limit: int | None = option(None, help="take only so many samples, the first ones", minimum=1)
    shards: int | None = option(
        None, help=f"files of the store; none makes one for {SHARD_SAMPLES} samples", minimum=1
    )
    seed: int = option(0, help="of all that is random, the pick for the sheet too; in every row", minimum=0)
    engine: str = option(
        "local",
        help="what does the work: this process with those that a launcher started beside it, or a Ray cluster",
        choices=("local", "ray"),
    )
    workers: int | None = option(
        None,
        help="of --engine ray, each with a segmenter in its memory; none makes one for each GPU, else for each CPU",
        minimum=1,
    )
    ray_address: str | None = option(
        None,
        help="HOST:PORT of the Ray cluster's head; none takes the cluster of this machine, or starts one for the job",
    )
    sheet: int = option(8, help="sequences on sheet.png; 0 for no sheet", minimum=0)


FREE = (
    *("root", "output", "checkpoint", "device", "compile", "batch", "image_batch", "sheet"),
    *("engine", "workers", "ray_address"),
)
"""Options that an interrupted job may change: they move no click beyond rounding."""


def check(options: SynthOptions) -> None:
    """Raise UsageError for a number out of its range, or options that make no sense together."""
    if options.clicks > MAX_CLICKS:
        raise UsageError(f"--clicks must be at most {MAX_CLICKS}, not {options.clicks}.")
    if options.sequences > 1 and not clicker_of(options).is_random:
        raise UsageError(
            f"--sequences {options.sequences} with --policy {options.policy} would be the same ones; add "
            "--jitter, or take --policy random, robust or lookahead."
        )
    if not 0 < options.iou_target <= 1:
        raise UsageError(f"--iou-target must be above 0 and at most 1, not {options.iou_target}.")
    options.reading()
    _check_engine(options)


def _check_engine(options: SynthOptions) -> None:
    """Raise UsageError for an engine that is not there, or options of the other one."""
    if options.engine == "local":
        if options.workers or options.ray_address:
            raise UsageError(
                "--workers and --ray-address are of --engine ray; add it, or start several processes with "
                "'accelerate launch -m data_synthesis.run'."
            )
        return
    if find_spec("ray") is None:
        raise UsageError('--engine ray needs Ray; install it with: pip install "geoclick[ray]".')
    if processes.count() > 1:
        raise UsageError("--engine ray starts its own workers; start it without accelerate or torchrun.")
    if options.device not in ("auto", "cpu", "cuda"):
        raise UsageError(
            f"With --engine ray, --device must be auto, cpu or cuda, not {options.device}: Ray hands out the GPUs."
        )


def clicker_of(options: SynthOptions) -> "Clicker":
    """Where the clicks go, by the options."""
    from geoclick.data_synthesis.simulation.policies import Clicker

    return Clicker(**{field.name: getattr(options, field.name) for field in fields(Clicker)})


def run(options: SynthOptions, segmenter: "Segmenter | None" = None) -> None:
    """Make or go on with a click store.

    Args:
        options: the options.
        segmenter: used instead of the one that the options name, so that a test can pass a fake.
    """
    check(options)
    from geoclick import datasets, segmenters
    from geoclick.data_synthesis.shards import progress
    from geoclick.data_synthesis.shards.job import Job, split_shards
    from geoclick.segmenters.clicking import Prompting

    options = replace(options, root=datasets.root_of(options.dataset, options.root))
    output = Path(options.output)
    samples, left_out = _read_samples(options)
    if segmenter is None:
        import torch

        dtype = None if options.precision == "float32" else getattr(torch, options.precision)
        load = partial(
            segmenters.load,
            options.segmenter,
            checkpoint=options.checkpoint,
            dtype=dtype,
            compiled=options.compile,
        )
        # Under Ray the GPUs belong to the workers.
        segmenter = load(device="cpu" if options.engine == "ray" else processes.device(options.device))
    else:
        load = partial(_as_given, segmenter)
    count = options.shards or max(1, -(-len(samples) * options.sequences // SHARD_SAMPLES))
    begun = {k: v for k, v in vars(options).items() if k not in FREE} | {
        "shards": count,
        "segmenter": segmenter.name,
        "segmenter_sha256": segmenter.sha256,
        "samples_read": len(samples),
        "samples_sha256": progress.fingerprint(samples),
    }
    job = Job(
        segmenter=segmenter,
        max_clicks=options.clicks,
        iou_target=options.iou_target,
        prompting=Prompting(options.multimask, options.feedback),
        seed=options.seed,
        batch=options.batch,
        image_batch=options.image_batch,
        clicker=clicker_of(options),
        sequences=options.sequences,
    )
    folder = progress.StoreFolder(output, begun)
    with folder.open() as claims:
        if claims is None:
            if processes.is_first():
                print(f"{output} is complete already; nothing to do.")
            return
        if processes.is_first():
            config.write_config(options, output)
        _write_shards(options, job, split_shards(samples, count), claims, load)
        if processes.is_first():
            _finish(options, job, begun, left_out)
        else:
            folder.wait_until_complete(claims)


def _read_samples(options: SynthOptions) -> "tuple[list[Sample], list[LeftOut]]":
    """The samples in the reader's order, and what the reader left out; raises UsageError for ids that would clash."""
    from itertools import islice

    from geoclick import datasets
    from geoclick.data_synthesis.shards.job import row_id
    from geoclick.datasets import scenes_v1

    if (options.dataset, options.split) == (scenes_v1.NAME, scenes_v1.SPLIT) and not processes.is_first():
        # It draws itself where it is first read: once is enough.
        drawn = Path(options.root) / scenes_v1.SPLIT / "samples.jsonl"
        processes.wait_for_first(drawn.exists, f"generated {drawn}")
    left_out: list[LeftOut] = []
    samples = datasets.read(
        options.dataset,
        options.root,
        options.split,
        options=options.reading(),
        on_left_out=left_out.append,
    )
    kept = list(islice(samples, options.limit))
    ids = {sample.sample_id for sample in kept}
    for number in range(2, options.sequences + 1):
        if clash := next((i for i in ids if row_id(i, number) in ids), None):
            raise UsageError(
                f"{clash} and {row_id(clash, number)} are both samples, so the second of --sequences has no name; "
                "rename one."
            )
    return kept, left_out


def _as_given(segmenter: "Segmenter", device: str) -> "Segmenter":
    """A test's fake, on whatever device."""
    return segmenter


def _write_shards(
    options: SynthOptions,
    job: "Job",
    split: "list[list[Sample]]",
    claims: BinaryIO,
    load: "Callable[..., Segmenter]",
) -> None:
    """Write the shards that are not there yet, each whole; returns when those of the other processes are there too."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from geoclick.data_synthesis.shards import progress, shard

    output = Path(options.output)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, disable=not processes.is_first()) as bar:
        line = bar.add_task("Clicking", total=sum(map(len, split)))

        def advance_by_shard(index: int) -> None:
            bar.advance(line, len(split[index]))

        if options.engine == "ray":
            from geoclick.data_synthesis.shards import ray_engine

            where = {"device": options.device, "workers": options.workers, "address": options.ray_address}
            ray_engine.write_shards(output, job, split, claims, advance_by_shard, load=load, **where)
            return
        for index in progress.claim_shards(output, len(split), claims, advance_by_shard):
            made = shard.make(job, split[index], advance=lambda: bar.advance(line))
            shard.write(output, index, len(split), made)


def _finish(options: SynthOptions, job: "Job", begun: dict[str, Any], left_out: "list[LeftOut]") -> None:
    """Write all that belongs to a whole store, the manifest last, and say how it went."""
    from geoclick import store
    from geoclick.data_synthesis.shards import progress
    from geoclick.data_synthesis.sheet import write_sheet

    output, seconds = Path(options.output), 0.0
    for index in range(begun["shards"]):
        of_shard, shard_seconds = progress.read_account(output, index)
        left_out, seconds = left_out + of_shard, seconds + shard_seconds
    failures = [{"item": item.item, "error": item.error} for item in left_out if item.error]
    dropped = [{"item": i.item, "reason": i.reason, "count": i.count} for i in left_out if not i.error]
    for name, lines in (("failures", failures), ("dropped", dropped)):
        write_whole(output / f"{name}.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    metrics = summarise(store.read(output), options.clicks, options.iou_target) | {
        "failures": len(failures),
        "dropped": dict(sum((Counter({d["reason"]: d["count"]}) for d in dropped), Counter())),
        "seconds": round(seconds, 3),
    }
    metrics["masks_per_second"] = round(metrics["sequences"] / seconds, 3) if seconds else 0.0
    if metrics["samples"] == 0:
        reasons = ", ".join(f"{n} {reason}" for reason, n in metrics["dropped"].items()) or "none was found"
        first = failures[0]["error"].rstrip(".") if failures else reasons
        raise GeoClickError(
            f"No sample could be used ({first}); mend what {output}/failures.jsonl and dropped.jsonl name."
        )
    if options.sheet:
        write_sheet(output, options.root, job, count=options.sheet)
    write_whole(output / "metrics.json", json.dumps(metrics, indent=2) + "\n")
    store.write_manifest(output, begun | {"samples": metrics["samples"]})
    print(_told(metrics, options))


def summarise(rows: "Any", max_clicks: int, iou_target: float) -> dict[str, Any]:
    """The quality of a store's sequences.

    Args:
        rows: an iterable of store rows.
        max_clicks: how many means to give.
        iou_target: what counts as reached.

    Returns:
        `samples`, the rows: a sample with several sequences has as many; `no_target`; `sequences`, those with
        clicks, over which the others run; `mean_clicks`; `reached_target`, their share; `mean_iou_after_clicks`,
        for 1 to `max_clicks`, where a sequence that ended earlier keeps its last IoU.
    """
    samples = sequences = clicks = reached = 0
    sums = [0.0] * max_clicks
    for row in rows:
        samples += 1
        if not row.ious:
            continue
        sequences, clicks = sequences + 1, clicks + len(row.ious)
        reached += row.ious[-1] >= iou_target
        for k in range(max_clicks):
            sums[k] += row.ious[min(k, len(row.ious) - 1)]
    over = max(sequences, 1)
    return {
        "samples": samples,
        "no_target": samples - sequences,
        "sequences": sequences,
        "mean_clicks": round(clicks / over, 4),
        "reached_target": round(reached / over, 4),
        "mean_iou_after_clicks": [round(total / over, 4) for total in sums],
    }


def _told(metrics: dict[str, Any], options: SynthOptions) -> str:
    """The final lines."""
    ious, output = metrics["mean_iou_after_clicks"], Path(options.output)
    each = " a worker" if options.engine == "ray" else " a process" if processes.count() > 1 else ""
    lines = [
        f"{metrics['samples']} rows in {output}: mean IoU {ious[0]:.3f} after 1 click, "
        f"{ious[-1]:.3f} after {len(ious)}; {metrics['masks_per_second']:.1f} masks/s{each}"
    ]
    if metrics["dropped"]:
        lines.append("dropped: " + ", ".join(f"{n} {reason}" for reason, n in metrics["dropped"].items()))
    if metrics["failures"]:
        lines.append(f"warning: {metrics['failures']} failed and are missing; see {output}/failures.jsonl")
    return "\n".join(lines)


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
