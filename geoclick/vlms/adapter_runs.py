"""The chain of runs that trained an adapter, the first one first, in its geoclick.json."""

import dataclasses
from collections.abc import Container

from geoclick.vlms.adapter import AdapterRecord, Run


def started(kind: str, before: AdapterRecord | None, data_sha256: str, start_sha256: str = "") -> list[Run]:
    """The chain of a run that starts now.

    Args:
        kind: `sft` or `grpo`.
        before: record of the adapter that it starts from, or None.
        data_sha256: hash of its data.
        start_sha256: hash of that adapter's weights.
    """
    run = Run(kind=kind, steps=0, data_sha256=data_sha256, start_sha256=start_sha256, extended_at=[])
    return [*(of(before) if before else []), run]


def kind_of(config: Container[str]) -> str:
    """The kind of a run with these options."""
    return "grpo" if "iou_weight" in config else "sft"


def of(record: AdapterRecord) -> list[Run]:
    """The chain of an adapter; records of earlier versions hold only the options of each run."""
    if record.runs:
        return record.runs
    config, chain = record.config, list[Run]()
    data = record.data_sha256
    while True:
        start = str(config.get("adapter_sha256") or "")
        chain.insert(
            0, Run(kind=kind_of(config), steps=0, data_sha256=data, start_sha256=start, extended_at=[])
        )
        if not isinstance(config.get("start"), dict):
            return chain
        config, data = config["start"], ""


def at_step(record: AdapterRecord, step: int) -> AdapterRecord:
    """The record of weights that its last run has trained for some steps."""
    return _with_last(record, steps=step) if record.runs else record


def extended(record: AdapterRecord, earlier: list[int], step: int | None) -> AdapterRecord:
    """The record of a resumed run.

    Args:
        record: of this session.
        earlier: `extended_at` of the session before.
        step: at which it is resumed to train longer; None if its length is the planned one.
    """
    return _with_last(record, extended_at=[*earlier, *([] if step is None else [step])])


def _with_last(
    record: AdapterRecord, *, steps: int | None = None, extended_at: list[int] | None = None
) -> AdapterRecord:
    last = Run(**record.runs[-1])
    if steps is not None:
        last["steps"] = steps
    if extended_at is not None:
        last["extended_at"] = extended_at
    return dataclasses.replace(record, runs=[*record.runs[:-1], last])
