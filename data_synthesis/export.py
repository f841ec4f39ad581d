"""`geoclick export`: a click store as chat JSONL, for training on our clicks with LLaMA-Factory or ms-swift.

    geoclick export runs/synth --root runs/scenes --layout llama-factory --output runs/export

Both tools read lines of `messages` (`role`, `content`) and `images`, where the text `<image>` stands for the image:

- LLaMA-Factory: `formatting: sharegpt` with the tags of the OpenAI format, described in `dataset_info.json` next to the
  lines (`data/README.md` and `src/llamafactory/data/converter.py` of hiyouga/LlamaFactory). Train with
  `dataset_dir: OUTPUT`, `dataset: geoclick` and, with a validation split, `eval_dataset: geoclick_validation`.
- ms-swift: its standard format (`docs/source_en/Customization/Custom-dataset.md` of modelscope/ms-swift). Train with
  `--dataset OUTPUT/geoclick.jsonl` and `--val_dataset OUTPUT/geoclick_validation.jsonl`.

Image paths are absolute, as ms-swift recommends, or relative to the dataset's root, so that the export can be used
elsewhere: LLaMA-Factory looks for them in `media_dir`, ms-swift in the environment variable ROOT_IMAGE_DIR.
`manifest.json` is written last, with all counts.
"""

import hashlib
import json
import math
import re
import shlex
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from geoclick import codec, output_folder, prompts
from geoclick.clicks import ANSWER_ENDS
from geoclick.command import Command
from geoclick.config import option
from geoclick.errors import GeoClickError, UsageError
from geoclick.files import whole, write_whole
from geoclick.vlms import resizing

if TYPE_CHECKING:
    from geoclick.store import Row

PIXEL_LIMITS = {"llama-factory": (32 * 32, 768 * 768), "ms-swift": (4 * 28 * 28, 16384 * 28 * 28)}
"""The layouts, each with the smallest and largest area, in pixels, that its tool resizes images to by default.

LLaMA-Factory: `image_min_pixels` and `image_max_pixels` of its ProcessorArguments. ms-swift: MIN_PIXELS and MAX_PIXELS
of qwen_vl_utils, by which its Qwen-VL templates load images.
"""

TAGS = ("<image>", "<video>", "<audio>", "<bbox>", "<ref-object>")
"""Placeholders that the tools replace wherever they occur."""


class Message(TypedDict):
    """A turn of a chat."""

    role: str
    content: str


class Line(TypedDict):
    """A line of the export."""

    messages: list[Message]
    images: list[str]


@dataclass(frozen=True)
class ExportOptions:
    """Options of `geoclick export`."""

    store: str = option(positional=True, help="folder of the click store, made by geoclick synth")
    root: str = option(help="folder of the dataset, which the store's image paths are relative to")
    layout: str = option(help="the tool that reads the export", choices=tuple(PIXEL_LIMITS))
    output: str = option(help="folder to write")
    name: str = option("geoclick", help="name of the dataset and of its file")
    family: str = option(
        "qwen3_vl", help="model family whose coordinates are written", choices=codec.FAMILIES
    )
    answer_format: str = option("compact", help="format of the answers", choices=("compact", "json"))
    max_clicks: int = option(6, help="clicks of an answer at most", minimum=1)
    answer_end: str = option(
        "best",
        help="click of the store that ends an answer: best, after which the IoU is highest, or last",
        choices=ANSWER_ENDS,
    )
    min_iou: float = option(
        0.0, help="leave out rows whose stored mask has a lower IoU", minimum=0, maximum=1
    )
    min_pixels: int | None = option(
        None,
        help="smallest area of the resized image, in whose pixels qwen2_5_vl counts (default: the tool's)",
        minimum=1,
    )
    max_pixels: int | None = option(
        None, help="largest area of the resized image (default: the tool's)", minimum=1
    )
    paths: str = option(
        "absolute", help="image paths, absolute or relative to --root", choices=("absolute", "relative")
    )
    validation_share: float = option(
        0.0, help="share of the images whose rows go to a file of their own", minimum=0
    )
    seed: int = option(0, help="random seed of the validation split", minimum=0)

    @property
    def files(self) -> tuple[str, str]:
        """The names of the files of training and validation."""
        return f"{self.name}.jsonl", f"{self.name}_validation.jsonl"


def run(options: ExportOptions) -> None:
    """Write the export, its manifest last."""
    from geoclick import store

    output = Path(options.output)
    if not re.fullmatch(r"[\w-][\w.-]*", options.name):
        raise UsageError(f"--name must be letters, digits, _, - and dots only, not {options.name!r}.")
    if not options.validation_share < 1:
        raise UsageError(f"--validation-share is a share from 0 to below 1, not {options.validation_share}.")
    pixel_limits(options)
    names = list(options.files[: 2 if options.validation_share else 1])
    output_folder.check(output, "export", names)
    check_new(output)
    # Only a complete store has a manifest, so that no part of a store is exported.
    manifest = store.read_manifest(options.store)
    with output_folder.opened(output, "export", names):
        check_new(output)
        write(options, output, manifest)
    print(f"next: {train_command(options)}")


def train_command(options: ExportOptions) -> str:
    """How the tool trains on the export; placeholders are in capitals."""
    output, root, relative = Path(options.output), Path(options.root).resolve(), options.paths == "relative"
    validation = options.files[1] if options.validation_share else ""
    if options.layout == "llama-factory":
        data = [f"dataset_dir={output}", f"dataset={options.name}"]
        data += [f"eval_dataset={Path(validation).stem}"] if validation else []
        data += [f"media_dir={root}"] if relative else []
        return shlex.join(["llamafactory-cli", "train", "RECIPE.yaml", *data, "template=TEMPLATE"])
    words = ["swift", "sft", "--model", "MODEL", "--dataset", str(output / options.files[0])]
    words += ["--val_dataset", str(output / validation)] if validation else []
    return (f"ROOT_IMAGE_DIR={shlex.quote(str(root))} " if relative else "") + shlex.join(words)


def check_new(output: Path) -> None:
    """Raise UsageError if an export is complete."""
    if (output / "manifest.json").exists():
        raise UsageError(f"{output} holds a complete output already; name another --output.")


def write(options: ExportOptions, output: Path, manifest: dict[str, Any]) -> None:
    """Write the files of an export, its manifest last; `manifest` is that of the store."""
    output_folder.write_config(options, output, "export")
    counts: Counter[str] = Counter()
    left_out: Counter[str] = Counter()
    names = options.files[: 2 if options.validation_share else 1]
    _write_lines([output / name for name in names], options, counts, left_out)
    if options.layout == "llama-factory":
        entries = {Path(name).stem: dataset_info(name) for name in names}
        write_whole(output / "dataset_info.json", json.dumps(entries, indent=2) + "\n")
    content = _manifest(options, counts, left_out) | {"store": manifest}
    write_whole(output / "manifest.json", json.dumps(content, indent=2) + "\n")
    note = f", {counts['validation_rows']} of them in {output / names[1]}" if len(names) > 1 else ""
    note += "".join(f"; left out: {n} {reason}" for reason, n in left_out.items())
    print(f"{counts['rows']} rows on {counts['images']} images in {output / names[0]}{note}")


def _write_lines(
    paths: list[Path], options: ExportOptions, counts: Counter[str], left_out: Counter[str]
) -> None:
    """Write all lines to the file of training or, if there is a second one, of validation.

    Raises:
        GeoClickError: there is no line, or too few images for a validation split.
    """
    from geoclick import store

    held_out = validation_images(options) if len(paths) > 1 else frozenset()
    root = Path(options.root).resolve() if options.paths == "absolute" else Path()
    with ExitStack() as stack:
        files = [
            stack.enter_context(stack.enter_context(whole(path)).open("w", encoding="utf-8", newline="\n"))
            for path in paths
        ]
        for line in lines(options, store.read(options.store), counts, left_out):
            held = line["images"][0] in held_out
            counts.update(validation_rows=held)
            line["images"] = [str(root / image) for image in line["images"]]
            files[held].write(json.dumps(line, ensure_ascii=False) + "\n")
        if not counts["rows"]:
            reasons = ", ".join(f"{n} {reason}" for reason, n in left_out.items()) or "it is empty"
            raise GeoClickError(
                f"{options.store} has no row to export ({reasons}); lower --min-iou or make the store again."
            )


def validation_images(options: ExportOptions) -> frozenset[str]:
    """The images of the validation split: those with the first hashes of seed and name, at least one.

    Raises:
        GeoClickError: the export has a single image.
    """
    from geoclick import store

    found = lines(options, store.read(options.store), Counter(), Counter())
    images = {line["images"][0] for line in found}
    if len(images) == 1:
        raise GeoClickError(
            f"{options.store} has rows on one image only; drop --validation-share, or export more images."
        )
    count = min(max(round(options.validation_share * len(images)), 1), len(images) - 1)
    ranks = sorted(images, key=lambda image: hashlib.sha256(f"{options.seed}/{image}".encode()).digest())
    return frozenset(ranks[: max(count, 0)])


def _manifest(options: ExportOptions, counts: Counter[str], left_out: Counter[str]) -> dict[str, Any]:
    from geoclick import __version__

    least, most = pixel_limits(options) if options.family == resizing.FAMILY else (None, None)
    return {
        "layout": options.layout,
        "file": options.files[0],
        "validation_file": options.files[1] if options.validation_share else None,
        "validation_share": options.validation_share,
        "seed": options.seed,
        "paths": options.paths,
        **counts,
        "left_out": dict(left_out),
        "family": options.family,
        "answer_format": options.answer_format,
        "max_clicks": options.max_clicks,
        "answer_end": options.answer_end,
        "min_iou": options.min_iou,
        "min_pixels": least,
        "max_pixels": most,
        "prompt_version": prompts.PROMPT_VERSION,
        "geoclick": __version__,
    }


def pixel_limits(options: ExportOptions) -> tuple[int, int]:
    """Smallest and largest area of the resized image; raises UsageError when they exclude each other."""
    default = PIXEL_LIMITS[options.layout]
    least, most = options.min_pixels or default[0], options.max_pixels or default[1]
    if least > most:
        raise UsageError(
            f"--min-pixels {least} exceeds --max-pixels {most}; lower --min-pixels or raise --max-pixels."
        )
    return least, most


def dataset_info(file_name: str) -> dict[str, Any]:
    """LLaMA-Factory's description of the file."""
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


def lines(
    options: ExportOptions, rows: "Iterable[Row]", counts: Counter[str], left_out: Counter[str]
) -> Iterator[Line]:
    """The lines of an export: those rows that `geoclick train sft` uses, if the tools can read them.

    Their image paths are relative to the root.

    Args:
        options: the options.
        rows: of a click store, in order.
        counts: receives the numbers of `rows`, `no_target`, `clicks` and `images`.
        left_out: receives the number of rows without a line, by reason.

    Raises:
        GeoClickError: an image is missing or outside the root, or a row has given clicks, which must not be taught.
    """
    from geoclick import chat_rows

    images, root = chat_rows.ImagePaths(options.root), Path(options.root).resolve()
    limits = pixel_limits(options)
    for one in chat_rows.usable(
        rows,
        max_clicks=options.max_clicks,
        min_iou=options.min_iou,
        left_out=left_out,
        answer_end=options.answer_end,
    ):
        if one.given:
            raise GeoClickError(
                f"{options.store} holds answers that begin with the clicks of a model, such as {one.row.sample_id}; "
                f"{options.layout} would teach these, too. Train on the store with 'geoclick train sft'."
            )
        if any(tag in one.row.query for tag in TAGS):
            left_out["a tag of the tools in the query"] += 1
            continue
        resized = None
        if options.family == resizing.FAMILY:
            resized = resized_size(one.size, options.layout, limits)
            if resized is None:
                left_out["too narrow for Qwen-VL"] += 1
                continue
        image = Path(images[one.row.image]).relative_to(root).as_posix()
        frame = codec.Frame(options.family, options.answer_format, one.size, resized)
        chat = chat_rows.chat(one.row.query, one.parts, frame)
        counts.update(rows=1, no_target=not one.clicks, clicks=len(one.clicks))
        counts["images"] = len(images)
        yield {
            "messages": [{"role": turn["role"], "content": flat(turn["content"])} for turn in chat],
            "images": [image],
        }


def flat(content: list[dict[str, str]]) -> str:
    """The parts of a turn as one text, with `<image>` in place of the image."""
    return "".join("<image>" if part["type"] == "image" else part["text"] for part in content)


def resized_size(size: tuple[int, int], layout: str, limits: tuple[int, int]) -> tuple[int, int] | None:
    """The (height, width) at which Qwen2.5-VL sees an image in a tool; None if the image is too narrow for it.

    ms-swift resizes once, as Qwen's own code does. LLaMA-Factory first scales the image to its own limits, rounding
    down, widens sides shorter than a token, and then passes it to Qwen's processor
    (`MMPluginMixin._preprocess_image`, `Qwen2VLPlugin._preprocess_image` in `data/mm_plugin.py`).

    Args:
        size: (height, width) of the image in pixels.
        layout: the tool.
        limits: smallest and largest area that the tool is configured with.
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
