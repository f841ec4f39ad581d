"""Write the model card of an adapter or a merged model: data, recipe, figures, model-index; and push it all.

geoclick card runs/lora --evaluation runs/evaluate --license apache-2.0
geoclick card runs/lora --evaluation runs/evaluate --push NAMESPACE/NAME --private
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from geoclick import files
from geoclick.command import Command
from geoclick.config import option
from geoclick.errors import GeoClickError, UsageError

if TYPE_CHECKING:
    from huggingface_hub import ModelCardData

    from geoclick.scoring.model_index import Evaluation
    from geoclick.train.publishing.provenance import Story

EXAMPLE = "geoclick card runs/lora --evaluation runs/evaluate --license apache-2.0"
CARD = "README.md"
TEMPLATE = "# Model Card for Model ID"
"""Opens the empty card that PEFT leaves in every adapter folder."""


@dataclass(frozen=True, kw_only=True)
class CardOptions:
    """Options of `geoclick card`."""

    folder: str = option(positional=True, help="folder of geoclick train sft or geoclick merge")
    evaluation: tuple[str, ...] = option((), help="folders of geoclick evaluate, on this very model")
    clicks: str | None = option(None, help="its click store, where that has moved since the training")
    name: str | None = option(None, help="the model's name; that of --push or of the folder when none")
    license: str | None = option(None, help="such as apache-2.0; unstated when none")
    push: str | None = option(None, help="push the folder to the hub as NAMESPACE/NAME")
    private: bool = option(False, help="let nobody else see it there")


def run(options: CardOptions) -> None:
    """Read the folder's story and the figures, write the card, push."""
    from geoclick.train.publishing import evaluations, hub, provenance

    folder = Path(options.folder)
    hub.check_push(options.push, options.private)
    if not folder.is_dir():
        raise GeoClickError(f"{folder} is no folder; give one of 'geoclick train sft' or 'geoclick merge'.")
    told = provenance.of_folder(folder, options.clicks)
    found = [evaluations.read(Path(path), told) for path in options.evaluation]
    name = options.name or (options.push or folder.resolve().name).rpartition("/")[2]
    write(folder, told, found, name=name, hub_name=options.push, license=options.license)
    if not told.data:
        print("note: the click store's manifest is not at hand; --clicks STORE adds it to the card.")
    print(f"model card: {folder / CARD}")
    if options.push:
        print(f"pushed: {hub.push(folder, options.push, private=options.private)}")


def write(
    folder: Path,
    told: "Story",
    found: "Sequence[Evaluation]",
    *,
    name: str,
    license: str | None,
    hub_name: str | None = None,
) -> None:
    """Write README.md into a folder, in place of PEFT's empty one or an earlier one of ours.

    Args:
        folder: of the adapter or merged model.
        told: its story.
        found: its figures.
        name: the model's.
        license: as the user names it, None when unstated.
        hub_name: where it is pushed to, None when it is not.

    Raises:
        UsageError: a card that someone has written is there, or one of ours that tells more, or the name or licence
            is empty.
    """
    from huggingface_hub import ModelCard

    from geoclick.train.publishing import card_text

    path = folder / CARD
    check_replaceable(path, figures=bool(found), license=license is not None)
    # On one line each: YAML folds or loses some line breaks.
    name, license = " ".join(name.split()), None if license is None else " ".join(license.split())
    if not name or license == "":
        raise UsageError("A name or licence of no letters says nothing; give one, or leave the option out.")
    text = card_text.render(told, found, name=name, hub_name=hub_name, license=license)
    content = f"---\n{metadata(told, found, name=name, license=license).to_yaml()}\n---\n\n{text}"
    ModelCard(content)  # what it cannot parse would be refused by the hub
    files.write_whole(path, content)


def check_replaceable(path: Path, *, figures: bool, license: bool) -> None:
    """Refuse to write over a card that someone has written, or over figures or a licence with none.

    Args:
        path: of the card, there or not.
        figures: whether the new card has some.
        license: whether it has one.

    Raises:
        UsageError: with the way out.
    """
    from huggingface_hub import ModelCard

    from geoclick.train.publishing import card_text

    if not path.exists():
        return
    there = path.read_text(encoding="utf-8", errors="replace")
    if card_text.MARK not in there:
        if TEMPLATE in there:
            return
        raise UsageError(f"{path} was written by someone; move it away to have it written anew.")
    try:
        data = ModelCard(there).data
    except (ValueError, TypeError, yaml.YAMLError) as error:
        raise UsageError(
            f"{path} has metadata that cannot be read; remove it to have it written anew."
        ) from error
    lost = "--evaluation" if data.eval_results and not figures else ""
    lost = lost or ("--license" if data.license and not license else "")
    if lost:
        raise UsageError(f"{path} would lose what {lost} told it; give that again, or remove the card first.")


def metadata(
    told: "Story", found: "Sequence[Evaluation]", *, name: str, license: str | None
) -> "ModelCardData":
    """The card's metadata, which huggingface_hub writes as YAML."""
    from huggingface_hub import ModelCardData

    from geoclick.scoring import model_index

    record = told.record
    tags = ["geoclick", "remote-sensing", "referring-segmentation", "clicks"]
    # The hub knows its own models only, and calls a merged adapter a fine-tune: "merge" means several models there.
    known = {"base_model": record.base, "base_model_relation": "finetune" if told.merged else "adapter"}
    return ModelCardData(
        **(known if record.revision else {}),
        library_name="transformers" if told.merged else "peft",
        pipeline_tag="image-text-to-text",
        tags=tags if told.merged else [*tags, "lora"],
        license=license,
        model_name=name if found else None,
        eval_results=[result for e in found for result in model_index.results(e)] or None,
    )


main = Command(
    prog="geoclick card",
    options=CardOptions,
    run=run,
    description="Write the model card of an adapter or a merged model, with the figures of its evaluations.",
    example=EXAMPLE,
)


if __name__ == "__main__":
    sys.exit(main())
