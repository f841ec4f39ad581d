"""Merge an adapter into its base: one model in transformers' layout, checked to answer as the adapter does.

geoclick merge runs/lora --output runs/merged
geoclick merge runs/lora --output runs/merged --clicks runs/clicks --root DATA --push NAMESPACE/NAME --private
"""

import os
import shutil
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoclick import config
from geoclick.config import option
from geoclick.errors import GeoClickError, UsageError

if TYPE_CHECKING:
    import torch

EXAMPLE = "geoclick merge runs/lora --output runs/merged"
MARK = ".geoclick-merge"
"""Lies in a folder that a merge has begun, so that the next one may take it away."""
DTYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
"""safetensors' words and torch's."""


@dataclass(frozen=True, kw_only=True)
class MergeConfig:
    """Options of `geoclick merge`."""

    adapter: str = option(positional=True, help="adapter folder of geoclick train")
    output: str = option(help="new folder for the merged model")
    vlm: str | None = option(None, help="the base; the one that the adapter names when none")
    revision: str | None = option(None, help="branch, tag or commit of a hub model, likewise")
    dtype: str | None = option(
        None, choices=tuple(DTYPES.values()), help="of the merged weights; the base's own when none"
    )
    check_samples: int = option(24, help="questions that adapter and merged model are asked", minimum=1)
    clicks: str | None = option(None, help="click store to take the questions from; drawn scenes when none")
    root: str | None = option(None, help="folder of the dataset that the store's images are relative to")
    min_same: float = option(1.0, help="least share of answers that must be the adapter's", minimum=0)
    license: str | None = option(None, help="licence for the model card, such as apache-2.0; unstated when none")
    push: str | None = option(None, help="push the result to the hub as NAMESPACE/NAME")
    private: bool = option(False, help="let nobody else see it there")
    device: str = option("auto", help="where both models answer: auto, cpu, cuda or cuda:N")


def run(options: MergeConfig) -> None:
    """Ask the adapter, merge, write, ask the merged model as read back, and only then give it its name."""
    from train import hub

    if options.min_same > 1:
        raise UsageError(f"--min-same is a share, 0 to 1, not {options.min_same}.")
    output = Path(options.output)
    check_free(output)
    hub.check_push(options.push, options.private)
    # Deprecations inside the libraries, which no user of this command can mend.
    warnings.filterwarnings("ignore", category=FutureWarning)
    import torch

    from geoclick import vlms
    from geoclick.vlms import adapter as adapters
    from geoclick.vlms import loading, merged
    from train import card, merge_check, story

    told = story.of_adapter(Path(options.adapter))
    record = told.record
    base = options.vlm or record.base
    revision = options.revision or (record.revision if base == record.base else "") or None
    dtype = options.dtype or stored_dtype(loading.locate(base, revision)[0])
    questions = (
        merge_check.from_store(options.clicks, options.root, options.check_samples)
        if options.clicks
        else merge_check.drawn(options.check_samples)
    )
    wanted = {"adapter": options.adapter, "revision": revision}
    vlm = vlms.load(base, device=options.device, **wanted)
    before = merge_check.ask(vlm, questions, answer_format=record.answer_format)
    del vlm
    with fresh_folder(output) as folder:
        # In float32, so that weights are rounded once, when they are written.
        vlm = vlms.load(base, device="cpu", dtype=torch.float32, **wanted)
        save(vlm, folder, getattr(torch, dtype))
        del vlm
        own = merged.MergedRecord(
            fingerprint=loading.fingerprint(folder),
            dtype=dtype,
            adapter=adapters.AdapterRecord(**hub.without_paths(vars(record))),
            adapter_sha256=told.adapter_sha256,
            data=told.data,
            training=told.training,
            versions=adapters.library_versions(),
        )
        merged.write_record(folder, own)
        # As `geoclick predict --vlm FOLDER` will load it.
        vlm = vlms.load(str(folder), device=options.device)
        after = merge_check.ask(vlm, questions, answer_format=vlm.record.answer_format)
        del vlm
        check = merge_check.compare(before, after, questions, min_same=options.min_same, dtype=dtype)
        own = replace(own, check=hub.without_paths(check))
        merged.write_record(folder, own)
        card.write(folder, story.of_folder(folder), [], name=output.name, license=options.license)
    print(merge_check.line(check))
    print(f"merged model ({dtype}): {output}; use it with --vlm {output}")
    if options.push:
        print(f"pushed: {hub.push(output, options.push, private=options.private)}")


def check_free(output: Path) -> None:
    """Refuse an output that holds anything; raises UsageError."""
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UsageError(f"{output} holds something already; give another --output, or remove it.")


def stored_dtype(folder: Path) -> str:
    """The dtype of most weights in a model's folder; raises GeoClickError when it is not one that we write."""
    import safetensors

    counts: Counter[str] = Counter()
    for file in folder.glob("*.safetensors"):
        try:
            with safetensors.safe_open(file, framework="pt") as weights:
                counts.update(weights.get_slice(key).get_dtype() for key in weights.keys())  # noqa: SIM118
        except (safetensors.SafetensorError, OSError) as error:
            raise GeoClickError(
                f"{file} is corrupted or cut short; download or copy the model again."
            ) from error
    found = counts.most_common(1)[0][0] if counts else "no"
    if found not in DTYPES:
        raise GeoClickError(
            f"{folder} holds {found} weights; say by --dtype how the merged ones are to be written."
        )
    return DTYPES[found]


def save(vlm: Any, folder: Path, dtype: "torch.dtype") -> None:
    """Write the model with its adapter merged in, and its processor with the limits of the training.

    Raises:
        GeoClickError: the merged weights are not finite, or the disk is full.
    """
    import safetensors

    try:
        model = vlm.model.merge_and_unload(safe_merge=True).to(dtype)
    except ValueError as error:
        raise GeoClickError(
            f"The adapter cannot be merged ({str(error).splitlines()[0].rstrip('.')}); train it again."
        ) from error
    try:
        model.save_pretrained(folder)
        vlm.processor.save_pretrained(folder)
    except safetensors.SafetensorError as error:  # not an OSError, even on a full disk
        reason = str(error).splitlines()[0].rstrip(".")
        raise GeoClickError(f"{folder} cannot be written ({reason}); free space and merge again.") from error


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


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return config.command(
        MergeConfig,
        run,
        argv,
        prog="geoclick merge",
        description="Merge an adapter into its base, and check that the merged model gives the same answers.",
        example=EXAMPLE,
    )


if __name__ == "__main__":
    sys.exit(main())
