"""The tokenizer and processor files of the folder of an adapter or a merged model.

A merged model has its base's own files. Those of transformers 5 are changed where version 4.57 could not read them.
"""

import json
from pathlib import Path
from typing import TypeAlias

from geoclick.errors import GeoClickError
from geoclick.files import write_whole
from geoclick.vlms.processor import Processor

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

TOKENIZER_CONFIG = "tokenizer_config.json"
COPIED = (
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
    "chat_template.json",
    "chat_template.jinja",
    "video_preprocessor_config.json",
)
IMAGE_CONFIGS = ("preprocessor_config.json", "processor_config.json")
"""The files that can hold the pixel limits; the first one is that of transformers 4."""
BACKEND = "TokenizersBackend"
"""Class of a tokenizer.json without a class of its own in transformers 5; before, `PreTrainedTokenizerFast`."""
LOADING = ("backend", "is_local", "local_files_only")
"""What transformers 5 writes to the tokenizer's config about itself."""


def copy(base: Path, folder: Path, *, min_pixels: int, max_pixels: int) -> None:
    """Copy the tokenizer and processor of a base model, with the pixel limits of the training.

    Args:
        base: folder of the base model.
        folder: where to write; it exists.
        min_pixels: smallest area of the resized image.
        max_pixels: largest area of the resized image.

    Raises:
        GeoClickError: a config is not valid JSON.
    """
    for name in COPIED:
        if (base / name).is_file():
            (folder / name).write_bytes((base / name).read_bytes())
    if (base / TOKENIZER_CONFIG).is_file():
        _rewrite(base / TOKENIZER_CONFIG, folder, readable_tokenizer(read_json(base / TOKENIZER_CONFIG)))
    for name in IMAGE_CONFIGS:
        if (base / name).is_file():
            _rewrite(base / name, folder, with_limits(read_json(base / name), min_pixels, max_pixels))


def save(processor: Processor, folder: Path) -> None:
    """Write a loaded processor, with its pixel limits, so that transformers 4.57 reads it, too."""
    processor.save_pretrained(folder)
    path = folder / TOKENIZER_CONFIG
    write_json(path, readable_tokenizer(read_json(path)))


def read_json(path: Path) -> "dict[str, Json]":
    """The object in a JSON file; raises GeoClickError if it holds none."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise GeoClickError(f"{path} cannot be read as JSON; download the model again.") from error
    if not isinstance(values, dict):
        raise GeoClickError(f"{path} is not a JSON object; download the model again.")
    return values


def write_json(path: Path, values: "dict[str, Json]") -> None:
    """Write an object as transformers formats its files."""
    write_whole(path, json.dumps(values, indent=2, ensure_ascii=False) + "\n")


def _rewrite(source: Path, folder: Path, values: "dict[str, Json]") -> None:
    """Write a file's new values; the file's own bytes if they are the old ones."""
    if values == read_json(source):
        (folder / source.name).write_bytes(source.read_bytes())
    else:
        write_json(folder / source.name, values)


def readable_tokenizer(values: "dict[str, Json]") -> "dict[str, Json]":
    """The config of a tokenizer with a class and special tokens that transformers 4.57 and 5 read."""
    values = dict(values)
    if values.get("tokenizer_class") == BACKEND:
        values["tokenizer_class"] = "PreTrainedTokenizerFast"
    # Version 4.57 expects named tokens under this key, and the others under the older one.
    if isinstance(values.get("extra_special_tokens"), list):
        values["additional_special_tokens"] = values.pop("extra_special_tokens")
    if "backend" in values:
        values = {key: value for key, value in values.items() if key not in LOADING}
    return values


def with_limits(values: "dict[str, Json]", min_pixels: int, max_pixels: int) -> "dict[str, Json]":
    """The config of an image processor, or of a processor that holds one, with pixel limits.

    The limits are written as `size`, and also by their older names if the config has these.
    """
    if isinstance(inner := values.get("image_processor"), dict):
        return {**values, "image_processor": with_limits(inner, min_pixels, max_pixels)}
    if "image_processor_type" not in values and "patch_size" not in values:
        return values  # a processor_config.json next to a preprocessor_config.json
    if limits(values) == (min_pixels, max_pixels):
        return values
    values = {**values, "size": {"shortest_edge": min_pixels, "longest_edge": max_pixels}}
    if "min_pixels" in values or "max_pixels" in values:
        values |= {"min_pixels": min_pixels, "max_pixels": max_pixels}
    return values


def limits(values: "dict[str, Json]") -> "tuple[Json, Json]":
    """Smallest and largest area of an image processor's config; the older names have priority, as in transformers."""
    size = values.get("size")
    size = size if isinstance(size, dict) else {}
    least, most = (
        next((part[key] for part, key in places if part.get(key) is not None), None)
        for places in (
            ((values, "min_pixels"), (size, "min_pixels"), (size, "shortest_edge")),
            ((values, "max_pixels"), (size, "max_pixels"), (size, "longest_edge")),
        )
    )
    return least, most
