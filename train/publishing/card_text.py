"""The words of a model card, in Markdown; whatever came from a file is escaped."""

import html
import shlex
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from geoclick.scoring.model_index import METRICS, Evaluation
from geoclick.train.publishing.hub import without_paths
from geoclick.train.publishing.provenance import Story, supervised
from geoclick.vlms.merged import MergedRecord

MARK = (
    "<!-- Written by geoclick card, which replaces this file; remove this line to keep edits of your own. -->"
)
DATA = {
    "dataset": "layout",
    "split": "split",
    "samples": "rows of the click store",
    "segmenter": "segmenter in the loop",
    "segmenter_sha256": "its SHA-256",
    "policy": "policy",
    "clicks": "clicks of a sequence at most",
    "iou_target": "stops at this IoU",
    "sequences": "sequences of a sample",
    "seed": "seed",
    "samples_sha256": "SHA-256 of the samples",
}
"""The keys of a click store's manifest that are told."""
FOLDERS = ("clicks", "root", "output", "resume")
"""Options of the run that say where things lay, not what was done."""


def escape(value: Any) -> str:
    """A value from a file as one line of text that Markdown and HTML take literally."""
    text = html.escape(" ".join(str(value).split()), quote=False)
    return "".join(f"\\{c}" if c in "\\`*_[]|#" else c for c in text)


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table; every cell is escaped."""
    lines = [[escape(cell) for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *lines])


def pairs(values: Mapping[str, Any]) -> str:
    """Names and values as a table."""
    return table(["", ""], list(values.items()))


def render(
    story: Story, evaluations: Sequence[Evaluation], *, name: str, hub_name: str | None, license: str | None
) -> str:
    """The card below its metadata.

    Args:
        story: of the model.
        evaluations: its figures.
        name: the model's.
        hub_name: where it is pushed to, None when it is not.
        license: as the user names it, None when unstated.
    """
    base = escape(base_name(story))
    made = (
        f"The language model of {base} with a LoRA adapter merged into it"
        if story.merged
        else f"A LoRA adapter on the language model of {base}"
    )
    parts = [
        MARK,
        f"# {escape(name)}",
        f"{made}: asked for a thing in an overhead image, it writes positive and negative clicks as text, which a "
        "frozen SAM turns into a mask. Trained with GeoClick.",
        "## How to use it\n\n" + usage(story, name, hub_name),
        "## Base model\n\n" + base_table(story),
        "## Data\n\n" + data(story),
        "## Recipe\n\n" + recipe(story),
    ]
    if story.merged:
        parts.append("## Merging\n\n" + merging(story.merged))
    parts += [
        "## Figures\n\n" + figures(evaluations),
        "## Limits\n\n" + limits(story),
        "## Licence\n\n"
        + (
            escape(license) if license else "Not stated. The licences of the base model and of the data bind."
        ),
    ]
    return "\n\n".join(parts) + "\n"


def base_name(story: Story) -> str:
    """The base as it was named, without the folders above it."""
    return without_paths(story.record.base)


def usage(story: Story, name: str, hub_name: str | None) -> str:
    """The commands that load the model, and what it must be asked with."""
    record, name, base = story.record, shlex.quote(name), shlex.quote(base_name(story))
    ask = 'geoclick predict tile.png --text "the largest building" --output runs/predict'
    if story.merged:
        lines = [f"{ask} --vlm {hub_name or name}"]
    else:
        lines = [f"{ask} --vlm {base} --adapter {name}"]
        if hub_name:
            lines = [f"hf download {hub_name} --local-dir {name}", *lines]
    block = "\n".join("    " + " ".join(line.split()) for line in lines)
    segmenter = story.data.get("segmenter")
    by = (
        f" The clicks were made with the segmenter {escape(segmenter)}; decode them with it."
        if segmenter
        else ""
    )
    return (
        f"{block}\n\nThe prompt (version {escape(record.prompt_version)}), the answer format "
        f"({escape(record.answer_format)}) and the pixel limits ({record.min_pixels} to {record.max_pixels}) are taken "
        f"from geoclick.json.{by}"
    )


def base_table(story: Story) -> str:
    """Which weights the adapter was trained on."""
    record = story.record
    values = {"base": base_name(story), "revision": record.revision, "family": record.family}
    values |= {"fingerprint": record.fingerprint, "adapted modules": record.targets}
    return pairs({key: value for key, value in values.items() if value})


def data(story: Story) -> str:
    """The click store, by its manifest, and how many of its rows were trained on."""
    root, clicks = story.record.config.get("root"), supervised(story.record.config).get("clicks")
    values = {
        title: PurePath(str(value)).name
        for title, value in (("dataset", root), ("click store", clicks))
        if value
    }
    values |= {title: story.data[key] for key, title in DATA.items() if story.data.get(key) is not None}
    training = story.training
    values |= {"rows trained on": training["rows"]} if "rows" in training else {}
    if isinstance(training.get("rows_left_out"), dict):
        values |= {f"rows left out, {why}": n for why, n in training["rows_left_out"].items()}
    note = "" if story.data else "\n\nThe click store's manifest was not at hand when this card was written."
    return pairs(values) + note


def recipe(story: Story) -> str:
    """The resolved options of the run, its length and the versions of the libraries."""
    config = without_paths(story.record.config)
    options = {k: v for k, v in config.items() if k not in (*FOLDERS, "start")}
    told = ("steps", "seconds", "samples_per_second", "processes")
    ran = {key.replace("_", " "): story.training[key] for key in told if key in story.training}
    record = story.record
    made = {f"version of {name}": version for name, version in record.versions.items()}
    made |= {"commit of geoclick": record.git_commit} if record.git_commit else {}
    text = pairs(_shown(options) | ran | made)
    if "start" in config:
        before = {k: v for k, v in supervised(config).items() if k not in FOLDERS}
        text += f"\n\nThe supervised run that the reinforcement starts from:\n\n{pairs(_shown(before))}"
    return text


def _shown(options: Mapping[str, Any]) -> dict[str, Any]:
    return {key: "none" if value in (None, [], ()) else value for key, value in options.items()}


def merging(record: MergedRecord) -> str:
    """How the merged model was checked."""
    check = record.check
    values = {"dtype": record.dtype, "SHA-256 of the adapter": record.adapter_sha256}
    values |= {key.replace("_", " "): value for key, value in check.items()}
    return "Greedy answers of the merged model against those of the base with its adapter.\n\n" + pairs(
        values
    )


def figures(evaluations: Sequence[Evaluation]) -> str:
    """The scores, those by task or class, and the protocol of each."""
    if not evaluations:
        return (
            "None yet. `geoclick evaluate` makes them, `geoclick card --evaluation FOLDER` writes them here."
        )
    keys = [key for key in METRICS if any(key in e.scores for e in evaluations)]
    head = ["dataset", "split", "samples", *(METRICS[key] for key in keys), "mIoU, 95 % interval"]
    rows = [
        [
            *(e.dataset, e.split, e.protocol.get("n", "")),
            *(f"{e.scores[key]:.3f}" if key in e.scores else "" for key in keys),
            f"{e.interval[0]:.3f} to {e.interval[1]:.3f}" if e.interval else "",
        ]
        for e in evaluations
    ]
    parts = [table(head, rows)]
    tasks = [[e.dataset, e.split, t, n, f"{v:.3f}"] for e in evaluations for t, (n, v) in e.by_task.items()]
    if tasks:
        parts.append(table(["dataset", "split", "task", "samples", "mIoU"], tasks))
    classes = [[e.dataset, e.split, c, f"{v:.3f}"] for e in evaluations for c, v in e.per_class.items()]
    if classes:
        parts.append(table(["dataset", "split", "class", "IoU over the set"], classes))
    for e in evaluations:
        parts.append(f"Protocol on {escape(e.dataset)}, split {escape(e.split)}:\n\n{pairs(e.protocol)}")
    return "\n\n".join(parts)


def limits(story: Story) -> str:
    """What the model was not shown, by its record."""
    most = supervised(story.record.config).get("max_clicks")
    clicks = f"at most {escape(most)} of them an answer" if most else "few of them an answer"
    lines = [
        f"It learnt from simulated clicks, {clicks}; people click otherwise.",
        "What it does on imagery, resolutions, classes and wordings other than those of its data is not measured "
        "unless a figure above says so.",
        "An answer may be wrong, empty or unreadable; GeoClick reports which answers it could not read.",
        "The mask is the segmenter's: with another one, or other settings of decoding, the figures do not hold.",
    ]
    if story.record.base == "embedded":
        lines.append(
            "The embedded base has seen procedural scenes only: for demos and tests, not for real imagery."
        )
    return "\n".join(f"- {line}" for line in lines)
