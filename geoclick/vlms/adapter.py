"""An adapter folder: PEFT's files and geoclick.json, the provenance of the weights."""

import dataclasses
import json
import subprocess
import warnings
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import safetensors

from geoclick import files, secrets
from geoclick.errors import GeoClickError, first_line
from geoclick.geo.reading import RecordedRule
from geoclick.prompts import PROMPT_VERSION
from geoclick.vlms import adapter_patterns

if TYPE_CHECKING:
    import torch
    from peft import LoraConfig, PeftModel
    from transformers import PreTrainedModel

RECORD = "geoclick.json"
WEIGHTS = "adapter_model.safetensors"
MERGED = "merged"
"""The `kind` in the record of a merged model; an adapter's record has none."""
SCHEMA_VERSION = 1
AGAIN = "copy the adapter folder again or retrain it"
"""The fix of a broken adapter folder."""
LIBRARIES = ("geoclick", "torch", "transformers", "peft", "trl", "accelerate")


class Run(TypedDict):
    """A run.

    Attributes:
        kind: `sft` or `grpo`.
        steps: that were trained; 0 if not recorded.
        data_sha256: hash of its data; empty if not recorded.
        start_sha256: hash of the weights of the adapter that it started from; empty if it started without one.
        extended_at: steps at which it was resumed to train longer than planned.
    """

    kind: str
    steps: int
    data_sha256: str
    start_sha256: str
    extended_at: list[int]


@dataclass(frozen=True, kw_only=True)
class AdapterRecord:
    """Provenance of an adapter, and what its base model must match.

    Attributes:
        base: the base model as the user named it (`embedded`, a hub id or a folder).
        revision: commit of a hub model, empty for a local folder.
        family: see `geoclick.vlms.families`.
        fingerprint: of the base's weights, from `geoclick.vlms.loading.fingerprint`.
        answer_format: `json` or `compact`.
        prompt_version: of `geoclick.prompts` at training time.
        min_pixels: smallest area of the resized image.
        max_pixels: largest area of the resized image.
        targets: full-match pattern of the modules with LoRA.
        towers: with LoRA, of `families.TOWERS`; empty in records of earlier versions.
        modules_to_save: full names of modules whose weights the adapter holds completely.
        runs: that trained it, the first one first; empty in records of earlier versions.
        versions: library name to version.
        git_commit: of the checkout that trained it, empty outside one.
        config: the resolved options of the run.
        pixels: `bands` and `stretch` by which its images were shown; empty if not recorded.
        data_sha256: hash of the data of the run: its click stores or, for GRPO, its samples; empty if not recorded.
        processes: number of processes of the run; 0 if not recorded.
        shown_masks: whether masks were drawn on images of this run or of an earlier one; None if not recorded.
    """

    base: str
    revision: str
    family: str
    fingerprint: str
    answer_format: str
    min_pixels: int
    max_pixels: int
    targets: str
    prompt_version: str = PROMPT_VERSION
    versions: dict[str, str] = field(default_factory=dict)
    git_commit: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    pixels: RecordedRule = field(default_factory=RecordedRule)
    data_sha256: str = ""
    processes: int = 0
    towers: list[str] = field(default_factory=list)
    modules_to_save: list[str] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    shown_masks: bool | None = None
    schema_version: int = SCHEMA_VERSION


def library_versions() -> dict[str, str]:
    """Versions of the libraries that define the names and values of an adapter's weights."""
    return {name: metadata.version(name) for name in LIBRARIES}


def git_commit() -> str:
    """Commit of the checkout that this package runs from, or an empty string outside one."""
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        return ""
    command = ["git", "-C", str(folder), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def write_record(folder: str | Path, record: AdapterRecord) -> None:
    """Write geoclick.json to an adapter folder, atomically; options that hold a secret are left out."""
    values = secrets.without_secrets(dataclasses.asdict(record))
    files.write_whole(Path(folder) / RECORD, json.dumps(values, indent=2) + "\n")


def read_record(folder: str | Path) -> AdapterRecord:
    """The record in an adapter folder.

    Raises:
        GeoClickError: no such folder, no or broken geoclick.json, or one of another schema.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise GeoClickError(
            f"Adapter folder {folder} does not exist; give the output folder of a training run."
        )
    path = folder / RECORD
    if not path.is_file():
        raise GeoClickError(
            f"{folder} holds no {RECORD}; give an adapter folder that 'geoclick train' wrote."
        )
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values.get("kind") == MERGED:
            raise GeoClickError(f"{folder} is a merged model, not an adapter; give it by --vlm.")
        version = values.get("schema_version")
        if version != SCHEMA_VERSION:
            raise GeoClickError(
                f"{path} has schema version {version}, but this GeoClick reads {SCHEMA_VERSION}; "
                "train the adapter again or use the GeoClick that wrote it."
            )
        return AdapterRecord(**values)
    except (ValueError, TypeError, AttributeError, RecursionError, OSError) as error:
        raise GeoClickError(f"{path} is broken ({error}); train the adapter again.") from error


def base_of(vlm: str | None, adapter: str | Path | None) -> str:
    """The base model as the user names it, else the one that the adapter was trained on, else the embedded one.

    Raises:
        GeoClickError: as in `read_record`.
    """
    if vlm is not None:
        return vlm
    return "embedded" if adapter is None else read_record(adapter).base


def check_base(record: AdapterRecord, *, name: str, family: str, fingerprint: str) -> None:
    """Refuse a base model that the adapter was not trained on.

    Args:
        record: the adapter's.
        name: the base as the user names it now.
        family: the base's family.
        fingerprint: the base's.

    Raises:
        GeoClickError: with the reason and the base to use instead.
    """
    if family != record.family:
        reason = f"it belongs to the family {record.family} and {name} is {family}"
    elif fingerprint != record.fingerprint:
        reason = f"the weights of {name} are not those that it was trained on"
    elif record.prompt_version != PROMPT_VERSION:
        raise GeoClickError(
            f"The adapter was trained with prompts {record.prompt_version}, but this GeoClick uses "
            f"{PROMPT_VERSION}; train it again or use the GeoClick that wrote it."
        )
    else:
        return
    at = f" at revision {record.revision}" if record.revision else ""
    raise GeoClickError(f"The adapter does not fit: {reason}; use --vlm {record.base}{at}.")


def read_config(folder: Path) -> "LoraConfig":
    """PEFT's configuration of an adapter; raises GeoClickError if it cannot be read or is not LoRA's."""
    from peft import LoraConfig, PeftConfig

    try:
        config = PeftConfig.from_pretrained(str(folder))
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise GeoClickError(f"Adapter {folder} cannot be read ({first_line(error)}); {AGAIN}.") from error
    if not isinstance(config, LoraConfig):
        raise GeoClickError(f"Adapter {folder} is {config.peft_type}, not LoRA; give a LoRA adapter.")
    return config


def attach(model: "PreTrainedModel", folder: str | Path) -> "PeftModel":
    """The base model wrapped by PEFT with the folder's LoRA weights, ready for inference.

    Names and shapes of all LoRA weights must match exactly: module names change between library versions, and a
    partly loaded adapter would only seem to be a bad one.

    Raises:
        GeoClickError: the folder is no LoRA adapter, its weights are corrupted or not finite, or their names or
            shapes do not match.
    """
    from peft import set_peft_model_state_dict

    wrapped, weights = _checked(model, Path(folder))
    set_peft_model_state_dict(wrapped, weights)
    return wrapped.eval()


def check_weights(model: "PreTrainedModel", folder: str | Path) -> None:
    """Raise what `attach` would raise for an adapter that another library loads.

    Args:
        model: the base; its weights are not used and may be on the device `meta`.
        folder: of the adapter.
    """
    _checked(model, Path(folder))


def _checked(model: "PreTrainedModel", folder: Path) -> "tuple[PeftModel, dict[str, torch.Tensor]]":
    """The model wrapped by PEFT with LoRA weights that are not set yet, and the folder's weights, checked."""
    config = read_config(folder)
    weights = read_weights(folder)
    config.inference_mode = True
    wrapped = wrap(model, config, folder)
    check_names(needed_weights(wrapped), weights, folder)
    return wrapped, weights


def read_weights(folder: Path) -> "dict[str, torch.Tensor]":
    """The weights in an adapter's folder by name; raises GeoClickError if they cannot be read."""
    # It imports PyTorch.
    from safetensors.torch import load_file

    try:
        return load_file(folder / WEIGHTS)
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise GeoClickError(f"Adapter {folder} cannot be read ({first_line(error)}); {AGAIN}.") from error


def wrap(
    model: "PreTrainedModel", config: "LoraConfig", folder: Path, *, float32: bool = True
) -> "PeftModel":
    """The model wrapped by PEFT, with new weights.

    Args:
        model: the base.
        config: of the adapter.
        folder: of the adapter, for messages.
        float32: whether LoRA weights are in float32; otherwise they have the dtype of the base.

    Raises:
        GeoClickError: the config does not match the model's modules.
    """
    from peft import get_peft_model

    # The base is checked with the record; PEFT would only warn that its name differs.
    config.base_model_name_or_path = model.name_or_path
    try:
        modules = [name for name, _ in model.named_modules()]
        with warnings.catch_warnings(), adapter_patterns.names_for_patterns(config, modules, folder):
            # Deprecations between PEFT and transformers, which users cannot fix.
            warnings.simplefilter("ignore", FutureWarning)
            # Advice about memory, for models that are larger than these.
            warnings.filterwarnings("ignore", message="lora with eva")
            # PEFT gives the weights of experts their ranks, but looks for them among modules.
            warnings.filterwarnings("ignore", message="The following (rank|alpha)_pattern keys .*experts")
            return get_peft_model(model, config, autocast_adapter_dtype=float32)
    except ValueError as error:
        raise GeoClickError(
            f"Adapter {folder} does not match the model's modules ({first_line(error)}); {AGAIN}."
        ) from error


def needed_weights(model: "PeftModel") -> "dict[str, torch.Tensor]":
    """The weights of an adapter's file, by name, as the wrapped model has them now."""
    from peft import get_peft_model_state_dict

    weights: dict[str, torch.Tensor] = get_peft_model_state_dict(model, save_embedding_layers=False)
    return weights


def check_names(needed: "dict[str, torch.Tensor]", given: "dict[str, torch.Tensor]", folder: Path) -> None:
    """Refuse weights that are not finite, or whose names or shapes are not those that the model needs."""
    from geoclick.weight_files import first_not_finite  # it imports PyTorch

    expected, actual = (
        {name: tuple(value.shape) for name, value in weights.items()} for weights in (needed, given)
    )
    wrong = sorted(name for name in expected.keys() | actual.keys() if expected.get(name) != actual.get(name))
    if wrong:
        first = wrong[0]
        kind = "missing" if first not in actual else "unexpected" if first not in expected else "misshapen"
        raise GeoClickError(
            f"Adapter {folder} does not match the model: {len(wrong)} weights are missing, unexpected or of "
            f"another shape, such as {first} ({kind}); use the versions in its {RECORD} or retrain."
        )
    if broken := first_not_finite(dict(sorted(given.items()))):
        raise GeoClickError(
            f"Adapter {folder} has weights that are not finite, such as {broken}; its training diverged: train it "
            "again with a lower learning_rate, or use an earlier checkpoint."
        )
