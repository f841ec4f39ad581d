"""An adapter folder that other tools open: PEFT's files, the processor of the training, and a model card."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from peft import PeftModel

from geoclick.errors import GeoClickError
from geoclick.train import card
from geoclick.train.loop import initial_weights
from geoclick.train.loop.initial_weights import Weights
from geoclick.train.publishing import provenance
from geoclick.vlms import loading, processor_files
from geoclick.vlms.adapter import AdapterRecord, write_record
from geoclick.vlms.processor import Processor

ADAPTER = "default"
"""PEFT's name of the trained adapter. With beta above 0, GRPO has a reference adapter, too."""


def save(
    model: PeftModel,
    folder: Path,
    record: AdapterRecord,
    state_dict: Weights | None = None,
    initial: Weights | None = None,
) -> None:
    """Write the adapter and, last, geoclick.json; an existing README.md is left as it is.

    Args:
        model: the base with the adapter.
        folder: is created.
        record: of the adapter.
        state_dict: the adapter's weights; None takes them from the model.
        initial: the LoRA weights that were taken out of the base before the first step, if they were: the written
            adapter suits the unchanged base.
    """
    if initial is not None:
        state_dict = initial_weights.converted(state_dict or model.state_dict(), initial)
    with portable_config(model, record, is_converted=initial is not None), without_card(folder):
        # LoRA does not change the vocabulary. To check that, PEFT would request the base model from the hub.
        model.save_pretrained(
            str(folder), state_dict=state_dict, save_embedding_layers=False, selected_adapters=[ADAPTER]
        )
    write_record(folder, record)


def complete(folder: Path, processor: Processor, name: str, *, weights_in: Path | None = None) -> None:
    """Add the processor, which `AutoProcessor` and `AutoPeftModel` look for, and the model card.

    Args:
        folder: of the adapter, or of a run that has a checkpoint only.
        processor: of the run.
        name: of the model.
        weights_in: the checkpoint that the card describes; None if the folder has an adapter.
    """
    processor_files.save(processor, folder)
    write_card(folder, name, weights_in=weights_in)


def write_card(folder: Path, name: str, *, weights_in: Path | None = None) -> None:
    """Write the card as `geoclick card` does, without evaluations; a card with content of a user remains."""
    with suppress(GeoClickError):
        card.write(folder, provenance.read_adapter(weights_in or folder), [], name=name, license=None)


@contextmanager
def portable_config(model: PeftModel, record: AdapterRecord, *, is_converted: bool = False) -> Iterator[None]:
    """A block in which PEFT writes a configuration that `AutoPeftModel` opens.

    It names the base as a hub id with its revision or as a folder, and the base's class instead of a task type, since
    PEFT has none for images and text. No initialization is left, which loading would repeat.
    """
    config = model.peft_config[ADAPTER]
    portable = {
        "base_model_name_or_path": str(loading.EMBEDDED) if record.base == "embedded" else record.base,
        "revision": record.revision or None,
        "task_type": None,
        "init_lora_weights": True,
        "eva_config": None,
    }
    before = dict(vars(config))
    vars(config).update(portable)
    if is_converted:
        initial_weights.convert_config(config)
    try:
        yield
    finally:
        vars(config).update(before)


@contextmanager
def without_card(folder: Path) -> Iterator[None]:
    """A block after which README.md is as before: PEFT writes a card without content, or changes an existing one."""
    path = folder / card.CARD
    content = path.read_bytes() if path.is_file() else None
    try:
        yield
    finally:
        if content is None:
            path.unlink(missing_ok=True)
        else:
            path.write_bytes(content)
