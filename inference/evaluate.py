"""Score a checkpoint on a dataset: predictions, metrics and a report in one folder.

    geoclick evaluate --root data/scenes --split test --adapter runs/sft --output runs/evaluate

A killed run goes on where it stopped: start the same command again.
"""

import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoclick import __version__
from geoclick.config import command, option, write_config
from geoclick.dataset_options import DatasetOptions
from geoclick.errors import GeoClickError, UsageError
from inference.options import ModelOptions, load_segmenter, load_vlm

if TYPE_CHECKING:
    import numpy as np

    from geoclick.datasets import Sample
    from inference.generative import Prediction

EXAMPLE = "geoclick evaluate --root data/scenes --split test --adapter runs/sft --output runs/evaluate"


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(ModelOptions, DatasetOptions):
    """Options of `geoclick evaluate`."""

    output: str = option(help="run folder; an unfinished one is continued")
    split: str = option("test", help="split of the dataset")
    predictor: str = option(
        "generative",
        choices=("generative", "oracle"),
        help="generative: the VLM clicks; oracle: a click store does, the upper bound",
    )
    clicks: str | None = option(None, help="click store of geoclick synth, for the oracle")
    mode: str = option(
        "native",
        choices=("native", "rmsin", "segearth-r1"),
        help="whose scoring",
    )
    temperature: float = option(0.0, help="0 takes the likeliest token", minimum=0)
    batch_size: int = option(16, help="samples answered together", minimum=1)
    limit: int | None = option(None, help="only the first samples of the split", minimum=1)
    gallery: int = option(6, help="samples in each group of the report's gallery", minimum=0)
    seed: int = option(0, help="of sampling and of the bootstrap", minimum=0)


Ask = Callable[[Sequence["Sample"], Sequence["np.ndarray"]], "list[Prediction]"]


def generative(config: EvaluateConfig, samples: Sequence["Sample"], segmenter: Any) -> tuple[dict, Ask]:
    """The VLM with its adapter: what the protocol says of it, and the function that answers samples."""
    from geoclick import prompts
    from geoclick.vlms import adapter as adapters
    from geoclick.vlms import loading
    from inference import generate
    from inference.generative import predict

    vlm, answer_format = load_vlm(config)
    max_new_tokens = config.max_new_tokens or generate.MAX_NEW_TOKENS[answer_format]
    limits = loading.pixel_limits(vlm.processor)
    protocol = {
        "vlm": config.vlm,
        "vlm_revision": vlm.revision,
        "vlm_fingerprint": vlm.fingerprint,
        "adapter": config.adapter,
        "adapter_sha256": _sha256(Path(config.adapter) / adapters.WEIGHTS) if config.adapter else None,
        "answer_format": answer_format,
        "prompt_version": prompts.PROMPT_VERSION,
        "min_pixels": limits[0],
        "max_pixels": limits[1],
        "max_new_tokens": max_new_tokens,
        "temperature": config.temperature,
    }

    def ask(batch: Sequence["Sample"], images: Sequence["np.ndarray"]) -> "list[Prediction]":
        return predict(
            vlm,
            segmenter,
            images,
            [sample.query for sample in batch],
            answer_format=answer_format,
            decode=config.decode,
            batch_size=config.batch_size,
            max_new_tokens=max_new_tokens,
            temperature=config.temperature,
        )

    return protocol, ask


def oracle(config: EvaluateConfig, samples: Sequence["Sample"], segmenter: Any) -> tuple[dict, Ask]:
    """The clicks of a store, decoded the same way: the upper bound of a VLM that learns to write them."""
    from geoclick import store
    from inference.generative import Prediction, decode_clicks

    if config.clicks is None:
        raise UsageError("The oracle needs a click store; give --clicks the output of geoclick synth.")
    wanted = {(s.dataset, s.split, s.sample_id) for s in samples}
    rows = {}
    for row in store.read(config.clicks):
        key = (row.dataset, row.split, row.sample_id)
        if key in wanted:
            rows[key] = row.clicks
    if missing := sorted(wanted - rows.keys()):
        raise GeoClickError(
            f"{config.clicks} lacks {len(missing)} of {len(wanted)} samples, such as {missing[0][2]}; "
            "run geoclick synth on this split with the same options."
        )
    digest = hashlib.sha256(repr(sorted(rows.items())).encode()).hexdigest()

    def ask(batch: Sequence["Sample"], images: Sequence["np.ndarray"]) -> "list[Prediction]":
        sequences = [tuple(rows[s.dataset, s.split, s.sample_id]) for s in batch]
        masks = decode_clicks(segmenter, images, sequences, decode=config.decode)
        return [Prediction(mask, clicks) for mask, clicks in zip(masks, sequences, strict=True)]

    return {"clicks": config.clicks, "clicks_sha256": digest}, ask


PREDICTORS = {"generative": generative, "oracle": oracle}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_samples(config: EvaluateConfig) -> list["Sample"]:
    """The samples to score, in the dataset's order; raises UsageError when there are none."""
    from geoclick import datasets

    stream = datasets.read(config.dataset, config.root, config.split, options=config.reading())
    samples = list(islice(stream, config.limit))
    if not samples:
        raise UsageError(f"{config.root} holds no samples in split {config.split}; check --root and --split.")
    return samples


def describe(config: EvaluateConfig, samples: Sequence["Sample"], segmenter: Any, predictor: dict) -> dict:
    """The protocol: everything that decides the scores, by which a run is continued or refused."""
    from geoclick.segmenters import clicking

    digest = hashlib.sha256()
    for sample in samples:
        digest.update(json.dumps([sample.sample_id, sample.query, sample.image, sample.rle]).encode())
    return {
        "dataset": config.dataset,
        "root": config.root,
        "split": config.split,
        "n": len(samples),
        "samples_sha256": digest.hexdigest(),
        "mode": config.mode,
        "predictor": config.predictor,
        **predictor,
        "segmenter": config.segmenter,
        "segmenter_sha256": segmenter.sha256,
        "decode": config.decode,
        "policy": clicking.Policy().name,
        "seed": config.seed,
        "geoclick": __version__,
    }


def batches(samples: Sequence["Sample"], size: int) -> Iterator[list["Sample"]]:
    """The samples in batches, shortest prompts first and those of one image together.

    An image is embedded once a batch; the visual tokens, not the query, decide how long a prompt is.
    """
    order = sorted(samples, key=lambda s: (s.size[0] * s.size[1], s.image, len(s.query), s.sample_id))
    for start in range(0, len(order), size):
        yield order[start : start + size]


def read_images(samples: Sequence["Sample"]) -> list["np.ndarray"]:
    """The image of each sample; one that several samples share is read once and is the same array."""
    read = {}
    for sample in samples:
        if sample.image not in read:
            read[sample.image] = sample.read_image()
    return [read[sample.image] for sample in samples]


def run(config: EvaluateConfig) -> None:
    """Evaluate: read, load, predict what is missing, score, report."""
    import torch
    from rich.console import Console
    from rich.progress import Progress

    from geoclick import datasets
    from inference import records, results

    config = replace(config, root=datasets.root_of(config.dataset, config.root))
    samples = read_samples(config)
    segmenter = load_segmenter(config)
    predictor, ask = PREDICTORS[config.predictor](config, samples, segmenter)
    protocol = describe(config, samples, segmenter, predictor)
    output = Path(config.output)
    done = records.start(output, protocol)
    write_config(config, output)
    torch.manual_seed(config.seed)
    pending = [sample for sample in samples if sample.sample_id not in done]
    began = time.perf_counter()
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task(f"evaluate {config.predictor}", total=len(samples), completed=len(done))
        for batch in batches(pending, config.batch_size):
            predictions = ask(batch, read_images(batch))
            new = [records.record(s, p, config.mode) for s, p in zip(batch, predictions, strict=True)]
            records.append(output, new)
            done |= {entry["sample_id"]: entry for entry in new}
            progress.advance(task, len(batch))
    seconds = time.perf_counter() - began
    entries = [done[sample.sample_id] for sample in samples]
    metrics = results.summarise(
        samples, entries, protocol, seconds=seconds, resumed=len(samples) - len(pending)
    )
    results.write(output, samples, entries, metrics, count=config.gallery)
    print(results.line(metrics))
    print(f"report: {output / 'report.html'}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return command(
        EvaluateConfig,
        run,
        argv,
        prog="geoclick evaluate",
        description="Score a checkpoint on a dataset; writes predictions, metrics and a report.",
        example=EXAMPLE,
    )


if __name__ == "__main__":
    sys.exit(main())
