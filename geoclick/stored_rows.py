"""The check of the rows of a click store, which is input like any other: column by column, for a batch of rows."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from geoclick import masks, plain_text
from geoclick.tasks import TASKS

MAY_BE_NULL = ("parts", "given", "shown")
"""Columns of which a row may lack the value."""

TEXTS = ("sample_id", "image", "query")
"""Columns whose texts must not be blank."""

IDENTITY = ("dataset", "split", "sample_id")
"""Columns in which no two rows of a store are equal."""

RUNS = r"^[0-o]+$"
"""The runs of a mask as COCO writes them: six bits a character."""

CONTROL = r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]"
"""Control characters other than tabs and line ends."""


def fault(batch: pa.RecordBatch) -> str:
    """What is wrong with the first broken row of a batch, as a sentence without its end; empty if nothing is.

    The runs of masks are checked where they are decoded.

    Args:
        batch: rows with the columns of one of `store.SCHEMAS`.
    """
    checks: tuple[Callable[[pa.RecordBatch], tuple[np.ndarray, str] | None], ...] = (
        *(_nulls, _texts, _tasks, _images, _sizes, _clicks, _click_places, _ious, _iou_values),
        *(lambda one: _masks(one, "mask"), lambda one: _masks(one, "shown"), _parts),
    )
    for check in checks:
        found = check(batch)
        if found is not None and found[0].any():
            row = int(np.argmax(found[0]))
            name = batch.column("sample_id")[row].as_py()
            return f"the row of sample {str(name)[:80]!r} {found[1]}"
    return ""


def repeated(batch: pa.RecordBatch, seen: set[int]) -> str:
    """As `fault`, for the first row whose sample an earlier row of the store has.

    Args:
        batch: rows without a fault.
        seen: hashes of the samples of the earlier batches, to which those of this batch are added.
    """
    columns = (batch.column(name).to_pylist() for name in IDENTITY)
    for dataset, split, name in zip(*columns, strict=True):
        key = hash((dataset, split, name))
        if key in seen:
            return f"the sample {name[:80]!r} has two rows"
        seen.add(key)
    return ""


def _bools(values: pa.Array) -> np.ndarray:
    return np.asarray(pc.fill_null(values, False))


def _nulls(batch: pa.RecordBatch) -> tuple[np.ndarray, str] | None:
    for name in batch.schema.names:
        column = batch.column(name)
        if column.null_count and name not in MAY_BE_NULL:
            return np.asarray(column.is_null()), f"has no {name}"
    return None


def _texts(batch: pa.RecordBatch) -> tuple[np.ndarray, str] | None:
    for name in TEXTS:
        column = batch.column(name)
        blank = pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(column)), 0)
        long = pc.greater(pc.utf8_length(column), plain_text.LONGEST)
        for wrong, what in (
            (blank, f"has an empty {name}"),
            (long, f"has a {name} of more than {plain_text.LONGEST:,} characters"),
            (pc.match_substring_regex(column, CONTROL), f"has a control character in its {name}"),
        ):
            if _bools(wrong).any():
                return _bools(wrong), what
    return None


def _tasks(batch: pa.RecordBatch) -> tuple[np.ndarray, str]:
    known = pc.is_in(batch.column("task"), value_set=pa.array(TASKS))
    return ~_bools(known), f"has a task that is none of {', '.join(TASKS)}"


def _images(batch: pa.RecordBatch) -> tuple[np.ndarray, str]:
    return _bools(
        pc.match_substring_regex(batch.column("image"), plain_text.OUTSIDE)
    ), "has an image outside its dataset"


def _sides(batch: pa.RecordBatch) -> tuple[np.ndarray, np.ndarray]:
    """Heights and widths, int64 [rows]."""
    height, width = (batch.column(name).to_numpy().astype(np.int64) for name in ("height", "width"))
    return height, width


def _sizes(batch: pa.RecordBatch) -> tuple[np.ndarray, str]:
    height, width = _sides(batch)
    return (height < 1) | (width < 1) | (height * width > masks.MAX_PIXELS), "has an impossible image size"


def _lists(column: pa.Array) -> tuple[np.ndarray, pa.Array]:
    """The lengths of lists, 0 for null, int64 [rows], and their values, one after another."""
    return np.asarray(pc.fill_null(pc.list_value_length(column), 0), np.int64), column.flatten()


def _of_rows(wrong: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Whether any value of each row's list is wrong, bool [rows]."""
    rows = np.repeat(np.arange(len(lengths)), lengths)
    return np.bincount(rows[wrong], minlength=len(lengths)) > 0


def _clicks(batch: pa.RecordBatch) -> tuple[np.ndarray, str]:
    lengths, clicks = _lists(batch.column("clicks"))
    wrong = np.asarray(clicks.is_null())
    for name in ("x", "y", "positive"):
        wrong = wrong | np.asarray(clicks.field(name).is_null())
    return _of_rows(wrong, lengths), "has a click without x, y or sign"


def _click_places(batch: pa.RecordBatch) -> tuple[np.ndarray, str]:
    lengths, clicks = _lists(batch.column("clicks"))
    outside = np.zeros(len(clicks), bool)
    for name, side in zip(("y", "x"), _sides(batch), strict=True):
        values = clicks.field(name).to_numpy(zero_copy_only=False)
        # `not <=` is true for NaN, too.
        outside |= ~((values >= -0.5) & (values <= np.repeat(side, lengths) - 0.5))
    return _of_rows(outside, lengths), "has a click outside its image"


def _ious(batch: pa.RecordBatch) -> tuple[np.ndarray, str]:
    clicks, ious = (_lists(batch.column(name))[0] for name in ("clicks", "ious"))
    return clicks != ious, "does not have as many IoUs as clicks"


def _iou_values(batch: pa.RecordBatch) -> tuple[np.ndarray, str]:
    lengths, ious = _lists(batch.column("ious"))
    values = ious.to_numpy(zero_copy_only=False).astype(np.float64)
    return _of_rows(~((values >= 0) & (values <= 1)), lengths), "has an IoU that is not from 0 to 1"


def _masks(batch: pa.RecordBatch, name: str) -> tuple[np.ndarray, str] | None:
    """Rows whose mask has no runs, characters that no runs have, or another size than the image."""
    if name not in batch.schema.names:
        return None
    column = batch.column(name)
    given = np.asarray(column.is_valid())
    counts = _bools(pc.match_substring_regex(column.field("counts"), RUNS))
    sizes = column.field("size").to_pylist()
    expected = np.stack(_sides(batch), axis=1).tolist()
    fits = np.array([size == own for size, own in zip(sizes, expected, strict=True)], bool)
    return given & ~(counts & fits), f"has a {name} that is broken or of another size than its image"


def _parts(batch: pa.RecordBatch) -> tuple[np.ndarray, str] | None:
    if "parts" not in batch.schema.names:
        return None
    lengths, parts = _lists(batch.column("parts"))
    return _of_rows(np.asarray(parts.is_null()), lengths), "has a part without a number of clicks"
