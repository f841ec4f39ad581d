"""Merge an adapter into its base: one model in transformers' layout, checked to give the adapter's answers.

geoclick merge runs/lora --output runs/merged
geoclick merge runs/lora --output runs/merged --clicks runs/clicks --root DATA --push NAMESPACE/NAME --private
"""

import os
import shutil
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from geoclick import output_folder
from geoclick.command import Command, print_next
from geoclick.config import option
from geoclick.errors import GeoClickError, UsageError, first_line
from geoclick.jobs import processes

if TYPE_CHECKING:
    from geoclick.train.publishing.merge_check import Answers, Check, Questions
    from geoclick.train.publishing.provenance import Provenance
    from geoclick.vlms.loading import Vlm
    from geoclick.vlms.merged import MergedRecord

EXAMPLE = "geoclick merge runs/lora --output runs/merged"
MARK = ".geoclick-merge"
"""File that marks an unfinished output folder, so that the next merge may remove the folder."""


@dataclass(frozen=True, kw_only=True)
class MergeOptions:
    """Options of `geoclick merge`."""

    adapter: str = option(positional=True, help="adapter folder of geoclick train")
    output: str = option(help="new folder for the merged model")
    vlm: str | None = option(None, help="base model (default: the one that the adapter names)")
    revision: str | None = option(
        None, help="branch, tag or commit of a base on the hub (default: the one that the adapter names)"
    )
    dtype: str = option(
        "float32",
        choices=("float32", "float16", "bfloat16", "auto"),
        help="dtype of the merged weights, auto: that of the base; 16 bits take half the space, but round the weights",
    )
    compute_dtype: str = option(
        "float32",
        choices=("float32", "float16", "bfloat16"),
        help="dtype in which the models are loaded and compared; 16 bits take half the memory, but rounding alone may "
        "change answers, see --min-same",
    )
    quantise: str = option(
        "auto",
        choices=("auto", "nf4", "none"),
        help="merge into the base rounded to 4 bits, as QLoRA trains; auto does if the adapter was trained so",
    )
    check_samples: int = option(24, help="questions for the comparison with the adapter", minimum=1)
    clicks: str | None = option(
        None, help="click store that the questions come from (default: procedural scenes)"
    )
    root: str | None = option(None, help="folder of the dataset that the store's images are relative to")
    min_same: float = option(1.0, help="smallest share of answers that must equal the adapter's", minimum=0)
    license: str | None = option(
        None, help="license for the model card, for example apache-2.0 (default: not stated)"
    )
    push: str | None = option(None, help="push the result to the hub as NAMESPACE/NAME")
    private: bool = option(False, help="make the repository private")
    device: str = option("auto", help="auto, cpu, cuda or cuda:N")


def run(options: MergeOptions) -> None:
    """Merge, load the result from disk, compare its answers with the adapter's, and only then name its folder."""
    output = Path(options.output)
    check_options(options)
    # Deprecations inside the libraries, which the user cannot fix.
    warnings.filterwarnings("ignore", category=FutureWarning)

    from geoclick.train import card
    from geoclick.train.publishing import hub, merge_check, merged_config, provenance
    from geoclick.vlms import bitsandbytes_import, quantization

    if options.push:
        hub.check_secrets(Path(options.adapter))
    adapter = provenance.read_adapter(Path(options.adapter))
    processes.print_loading(f"the adapter {options.adapter}, and {options.vlm or adapter.record.base}")
    questions = (
        merge_check.from_store(options.clicks, options.root, options.check_samples)
        if options.clicks
        else merge_check.from_scenes(options.check_samples)
    )
    kind = quantization.kind_of(options.quantise, options.adapter)
    if not kind:
        bitsandbytes_import.leave_out(options.vlm or adapter.record.base)
    vlm = load_adapter(options, adapter, kind)
    expected = merge_check.ask(vlm, questions, answer_format=adapter.record.answer_format)
    lock = output.with_name(f".{output.name}{output_folder.LOCK}")
    with output_folder.locked(lock, output, "merge"), fresh_folder(output) as folder:
        vlm = unquantized(vlm, options.adapter)
        dtype = weights_dtype(options.dtype, vlm)
        save(vlm, folder, dtype)
        del vlm
        record = write_record(folder, adapter, dtype)
        check = check_answers(folder, expected, questions, options)
        add_check(folder, record, check)
        name = (options.push or output.resolve().name).rpartition("/")[2]
        merged = provenance.read(folder)
        card.write(folder, merged, [], name=name, hub_name=options.push, license=options.license)
    print(merge_check.summary(check, options.compute_dtype))
    oldest = merged_config.oldest(adapter.record.family)
    print(f"merged model ({dtype}, for transformers {oldest} or later): {output}; use it with --vlm {output}")
    if not options.push:
        print_next("predict", "IMAGE", "--text", "TEXT", "--vlm", output, "--output", "runs/predict")
    if options.push:
        print(f"pushed: {hub.push(output, options.push, private=options.private)}")


def check_options(options: MergeOptions) -> None:
    """Refuse wrong options before the work starts; raises UsageError."""
    if options.min_same > 1:
        raise UsageError(f"--min-same is a share from 0 to 1, not {options.min_same}.")
    check_free(Path(options.output))
    from geoclick.train.publishing import hub

    hub.check_push(options.push, options.private)


def check_free(output: Path) -> None:
    """Refuse an output folder with content; raises UsageError."""
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UsageError(f"{output} is not empty; give another --output, or remove it.")


def load_adapter(options: MergeOptions, adapter: "Provenance", kind: str | None) -> "Vlm":
    """The base with its adapter; says first how much memory it takes.

    Args:
        options: the options.
        adapter: the adapter's provenance.
        kind: of quantization in which the adapter was trained, or None.
    """
    import torch

    from geoclick import devices
    from geoclick.train.publishing import merged_config
    from geoclick.vlms import loading, quantization

    record, dtype = adapter.record, getattr(torch, options.compute_dtype)
    base = options.vlm or record.base
    revision = options.revision or (record.revision if base == record.base else "") or None
    folder, _ = loading.locate(base, revision)
    print(merged_config.memory(folder, options.compute_dtype), flush=True)
    device = devices.choose(options.device)
    quantized = quantization.loading(kind, dtype, device, partitioned=False) if kind else None
    return loading.load(
        base, adapter=options.adapter, revision=revision, device=device, dtype=dtype, quantized=quantized
    )


def unquantized(vlm: "Vlm", adapter: str) -> "Vlm":
    """The VLM with the values of its quantized weights in full precision, so that LoRA can be added to them exactly."""
    if not vlm.quantized:
        return vlm
    from geoclick.vlms import adapter as adapters

    base = cast(Any, vlm.model).unload().dequantize()
    return replace(vlm, model=adapters.attach(base, adapter), quantized="")


def weights_dtype(dtype: str, vlm: "Vlm") -> str:
    """The dtype of the merged weights; `auto` is that of the base's files."""
    from geoclick.train.publishing import merged_config

    return merged_config.stored_dtype(cast(Path, vlm.folder)) if dtype == "auto" else dtype


def save(vlm: "Vlm", folder: Path, dtype: str) -> None:
    """Write the model with its adapter merged, and the base's own processor with the pixel limits of the training.

    The files load in the versions of transformers of `merged_config.oldest`.

    Args:
        vlm: the base with its adapter.
        folder: where to write.
        dtype: of the written weights.

    Raises:
        GeoClickError: the merged weights are not finite, or the disk is full.
    """
    import safetensors
    import torch

    from geoclick.train.publishing import merged_config
    from geoclick.vlms import loading, processor_files

    adapted, base = cast(Any, vlm.model), cast(Path, vlm.folder)  # a PeftModel
    try:
        model = adapted.merge_and_unload(safe_merge=True).to(getattr(torch, dtype))
    except ValueError as error:
        raise GeoClickError(f"The adapter cannot be merged ({first_line(error)}); train it again.") from error
    try:
        model.save_pretrained(folder)
        least, most = loading.pixel_limits(vlm.processor)
        processor_files.copy(base, folder, min_pixels=least, max_pixels=most)
        merged_config.write(base, folder, dtype)
    except safetensors.SafetensorError as error:  # not an OSError, even on a full disk
        raise GeoClickError(
            f"The model cannot be written to {folder.parent} ({first_line(error)}); free space and rerun the command."
        ) from error


def write_record(folder: Path, adapter: "Provenance", dtype: str) -> "MergedRecord":
    """Write geoclick.json of the merged model, still without the check."""
    from geoclick.train.publishing import hub
    from geoclick.vlms import adapter as adapters
    from geoclick.vlms import loading, merged, weights

    record = merged.MergedRecord(
        fingerprint=loading.fingerprint(folder),
        weights_sha256=weights.weights_sha256(folder),
        dtype=dtype,
        adapter=adapters.AdapterRecord(**hub.without_paths(vars(adapter.record))),
        adapter_sha256=adapter.adapter_sha256,
        data=adapter.data,
        training=adapter.training,
        versions=adapters.library_versions(),
    )
    merged.write_record(folder, record)
    return record


def check_answers(
    folder: Path, expected: "Answers", questions: "Questions", options: MergeOptions
) -> "Check":
    """Load the merged model as `geoclick predict --vlm FOLDER` does and compare its answers with the adapter's.

    Raises:
        GeoClickError: fewer answers are the same than --min-same demands.
    """
    import torch

    from geoclick.inference.generative.settings import default_format
    from geoclick.train.publishing import merge_check
    from geoclick.vlms import loading

    compute = options.compute_dtype
    vlm = loading.load(str(folder), device=options.device, dtype=getattr(torch, compute))
    answers = merge_check.ask(vlm, questions, answer_format=default_format(vlm))
    dtype = cast("MergedRecord", vlm.record).dtype if compute == "float32" else compute
    return merge_check.compare(expected, answers, questions, min_same=options.min_same, dtype=dtype)


def add_check(folder: Path, record: "MergedRecord", check: "Check") -> None:
    """Write geoclick.json again, with the check."""
    from geoclick.train.publishing import hub
    from geoclick.vlms import merged

    merged.write_record(folder, replace(record, check=hub.without_paths(check)))


@contextmanager
def fresh_folder(output: Path) -> Iterator[Path]:
    """A temporary folder next to `output`: renamed to it at the end of the block, removed after an error.

    Raises:
        UsageError: a folder with the temporary name exists that is not from a merge.
    """
    # The name is fixed, so that the next merge removes the folder of a killed one.
    partial = output.with_name(f"{output.name}.partial")
    if partial.is_symlink() or (partial.exists() and not (partial / MARK).is_file()):
        raise UsageError(f"{partial} is in the way; remove it, or give another --output.")
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    try:
        (partial / MARK).touch()
        yield partial
        for path in partial.rglob("*"):
            if path.is_file():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
        check_free(output)
        partial.replace(output)
        (output / MARK).unlink()
    finally:
        shutil.rmtree(partial, ignore_errors=True)


main = Command(
    prog="geoclick merge",
    options=MergeOptions,
    run=run,
    description="Merge an adapter into its base, and check that the merged model gives the same answers.",
    example=EXAMPLE,
)


if __name__ == "__main__":
    sys.exit(main())
