"""The text of a model card, in Markdown; whatever comes from a file is escaped."""

import html
import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from geoclick import secrets
from geoclick.scoring.model_index import METRICS, Evaluation
from geoclick.train.publishing.hub import without_paths
from geoclick.train.publishing.merged_config import oldest
from geoclick.train.publishing.provenance import Provenance, supervised_options
from geoclick.vlms import adapter_runs
from geoclick.vlms.adapter import AdapterRecord
from geoclick.vlms.merged import MergedRecord

MARK = (
    "<!-- Written by geoclick card, which replaces this file; remove this line to keep edits of your own. -->"
)
"""Marks the cards that may be overwritten; never change it, or earlier cards are not recognized."""
DATA = {
    "dataset": "layout",
    "split": "split",
    "samples": "rows of the click store",
    "segmenter": "segmenter in the loop",
    "segmenter_sha256": "SHA-256 of the segmenter",
    "policy": "click policy",
    "clicks": "maximum clicks per sequence",
    "iou_target": "IoU target of a sequence",
    "sequences": "sequences per sample",
    "seed": "seed",
    "samples_sha256": "SHA-256 of the samples",
}
"""The reported keys of a click store's manifest, with their names in the card."""
RUN = ("steps", "seconds", "samples_per_second", "processes")
"""The reported keys of the training run's metrics."""
RUN_KINDS = {"sft": "supervised", "grpo": "reinforcement"}
PATH_OPTIONS = ("clicks", "root", "chats", "chat_root", "output", "resume", "adapter")
"""Options that are paths; they do not affect the result."""


def escape(value: Any) -> str:
    """A value as one line of text that Markdown and HTML take literally."""
    text = html.escape(" ".join(str(value).split()), quote=False)
    return "".join(f"\\{c}" if c in "\\`*_[]|#" else c for c in text)


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table; every cell is escaped."""
    lines = [[escape(cell) for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *lines])


def key_value_table(values: Mapping[str, Any]) -> str:
    """Names and values as a table without a head."""
    return table(["", ""], list(values.items()))


def render(
    provenance: Provenance,
    evaluations: Sequence[Evaluation],
    *,
    name: str,
    hub_name: str | None,
    license: str | None,
    picture: str | None = None,
) -> str:
    """The card below its metadata.

    Args:
        provenance: of the model.
        evaluations: of the model.
        name: of the model.
        hub_name: repository that the model is pushed to, if any.
        license: as the user names it, or None.
        picture: file of the rewards of a run with GRPO, in the folder of the card.
    """
    base = escape(base_name(provenance))
    kind = (
        f"The language model of {base} with a LoRA adapter merged into it"
        if provenance.merged
        else f"A LoRA adapter for the language model of {base}"
    )
    introduction = (
        f"{kind}. Asked for an object in an overhead image, it writes positive and negative clicks as text, and a "
        "frozen SAM turns the clicks into a mask. Trained with GeoClick."
    )
    sections = {
        "Usage": usage(provenance, name, hub_name),
        "Base model": base_model(provenance),
        "Training data": training_data(provenance),
        "Training": training(provenance),
        "Rewards": rewards(picture) if picture else "",
        "Merging": merging(provenance.merged) if provenance.merged else "",
        "Evaluation": scores(evaluations),
        "Limitations": limitations(provenance),
        "License": escape(license or "Not stated. The licenses of the base model and of the data apply."),
    }
    parts = [MARK, f"# {escape(name)}", introduction]
    parts += [f"## {title}\n\n{text}" for title, text in sections.items() if text]
    return "\n\n".join(parts) + "\n"


def base_name(provenance: Provenance) -> str:
    """The base model, without a local path."""
    return str(without_paths(provenance.record.base))


def usage(provenance: Provenance, name: str, hub_name: str | None) -> str:
    """The commands that load the model."""
    record, folder, base = provenance.record, shlex.quote(name), shlex.quote(base_name(provenance))
    predict = 'geoclick predict tile.png --text "the largest building" --output runs/predict'
    if provenance.merged:
        commands = [f"{predict} --vlm {hub_name or folder}"]
    else:
        commands = [f"{predict} --vlm {base} --adapter {folder}"]
        if hub_name:
            commands = [f"hf download {hub_name} --local-dir {folder}", *commands]
    block = "\n".join("    " + " ".join(command.split()) for command in commands)
    segmenter = provenance.data.get("segmenter")
    advice = (
        f" The training clicks were simulated with the segmenter {escape(segmenter)}; use the same one."
        if segmenter
        else ""
    )
    return (
        f"{block}\n\nThe prompt (version {escape(record.prompt_version)}), the answer format "
        f"({escape(record.answer_format)}) and the pixel limits ({record.min_pixels} to {record.max_pixels}) are read "
        f"from geoclick.json.{advice}\n\n{libraries(provenance, hub_name or name)}"
    )


def libraries(provenance: Provenance, name: str) -> str:
    """How transformers and PEFT load the model without GeoClick; `name` is its folder or repository."""
    name = json.dumps(name)
    processor = f"processor = AutoProcessor.from_pretrained({name})"
    if provenance.merged:
        lines = [
            "from transformers import AutoModelForImageTextToText, AutoProcessor",
            "",
            f"model = AutoModelForImageTextToText.from_pretrained({name})",
            processor,
        ]
        version = oldest(provenance.record.family)
        return _code(f"With transformers {version} or later, without GeoClick:", lines)
    if provenance.record.base == "embedded":
        lines = [
            "from geoclick.vlms.loading import EMBEDDED  # the folder of the base in this installation",
            "from peft import PeftModel",
            "from transformers import AutoModelForImageTextToText, AutoProcessor",
            "",
            "base = AutoModelForImageTextToText.from_pretrained(EMBEDDED)",
            f"model = PeftModel.from_pretrained(base, {name})",
            processor,
        ]
        return _code("With PEFT and transformers, where GeoClick is installed:", lines)
    lines = [
        "from peft import AutoPeftModel",
        "from transformers import AutoProcessor",
        "",
        f"model = AutoPeftModel.from_pretrained({name})",
        processor,
    ]
    place = "" if provenance.record.revision else "; adapter_config.json names the base's folder"
    return _code(f"With PEFT and transformers, without GeoClick{place}:", lines)


def _code(introduction: str, lines: Sequence[str]) -> str:
    """Lines of code below a sentence; indented, so that nothing in them is Markdown."""
    return f"{introduction}\n\n" + "\n".join(f"    {line}".rstrip() for line in lines)


def base_model(provenance: Provenance) -> str:
    """The weights that the adapter was trained on."""
    record = provenance.record
    values = {
        "base": base_name(provenance),
        "revision": record.revision,
        "family": record.family,
        "fingerprint": record.fingerprint,
        "adapted modules": record.targets,
        "modules trained completely": ", ".join(record.modules_to_save),
    }
    return key_value_table({key: value for key, value in values.items() if value})


def training_data(provenance: Provenance) -> str:
    """The click stores, as their manifests describe them, and the number of rows that were used, by source."""
    config = provenance.record.config
    supervised = supervised_options(config)
    paths = {
        "dataset": config.get("root"),
        "click store": supervised.get("clicks"),
        "chats": supervised.get("chats"),
    }
    values = {title: _last_parts(value) for title, value in paths.items() if value}
    values |= {
        title: provenance.data[key] for key, title in DATA.items() if provenance.data.get(key) is not None
    }
    run = provenance.training
    if "rows" in run:
        values["training rows"] = run["rows"]
    sources = run.get("sources")
    for one in sources if isinstance(sources, list) and len(sources) > 1 else ():
        values[f"rows of {_last_parts(one['name'])}"] = f"{one['rows']}, {one['rows_an_epoch']} in an epoch"
    if isinstance(run.get("rows_left_out"), dict):
        values |= {f"rows left out, {reason}": count for reason, count in run["rows_left_out"].items()}
    missing = "\n\nThe manifest of the click store was not available when this card was written."
    return key_value_table(values) + ("" if provenance.data else missing)


def _last_parts(paths: str | list[str]) -> str:
    """The names of files or folders, without the folders that hold them."""
    several = paths if isinstance(paths, list) else [str(paths)]
    return ", ".join(PurePath(without_paths(str(path))).name for path in several)


def training(provenance: Provenance) -> str:
    """The resolved options of the run, its length and the versions of the libraries."""
    record = provenance.record
    config = without_paths(record.config)
    values = _options({key: value for key, value in config.items() if key != "start"})
    values |= {key.replace("_", " "): provenance.training[key] for key in RUN if key in provenance.training}
    values |= {f"version of {library}": version for library, version in record.versions.items()}
    if record.git_commit:
        values["commit of geoclick"] = record.git_commit
    parts = [runs(record), key_value_table(values)]
    while isinstance(config.get("start"), dict):
        config = config["start"]
        options = key_value_table(_options({key: value for key, value in config.items() if key != "start"}))
        parts.append(
            f"It starts from a {RUN_KINDS[adapter_runs.kind_of(config)]} run with these options:\n\n{options}"
        )
    return "\n\n".join(filter(None, parts))


def rewards(picture: str) -> str:
    """The picture of the rewards of a run with GRPO."""
    return (
        "The mean of the reward, as a fraction of its largest value, and of its parts over the steps before each "
        f"evaluation, and the mIoU on held-out images:\n\n![Rewards and held-out mIoU]({picture})"
    )


def runs(record: AdapterRecord) -> str:
    """The chain of runs as a table; empty for a single one."""
    chain = adapter_runs.of(record)
    if len(chain) == 1 and not chain[0]["extended_at"]:
        return ""
    rows = [
        [
            *(
                number,
                RUN_KINDS[run["kind"]],
                run["steps"] or "",
                run["data_sha256"][:12],
                run["start_sha256"][:12],
            ),
            ", ".join(map(str, run["extended_at"])),
        ]
        for number, run in enumerate(chain, 1)
    ]
    head = [
        "run",
        "kind",
        "steps",
        "SHA-256 of the data",
        "SHA-256 of the first weights",
        "made longer at step",
    ]
    return table(head, rows)


def _options(config: Mapping[str, Any]) -> dict[str, Any]:
    """Options for display, without paths and secrets."""
    options = {
        key: value for key, value in secrets.without_secrets(config).items() if key not in PATH_OPTIONS
    }
    return {key: "none" if value in (None, [], ()) else value for key, value in options.items()}


def merging(record: MergedRecord) -> str:
    """The check of the merged model."""
    values = {
        "dtype": record.dtype,
        "transformers": f"{oldest(record.adapter.family)} or later",
        "SHA-256 of the adapter": record.adapter_sha256,
    }
    values |= {key.replace("_", " "): value for key, value in record.check.items()}
    introduction = "The greedy answers of the merged model, compared with those of the base with its adapter:"
    return f"{introduction}\n\n{key_value_table(values)}"


def scores(evaluations: Sequence[Evaluation]) -> str:
    """The scores, also by task or class, and the protocol of each evaluation."""
    if not evaluations:
        return "None yet. `geoclick evaluate` computes scores, `geoclick card --evaluation FOLDER` adds them."
    tasks = [
        [e.dataset, e.split, task, count, f"{miou:.3f}"]
        for e in evaluations
        for task, (count, miou) in e.by_task.items()
    ]
    classes = [
        [e.dataset, e.split, name, f"{iou:.3f}"] for e in evaluations for name, iou in e.per_class.items()
    ]
    parts = [_score_table(evaluations)]
    if tasks:
        parts.append(table(["dataset", "split", "task", "samples", "mIoU"], tasks))
    if classes:
        parts.append(table(["dataset", "split", "class", "IoU over the set"], classes))
    for e in evaluations:
        title = f"Protocol on {escape(e.dataset)}, split {escape(e.split)}:"
        parts.append(f"{title}\n\n{key_value_table(e.protocol)}")
    return "\n\n".join(parts)


def _score_table(evaluations: Sequence[Evaluation]) -> str:
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
    return table(head, rows)


def limitations(provenance: Provenance) -> str:
    """What the model was not trained for, according to its record."""
    limit = supervised_options(provenance.record.config).get("max_clicks")
    clicks = f"at most {escape(limit)} clicks" if limit else "a few clicks"
    lines = [
        f"The model was trained on simulated answers of {clicks}; people click differently.",
        "Its accuracy on imagery, resolutions, classes and phrasings that differ from its training data is unknown, "
        "unless an evaluation above covers them.",
        "An answer may be wrong, empty or unreadable; GeoClick reports the answers that it cannot parse.",
        "The mask depends on the segmenter: the scores hold only for the same segmenter and decoding options.",
    ]
    if provenance.record.base == "embedded":
        lines.append(
            "The embedded base was trained on procedural scenes only; it is for demos and tests, not for real imagery."
        )
    return "\n".join(f"- {line}" for line in lines)
