"""What an adapter changes: towers with LoRA, and modules whose weights it holds completely."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import safetensors

from geoclick.errors import GeoClickError, first_line
from geoclick.vlms.families import FAMILIES, TOWERS, tower_of

if TYPE_CHECKING:
    from geoclick.vlms.adapter import AdapterRecord

PREFIX = "base_model.model."
"""PEFT's prefix of the names in an adapter's file."""


def towers(record: "AdapterRecord") -> tuple[str, ...]:
    """The towers with LoRA; raises GeoClickError for an earlier version's record with unknown targets."""
    return tuple(record.towers) or FAMILIES[record.family].towers_of(record.targets)


def changed_towers(record: "AdapterRecord") -> set[str]:
    """The towers with LoRA or with modules whose weights the adapter holds completely."""
    return {*towers(record), *(tower_of(f"{name}.weight") for name in record.modules_to_save)}


def check(record: "AdapterRecord", folder: Path) -> None:
    """Refuse an adapter whose file does not hold what its record says; only names are read.

    Raises:
        GeoClickError: the file cannot be read, or it changes other towers or modules.
    """
    from geoclick.vlms import adapter

    try:
        with safetensors.safe_open(folder / adapter.WEIGHTS, framework="np") as weights:
            names = [name.removeprefix(PREFIX) for name in weights.keys()]  # noqa: SIM118
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise GeoClickError(
            f"Adapter {folder} cannot be read ({first_line(error)}); {adapter.AGAIN}."
        ) from error
    try:
        recorded = set(towers(record))
    except GeoClickError:
        return  # an earlier version's record of a pattern of its own
    found = {tower_of(name) for name in names if ".lora_" in name}
    if found != recorded:
        raise _refusal(folder, f"LoRA in {_listed(recorded)}", f"LoRA in {_listed(found)}")
    complete = [name for name in names if ".lora_" not in name]
    missing = [m for m in record.modules_to_save if not any(name.startswith(f"{m}.") for name in complete)]
    saved = tuple(f"{module}." for module in record.modules_to_save)
    extra = [name for name in complete if not name.startswith(saved)]
    if missing or extra:
        has = f"no weights of {missing[0]}" if missing else f"weights of {extra[0]}, too"
        raise _refusal(folder, f"complete weights of {len(record.modules_to_save)} modules", has)


def _listed(names: Iterable[str]) -> str:
    order = [*TOWERS, "other"]
    return " and ".join(sorted(names, key=order.index)) or "no tower"


def _refusal(folder: Path, recorded: str, found: str) -> GeoClickError:
    from geoclick.vlms import adapter

    return GeoClickError(
        f"Adapter {folder} does not match its {adapter.RECORD}, which records {recorded}: the file holds {found}; "
        f"{adapter.AGAIN}."
    )
