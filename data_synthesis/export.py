"""`geoclick export`: a click store as chat JSONL, for training on our clicks with LLaMA-Factory or ms-swift.

    geoclick export runs/synth --root runs/scenes --layout llama-factory --output runs/export

Both tools read lines of `messages` (`role`, `content`) and `images`, where the text `<image>` stands for the image:

- LLaMA-Factory: `formatting: sharegpt` with the tags of the OpenAI form, named in a `dataset_info.json` beside the
  lines (`data/README.md` and `src/llamafactory/data/converter.py` of hiyouga/LlamaFactory). Train with
  `dataset_dir: OUTPUT` and `dataset: geoclick`.
- ms-swift: its standard form (`docs/source_en/Customization/Custom-dataset.md` of modelscope/ms-swift). Train with
  `--dataset OUTPUT/geoclick.jsonl`.

Image paths are absolute, as ms-swift recommends. `manifest.json` is written last, with all counts.
"""

import json
import math
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoclick import codec, config, prompts
from geoclick.command import Command
from geoclick.config import option
from geoclick.errors import GeoClickError, UsageError
from geoclick.files import whole, write_whole
from geoclick.vlms import resizing

if TYPE_CHECKING:
    from geoclick.store import Row

PIXEL_LIMITS = {"llama-factory": (32 * 32, 768 * 768), "ms-swift": (4 * 28 * 28, 16384 * 28 * 28)}
"""The layouts, each with the area in pixels that its tool resizes images to when it is told nothing else.

LLaMA-Factory: `image_min_pixels` and `image_max_pixels` of its ProcessorArguments. ms-swift: MIN_PIXELS and MAX_PIXELS
of qwen_vl_utils, by which its Qwen-VL templates fetch images.
"""

TAGS = ("<image>", "<video>", "<audio>", "<bbox>", "<ref-object>")
"""What the tools put something else for, wherever it stands."""


@dataclass(frozen=True)
class ExportOptions:
    """What `geoclick export` takes."""

    store: str = option(positional=True, help="folder of the click store, made by geoclick synth")
    root: str = option(help="folder of the dataset, which the store's image paths are relative to")
    layout: str = option(help="the tool that is to read it", choices=tuple(PIXEL_LIMITS))
    output: str = option(help="folder to write")
    name: str = option("geoclick", help="name of the dataset, and of its file")
    family: str = option("qwen3_vl", help="whose coordinates are written", choices=codec.FAMILIES)
    answer_format: str = option("compact", help="how clicks are written", choices=("compact", "json"))
    max_clicks: int = option(6, help="clicks of an answer at most", minimum=1)
    min_iou: float = option(0.0, help="leave out rows whose stored mask is worse than this IoU", minimum=0)
    min_pixels: int | None = option(
        None,
        help="least area of the resized image, which the coordinates of qwen2_5_vl count in; "
        "the tool's default when none",
        minimum=1,
    )
    max_pixels: int | None = option(None, help="largest area of the resized image, likewise", minimum=1)


def run(options: ExportOptions) -> None:
    """Write the export, its manifest last."""
    from geoclick import __version__, store

    output = Path(options.output)
    if not re.fullmatch(r"[\w-][\w.-]*", options.name):
        raise UsageError(f"--name must be letters, digits, _, - and dots only, not {options.name!r}.")
    least, most = pixel_limits(options)
    if (output / "manifest.json").exists():
        raise UsageError(f"{output} holds something whole already; name another --output.")
    # Only a whole store has one, so that half a job is not trained on.
    source = store.read_manifest(options.store)
    lines = output / f"{options.name}.jsonl"
    output.mkdir(parents=True, exist_ok=True)
    counts: Counter[str] = Counter()
    left_out: Counter[str] = Counter()
    with whole(lines) as partial, partial.open("w", encoding="utf-8", newline="\n") as file:
        for record in records(options, store.read(options.store), counts, left_out):
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
        if not counts["rows"]:
            reasons = ", ".join(f"{n} {reason}" for reason, n in left_out.items()) or "it is empty"
            raise GeoClickError(
                f"{options.store} has no row to export ({reasons}); lower --min-iou or make the store anew."
            )
    if options.layout == "llama-factory":
        entry = {options.name: dataset_info(lines.name)}
        write_whole(output / "dataset_info.json", json.dumps(entry, indent=2) + "\n")
    config.write_config(options, output)
    absolute = options.family == resizing.FAMILY
    manifest = {
        "layout": options.layout,
        "file": lines.name,
        **counts,
        "left_out": dict(left_out),
        "family": options.family,
        "answer_format": options.answer_format,
        "max_clicks": options.max_clicks,
        "min_iou": options.min_iou,
        "min_pixels": least if absolute else None,
        "max_pixels": most if absolute else None,
        "prompt_version": prompts.PROMPT_VERSION,
        "geoclick": __version__,
        "store": source,
    }
    write_whole(output / "manifest.json", json.dumps(manifest, indent=2) + "\n")
    told = "".join(f"; left out: {n} {reason}" for reason, n in left_out.items())
    print(f"{counts['rows']} rows on {counts['images']} images in {lines}{told}")


def pixel_limits(options: ExportOptions) -> tuple[int, int]:
    """Least and largest area of the resized image; raises UsageError when they exclude each other."""
    default = PIXEL_LIMITS[options.layout]
    least, most = options.min_pixels or default[0], options.max_pixels or default[1]
    if least > most:
        raise UsageError(
            f"--min-pixels {least} exceeds --max-pixels {most}; lower the one or raise the other."
        )
    return least, most


def dataset_info(file_name: str) -> dict[str, Any]:
    """LLaMA-Factory's description of the lines."""
    return {
        "file_name": file_name,
        "formatting": "sharegpt",
        "columns": {"messages": "messages", "images": "images"},
        "tags": {
            "role_tag": "role",
            "content_tag": "content",
            "user_tag": "user",
            "assistant_tag": "assistant",
        },
    }


def records(
    options: ExportOptions, rows: "Iterator[Row]", counts: Counter[str], left_out: Counter[str]
) -> Iterator[dict[str, Any]]:
    """The lines of an export, as `{"messages": [...], "images": [path]}`.

    Args:
        options: the options.
        rows: of a click store, in order.
        counts: gets the numbers of `rows`, `no_target`, `clicks` and `images`.
        left_out: gets the number of rows that give no line, by reason.

    Raises:
        GeoClickError: an image is missing or outside the root.
    """
    from geoclick.store import existing_image

    found: dict[str, str] = {}
    limits = pixel_limits(options)
    for row in rows:
        sequence = row.clicks[: options.max_clicks]
        if reason := unusable(row, len(sequence), options.min_iou):
            left_out[reason] += 1
            continue
        size, resized = (row.height, row.width), None
        if options.family == resizing.FAMILY:
            resized = resized_size(size, options.layout, limits)
            if resized is None:
                left_out["too narrow for Qwen-VL"] += 1
                continue
        if row.image not in found:
            found[row.image] = str(existing_image(Path(options.root), row.image))
        answer = codec.encode(
            sequence,
            family=options.family,
            answer_format=options.answer_format,
            image_size=size,
            resized_size=resized,
        )
        chat = prompts.messages(row.query, answer_format=options.answer_format, answer=answer)
        counts.update(rows=1, no_target=not sequence, clicks=len(sequence))
        counts["images"] = len(found)
        yield {
            "messages": [{"role": turn["role"], "content": flat(turn["content"])} for turn in chat],
            "images": [found[row.image]],
        }


def unusable(row: "Row", clicks: int, min_iou: float) -> str:
    """Why a row, of which so many clicks are taken, gives no line; empty when it does."""
    from geoclick.store import why_left_out

    # First the reasons of `geoclick train sft`, so that both train on the same rows.
    if reason := why_left_out(row, clicks, min_iou):
        return reason
    return "a tag of the tools in the query" if any(tag in row.query for tag in TAGS) else ""


def flat(content: list[dict[str, str]]) -> str:
    """The parts of a turn as one text, where the tools' tag stands for the image."""
    return "".join("<image>" if part["type"] == "image" else part["text"] for part in content)


def resized_size(size: tuple[int, int], layout: str, limits: tuple[int, int]) -> tuple[int, int] | None:
    """The size that Qwen2.5-VL sees an image at in a tool, as (height, width), or None where it refuses the image.

    ms-swift resizes once, as Qwen's own code does. LLaMA-Factory scales the image between its own limits first, cutting
    fractions of a pixel off, widens what is narrower than a token, and then leaves it to Qwen's processor
    (`MMPluginMixin._preprocess_image`, `Qwen2VLPlugin._preprocess_image` in `data/mm_plugin.py`).

    Args:
        size: (height, width) of the image in pixels.
        layout: the tool.
        limits: least and largest area that it is told.
    """
    if layout == "llama-factory":
        for limit, beyond in ((limits[1], int.__gt__), (limits[0], int.__lt__)):
            if beyond(size[0] * size[1], limit):
                scale = math.sqrt(limit / (size[0] * size[1]))
                size = int(size[0] * scale), int(size[1] * scale)
        size, limits = (max(size[0], resizing.FACTOR), max(size[1], resizing.FACTOR)), resizing.LIMITS
    return resizing.resized_size(size, limits)


main = Command(
    prog="geoclick export",
    options=ExportOptions,
    run=run,
    description="Write a click store as chat JSONL, in the layout that LLaMA-Factory or ms-swift reads.",
    example="geoclick export runs/synth --root runs/scenes --layout ms-swift --output runs/export",
)


if __name__ == "__main__":
    sys.exit(main())
