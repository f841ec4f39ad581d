"""The rows of all sources of a run, in one dataset, and what is counted of each."""

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from geoclick import files, store
from geoclick.train.data import chats
from geoclick.train.data import rows as rows_module
from geoclick.train.data.batches import Batch, Collator
from geoclick.train.data.lazy_rows import JoinedRows, LazyRows
from geoclick.train.data.mixture import Mixture
from geoclick.train.data.training_row import TrainingRow
from geoclick.train.options.mixture import FIRST, Source
from geoclick.train.options.sft import SftOptions
from geoclick.vlms.loading import Vlm

SOURCES = "sources"
"""Key of a batch: the source of each sample, a list of N numbers."""
LOSS = "loss_"
"""Beginning of the names of the sources' losses in the trainer's log; the name of the source follows."""


@dataclass(frozen=True)
class SourceRows:
    """The rows of one source.

    Attributes:
        source: where they are from.
        rows: their indices among the rows of all sources.
        left_out: number of rows left out, by reason.
        without_loss: answers of chats that are not the last, which have no loss.
    """

    source: Source
    rows: range
    left_out: dict[str, int]
    without_loss: int


class HeldOutImages:
    """The images of one dataset that are among some files, as its click store names them.

    Args:
        paths: absolute paths of the files.
        root: of the dataset.
    """

    def __init__(self, paths: Container[str], root: str) -> None:
        self.paths, self.root = paths, Path(root)
        self._known: dict[str, bool] = {}

    def __contains__(self, image: object) -> bool:
        """Whether an image is among the files."""
        name = str(image)
        if name not in self._known:
            self._known[name] = str(files.inside(self.root, name)) in self.paths
        return self._known[name]


class SourceCollator:
    """Adds the source of each sample to a batch.

    Args:
        collator: makes the batch.
    """

    def __init__(self, collator: Collator) -> None:
        self.collator = collator

    def __call__(self, rows: Sequence[TrainingRow] | Sequence[list[TrainingRow]]) -> Batch:
        """A batch of rows, or of one pack of rows."""
        samples = [row for one in rows for row in (one if isinstance(one, list) else [one])]
        return self.collator(rows) | {SOURCES: [row["source"] for row in samples]}


def build(
    options: SftOptions, sources: Sequence[Source], vlm: Vlm, held_out: Container[str]
) -> tuple[LazyRows, list[SourceRows]]:
    """The rows of all sources, one source after another; with several sources, `source` is the number of each row's.

    Args:
        options: of the run.
        sources: see `sources_of`.
        vlm: its processor encodes the chats.
        held_out: absolute paths of images that the run does not train on.

    Raises:
        GeoClickError: as in `rows.build` and `chats.build`.
    """
    made: list[LazyRows] = []
    parts: list[SourceRows] = []
    start = 0
    for source in sources:
        rows, left_out = build_one(options, source, vlm, held_out)
        without_loss = left_out.pop(chats.NO_LOSS, 0)
        parts.append(SourceRows(source, range(start, start + len(rows)), left_out, without_loss))
        start += len(rows)
        made.append(rows)
    return (JoinedRows(made) if len(made) > 1 else made[0]), parts


def build_one(
    options: SftOptions, source: Source, vlm: Vlm, held_out: Container[str]
) -> tuple[LazyRows, dict[str, int]]:
    """The rows of one source, and the number of those left out by reason."""
    if source.is_chats:
        return chats.build(
            Path(source.path), Path(source.root), vlm, held_out=held_out, most_tokens=options.chat_tokens
        )
    return rows_module.build(
        source.path,
        source.root,
        vlm,
        answer_format=source.answer_format,
        max_clicks=options.max_clicks,
        min_iou=options.min_iou,
        answer_end=options.answer_end,
        held_out=HeldOutImages(held_out, source.root) if held_out else (),
        raw=options.augments,
    )


def digest(options: SftOptions) -> str:
    """SHA-256 of all data of a run; that of a run without chats is the stores' own."""
    stores = store.digest(*options.clicks, *filter(None, [options.evaluate_clicks]))
    if not options.chats:
        return stores
    hashes = [stores, *(files.sha256(Path(path)) for path in options.chats)]
    return hashlib.sha256("".join(hashes).encode()).hexdigest()


def mixture_of(options: SftOptions, parts: Sequence[SourceRows], seed: int) -> Mixture | None:
    """The mixture of the sources by their weights, or None if every epoch has all rows."""
    weights = [part.source.weight for part in parts if part.source.weight is not None]
    if not weights:
        return None
    return Mixture([part.rows for part in parts], weights, options.stopping or FIRST, seed)


def left_out(parts: Sequence[SourceRows]) -> dict[str, int]:
    """The number of rows left out of all sources, by reason."""
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part.left_out)
    return dict(total)


def without_long(parts: Sequence[SourceRows], lengths: Sequence[int], budget: int) -> list[SourceRows]:
    """The sources, with their rows of more tokens than a pack holds counted as left out."""
    return [
        dataclasses.replace(
            part, left_out=part.left_out | {"too_long": sum(lengths[i] > budget for i in part.rows)}
        )
        for part in parts
    ]


@dataclass(frozen=True)
class SourceFigures:
    """What metrics.json says of a source.

    Attributes:
        name: of the source.
        path: of the click store or file.
        weight: its share of an epoch, or None.
        rows: that are trained on.
        rows_an_epoch: of them in an epoch, repeated ones included.
        rows_left_out: by reason.
        earlier_answers_without_loss: answers of chats that are not the last.
        first_loss: the first one that was logged.
        last_loss: the last one.
    """

    name: str
    path: str
    weight: float | None
    rows: int
    rows_an_epoch: int
    rows_left_out: dict[str, int]
    earlier_answers_without_loss: int
    first_loss: float | None
    last_loss: float | None


def figures(
    parts: Sequence[SourceRows], mixture: Mixture | None, log: Sequence[Mapping[str, float]] = ()
) -> list[SourceFigures]:
    """The figures of all sources; `log` is the trainer's, with their losses."""
    result = []
    for number, part in enumerate(parts):
        rows = len(part.rows) - part.left_out.get("too_long", 0)
        losses = [entry[name] for entry in log if (name := f"{LOSS}{part.source.name}") in entry]
        result.append(
            SourceFigures(
                name=part.source.name,
                path=part.source.path,
                weight=part.source.weight,
                rows=rows,
                rows_an_epoch=mixture.counts[number] if mixture else rows,
                rows_left_out=part.left_out,
                earlier_answers_without_loss=part.without_loss,
                first_loss=losses[0] if losses else None,
                last_loss=losses[-1] if losses else None,
            )
        )
    return result


def lines(
    parts: Sequence[SourceRows], mixture: Mixture | None, log: Sequence[Mapping[str, float]] = ()
) -> list[str]:
    """One line on each source of `figures`; none for a single source."""
    result = []
    for one in figures(parts, mixture, log) if len(parts) > 1 else ():
        share = "" if one.weight is None else f" (weight {one.weight:.3g})"
        left_out = [f"{count:,} {reason}" for reason, count in one.rows_left_out.items() if count]
        more = f"; left out: {', '.join(left_out)}" if left_out else ""
        if one.earlier_answers_without_loss:
            more += f"; {one.earlier_answers_without_loss:,} {chats.NO_LOSS}"
        if one.first_loss is not None:
            more += f"; loss {one.first_loss:.3f} at first, {one.last_loss:.3f} at last"
        result.append(f"{one.name}: {one.rows:,} rows, {one.rows_an_epoch:,} an epoch{share}{more}")
    return result
