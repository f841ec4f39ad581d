"""Write the model card of an adapter or a merged model, with its evaluations, and optionally push the model.

geoclick card runs/lora --evaluation runs/evaluate --license apache-2.0
geoclick card runs/lora --evaluation runs/evaluate --push NAMESPACE/NAME --private
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from geoclick import files, output_folder
from geoclick.command import Command, print_next
from geoclick.config import option
from geoclick.errors import GeoClickError, UsageError

if TYPE_CHECKING:
    from huggingface_hub import ModelCardData

    from geoclick.scoring.model_index import Evaluation
    from geoclick.train.publishing.provenance import Provenance

EXAMPLE = "geoclick card runs/lora --evaluation runs/evaluate --license apache-2.0"
CARD = "README.md"
REWARDS = "rewards.png"
"""The rewards of a run with GRPO against its held-out mIoU, which the card shows."""
PEFT_TITLE = "# Model Card for Model ID"
"""The title of the empty card that PEFT writes into every adapter folder."""


@dataclass(frozen=True, kw_only=True)
class CardOptions:
    """Options of `geoclick card`."""

    folder: str = option(positional=True, help="folder of geoclick train or geoclick merge")
    evaluation: tuple[str, ...] = option((), help="run folders of geoclick evaluate on this model")
    clicks: str | None = option(None, help="click store of the training (default: the path at training time)")
    name: str | None = option(None, help="name of the model (default: that of --push, or else of the folder)")
    license: str | None = option(
        None, help="license of the model, for example apache-2.0 (default: not stated)"
    )
    push: str | None = option(None, help="push the folder to the hub as NAMESPACE/NAME")
    private: bool = option(False, help="make the repository private")


def run(options: CardOptions) -> None:
    """Read the model's provenance and evaluations, write the card, push."""
    from geoclick.train.publishing import evaluations, hub, provenance

    folder = Path(options.folder)
    hub.check_push(options.push, options.private)
    if not folder.is_dir():
        raise GeoClickError(
            f"{folder} is not a folder; give a folder of 'geoclick train' or 'geoclick merge'."
        )
    if options.push:
        hub.check_secrets(folder)
    model = provenance.read(folder, options.clicks)
    runs = [evaluations.read(Path(path), model) for path in options.evaluation]
    name = options.name or (options.push or folder.resolve().name).rpartition("/")[2]
    with output_folder.locked(folder / output_folder.LOCK, folder, "card"):
        write(folder, model, runs, name=name, hub_name=options.push, license=options.license)
    if not model.data:
        print("note: the manifest of the click store is not available; --clicks STORE adds it to the card.")
    print(f"model card: {folder / CARD}")
    if options.push:
        print(f"pushed: {hub.push(folder, options.push, private=options.private)}")
    elif model.merged:
        print_next("predict", "IMAGE", "--text", "TEXT", "--vlm", folder, "--output", "runs/predict")
    else:
        print_next("merge", folder, "--output", f"{folder}-merged")


def write(
    folder: Path,
    provenance: "Provenance",
    evaluations: "Sequence[Evaluation]",
    *,
    name: str,
    license: str | None,
    hub_name: str | None = None,
) -> None:
    """Write README.md into a folder; it replaces PEFT's empty card or an earlier card of `geoclick card`.

    Args:
        folder: of the adapter or merged model.
        provenance: of the model.
        evaluations: of the model.
        name: of the model.
        license: as the user names it, or None.
        hub_name: repository that the model is pushed to, if any.

    Raises:
        UsageError: the existing card was written by hand or has more content, or the name or license is empty.
    """
    from huggingface_hub import ModelCard

    from geoclick.train.publishing import card_text

    path = folder / CARD
    check_replaceable(path, evaluated=bool(evaluations), licensed=license is not None)
    # YAML changes or loses some line breaks.
    name, license = " ".join(name.split()), None if license is None else " ".join(license.split())
    if not name or license == "":
        raise UsageError("The name and the license must not be empty; give a text, or drop the option.")
    picture = REWARDS if (folder / REWARDS).is_file() else None
    text = card_text.render(
        provenance, evaluations, name=name, hub_name=hub_name, license=license, picture=picture
    )
    header = metadata(provenance, evaluations, name=name, license=license).to_yaml()
    content = f"---\n{header}\n---\n\n{text}"
    ModelCard(content)  # raises if the hub could not parse it
    files.write_whole(path, content)


def check_replaceable(path: Path, *, evaluated: bool, licensed: bool) -> None:
    """Refuse to overwrite a card that was written by hand, or one with scores or a license by one without.

    Args:
        path: of the card, which may not exist.
        evaluated: whether the new card has scores.
        licensed: whether the new card has a license.

    Raises:
        UsageError: the card must not be overwritten.
    """
    from huggingface_hub import ModelCard

    from geoclick.train.publishing import card_text

    if not path.exists():
        return
    content = path.read_text(encoding="utf-8", errors="replace")
    if card_text.MARK not in content:
        if PEFT_TITLE in content:
            return
        raise UsageError(f"{path} was written by hand; move it away and rerun the command.")
    try:
        data = ModelCard(content).data
    except (ValueError, TypeError, yaml.YAMLError) as error:
        raise UsageError(
            f"The metadata of {path} cannot be read; remove the file and rerun the command."
        ) from error
    lost = "--evaluation" if data.eval_results and not evaluated else ""
    lost = lost or ("--license" if data.license and not licensed else "")
    if lost:
        raise UsageError(f"{path} would lose the content of {lost}; give it again, or remove the card first.")


def metadata(
    provenance: "Provenance", evaluations: "Sequence[Evaluation]", *, name: str, license: str | None
) -> "ModelCardData":
    """The card's metadata, which huggingface_hub writes as YAML."""
    from huggingface_hub import ModelCardData

    from geoclick.scoring import model_index
    from geoclick.vlms import adapter_runs

    record, merged = provenance.record, provenance.merged
    tags = ["geoclick", "remote-sensing", "referring-segmentation", "clicks", "trl"]
    tags += dict.fromkeys(run["kind"] for run in adapter_runs.of(record))
    # On the hub, "merge" means a merge of several models; a merged adapter is a fine-tune.
    base = {"base_model": record.base, "base_model_relation": "finetune" if merged else "adapter"}
    return ModelCardData(
        # Only models of the hub have a revision, and only these may be named as base.
        **(base if record.revision else {}),
        library_name="transformers" if merged else "peft",
        pipeline_tag="image-text-to-text",
        tags=tags if merged else [*tags, "lora"],
        license=license,
        model_name=name if evaluations else None,
        eval_results=[result for e in evaluations for result in model_index.results(e)] or None,
    )


main = Command(
    prog="geoclick card",
    options=CardOptions,
    run=run,
    description="Write the model card of an adapter or a merged model, with its evaluations.",
    example=EXAMPLE,
)


if __name__ == "__main__":
    sys.exit(main())
