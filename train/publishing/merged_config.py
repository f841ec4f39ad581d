"""The config.json of a merged model: the base's own, in a form that transformers 4.57 and 5 read alike."""

import math
from pathlib import Path

import safetensors

from geoclick.vlms.processor_files import Json, read_json, write_json

NAME = "config.json"
BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
GENERATION = "generation_config.json"
OLDEST = "4.57"
"""The oldest version of transformers that loads a merged model of FIRST; it is the first one with Qwen3-VL."""

LATER = "5.24"
"""That of the later families."""

FIRST = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
"""Families whose merged models have been loaded in that version."""


def oldest(family: str) -> str:
    """The oldest version of transformers in which merged models of a family have been loaded."""
    return OLDEST if family in FIRST else LATER


def stored_dtype(base: Path) -> str:
    """The dtype in which a base model is stored, by its config; float32 if it does not say."""
    values = read_json(base / NAME)
    text = values.get("text_config")
    parts = [values, *([text] if isinstance(text, dict) else [])]
    names = [part.get(key) for part in parts for key in ("dtype", "torch_dtype")]
    return next((name for name in names if isinstance(name, str) and name in BYTES), "float32")


def memory(base: Path, dtype: str) -> str:
    """How much memory the weights of a model take in a dtype, in one line; only the headers of its files are read."""
    count = 0
    for path in base.glob("*.safetensors"):
        with safetensors.safe_open(path, framework="np") as weights:
            # A file handle, not a mapping.
            count += sum(math.prod(weights.get_slice(key).get_shape()) for key in weights.keys())  # noqa: SIM118
    return (
        f"memory: the model has {count / 1e9:.3g} billion weights, which take {count * BYTES[dtype] / 2**30:.3g} GiB "
        f"in {dtype}; it is loaded twice, one after the other"
    )


def write(base: Path, folder: Path, dtype: str) -> None:
    """Write the config, and copy that of generation, of a base model to the folder of its merged weights.

    Args:
        base: folder of the base model.
        folder: of the merged model.
        dtype: of the merged weights.
    """
    write_json(folder / NAME, readable_config(read_json(base / NAME), dtype))
    if (base / GENERATION).is_file():
        (folder / GENERATION).write_bytes((base / GENERATION).read_bytes())


def readable_config(values: "dict[str, Json]", dtype: str) -> "dict[str, Json]":
    """The config of a base for weights of a dtype, with what only transformers 4.57 reads next to its newer form.

    Version 4.57 does not read `rope_parameters`: it would take another rotary base without an error. It reads
    whether the head is tied to the embeddings from the text model's part only.
    """
    values = {key: value for key, value in values.items() if key != "quantization_config"}
    tied = values.get("tie_word_embeddings")
    text = values.get("text_config")
    if isinstance(text, dict):
        text = with_older_rope(text)
        if tied is not None:
            text.setdefault("tie_word_embeddings", tied)
        values["text_config"] = text
    values = with_older_rope(values)
    values["torch_dtype"] = dtype
    for part in (values, values.get("text_config"), values.get("vision_config")):
        if isinstance(part, dict):
            part |= {key: dtype for key in ("dtype", "torch_dtype") if key in part}
    return values


def with_older_rope(values: "dict[str, Json]") -> "dict[str, Json]":
    """A copy of a text model's config in which `rope_parameters` stand also as `rope_theta` and `rope_scaling`."""
    values, rope = dict(values), values.get("rope_parameters")
    if isinstance(rope, dict):
        values["rope_scaling"] = {key: value for key, value in rope.items() if key != "rope_theta"}
        if "rope_theta" in rope:
            values["rope_theta"] = rope["rope_theta"]
    return values
