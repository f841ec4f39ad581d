"""Merge an adapter into its base: one model in transformers' layout, checked to answer as the adapter does.

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
from typing import TYPE_CHECKING, Any

from geoclick.command import Command
from geoclick.config import option
from geoclick.errors import GeoClickError, UsageError, first_line

if TYPE_CHECKING:
    import torch

EXAMPLE = "geoclick merge runs/lora --output runs/merged"
MARK = ".geoclick-merge"
"""Lies in a folder that a merge has begun, so that the next one may take it away."""


@dataclass(frozen=True, kw_only=True)
class MergeOptions:
    """Options of `geoclick merge`."""

    adapter: str = option(positional=True, help="adapter folder of geoclick train")
    output: str = option(help="new folder for the merged model")
    vlm: str | None = option(None, help="the base; the one that the adapter names when none")
    revision: str | None = option(None, help="branch, tag or commit of a hub model, likewise")
    dtype: str = option(
        "float32",
        choices=("float32", "float16", "bfloat16"),
        help="of the merged weights; half the size in 16 bits, but rounded",
    )
    check_samples: int = option(24, help="questions that adapter and merged model are asked", minimum=1)
    clicks: str | None = option(None, help="click store to take the questions from; drawn scenes when none")
    root: str | None = option(None, help="folder of the dataset that the store's images are relative to")
    min_same: float = option(1.0, help="least share of answers that must be the adapter's", minimum=0)
    license: str | None = option(
        None, help="licence for the model card, such as apache-2.0; unstated when none"
    )
    push: str | None = option(None, help="push the result to the hub as NAMESPACE/NAME")
    private: bool = option(False, help="let nobody else see it there")
    device: str = option("auto", help="where both models answer: auto, cpu, cuda or cuda:N")


def run(options: MergeOptions) -> None:
    """Ask the adapter, merge, write, ask the merged model as read back, and only then give it its name."""
    from geoclick.train.publishing import hub

    if options.min_same > 1:
        raise UsageError(f"--min-same is a share, 0 to 1, not {options.min_same}.")
    output = Path(options.output)
    check_free(output)
    hub.check_push(options.push, options.private)
    # Deprecations inside the libraries, which no user of this command can mend.
    warnings.filterwarnings("ignore", category=FutureWarning)
    import torch

    from geoclick import vlms
    from geoclick.train import card
    from geoclick.train.publishing import merge_check, provenance
    from geoclick.vlms import adapter as adapters
    from geoclick.vlms import loading, merged

    told = provenance.of_adapter(Path(options.adapter))
    record = told.record
    base = options.vlm or record.base
    revision = options.revision or (record.revision if base == record.base else "") or None
    questions = (
        merge_check.from_store(options.clicks, options.root, options.check_samples)
        if options.clicks
        else merge_check.drawn(options.check_samples)
    )
    # Both answer in float32: in 16 bits answers come out otherwise by rounding alone, merged or not.
    exact = {"device": options.device, "dtype": torch.float32}
    vlm = vlms.load(base, adapter=options.adapter, revision=revision, **exact)
    before = merge_check.ask(vlm, questions, answer_format=record.answer_format)
    with fresh_folder(output) as folder:
        save(vlm, folder, getattr(torch, options.dtype))
        del vlm
        own = merged.MergedRecord(
            fingerprint=loading.fingerprint(folder),
            dtype=options.dtype,
            adapter=adapters.AdapterRecord(**hub.without_paths(vars(record))),
            adapter_sha256=told.adapter_sha256,
            data=told.data,
            training=told.training,
            versions=adapters.library_versions(),
        )
        merged.write_record(folder, own)
        # Loaded as `geoclick predict --vlm FOLDER` will load it, and asked as the record says.
        vlm = vlms.load(str(folder), **exact)
        after = merge_check.ask(vlm, questions, answer_format=vlm.record.answer_format)
        check = merge_check.compare(before, after, questions, min_same=options.min_same, dtype=options.dtype)
        own = replace(own, check=hub.without_paths(check))
        merged.write_record(folder, own)
        name = (options.push or output.resolve().name).rpartition("/")[2]
        told = provenance.of_folder(folder)
        card.write(folder, told, [], name=name, hub_name=options.push, license=options.license)
    print(merge_check.line(check))
    print(f"merged model ({options.dtype}): {output}; use it with --vlm {output}")
    if options.push:
        print(f"pushed: {hub.push(output, options.push, private=options.private)}")


def check_free(output: Path) -> None:
    """Refuse an output that holds anything; raises UsageError."""
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UsageError(f"{output} holds something already; give another --output, or remove it.")


def save(vlm: Any, folder: Path, dtype: "torch.dtype") -> None:
    """Write the model with its adapter merged in, and its processor with the limits of the training.

    Raises:
        GeoClickError: the merged weights are not finite, or the disk is full.
    """
    import safetensors

    try:
        model = vlm.model.merge_and_unload(safe_merge=True).to(dtype)
    except ValueError as error:
        raise GeoClickError(f"The adapter cannot be merged ({first_line(error)}); train it again.") from error
    try:
        model.save_pretrained(folder)
        vlm.processor.save_pretrained(folder)
    except safetensors.SafetensorError as error:  # not an OSError, even on a full disk
        reason = first_line(error)
        raise GeoClickError(
            f"The model cannot be written to {folder.parent} ({reason}); free space and merge again."
        ) from error


@contextmanager
def fresh_folder(output: Path) -> Iterator[Path]:
    """A temporary folder beside `output`, renamed to it when the block ends well and removed when it does not.

    Raises:
        UsageError: a folder of the temporary name is there that no merge has begun.
    """
    # One fixed name: what a killed merge leaves behind is taken away by the next one.
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
