"""The picture sheet of an augmented run: some rows as stored, and as augmented in the first epochs."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
from PIL import Image

from geoclick import files
from geoclick.pages.click_drawing import Text, draw_line, panel
from geoclick.train.augmentation.augment import Augmentation, AugmentedSample, mask_of, parts_of
from geoclick.train.augmentation.image_views import FULL_IMAGE, shown_images
from geoclick.train.data.lazy_rows import LazyRows
from geoclick.train.data.training_row import RawRow

ROWS, EPOCHS = 12, 4
BLACK, GREY = (0, 0, 0), (128, 128, 128)
CELL, GAP, CAPTION = 288, 8, 36


class Cell(NamedTuple):
    """One picture of the sheet.

    Attributes:
        picture: uint8 [h, w, 3], its longest side of CELL pixels.
        query: above it.
        caption: above it, too.
    """

    picture: np.ndarray
    query: str
    caption: str


def write(path: Path, rows: LazyRows, augmentation: Augmentation) -> None:
    """Write the sheet: for each row the stored sample, then that of each epoch, with its query.

    Args:
        path: of the PNG.
        rows: from `geoclick.train.data.rows.build`.
        augmentation: of the run.
    """
    draw(path, [_cells(cast(RawRow, rows[index]), augmentation) for index in chosen(len(rows))])


def chosen(count: int) -> list[int]:
    """The indices of the shown ones among so many."""
    return sorted({round(place) for place in np.linspace(0, count - 1, ROWS)})


def _cells(row: RawRow, augmentation: Augmentation) -> list[Cell]:
    """A row as stored and in each epoch."""
    image, mask = shown_images(row)[0].read(), mask_of(row)
    stored = AugmentedSample(FULL_IMAGE, row["query"], parts_of(row), augmentation.answer_format)
    cells = []
    for column, drawn in enumerate([stored, *(augmentation.draw(row, epoch) for epoch in range(EPOCHS))]):
        picture = panel(drawn.view.pixels(image), drawn.view.mask(mask), drawn.clicks, longest=CELL)
        caption = "stored" if column == 0 else f"epoch {column}, {drawn.answer_format}"
        cells.append(Cell(picture, drawn.query, caption))
    return cells


def draw(path: Path, lines: Sequence[Sequence[Cell]]) -> None:
    """Write a sheet as a PNG: for each sample a line of `1 + EPOCHS` pictures."""
    step = CELL + GAP
    sheet = Image.new("RGB", (GAP + (1 + EPOCHS) * step, GAP + len(lines) * (step + CAPTION)), "white")
    for line, cells in enumerate(lines):
        for column, cell in enumerate(cells):
            left, top = GAP + column * step, GAP + line * (step + CAPTION)
            sheet.paste(Image.fromarray(cell.picture), (left, top + CAPTION))
            draw_line(sheet, (left, top - 3), [Text(cell.query, BLACK, 13)], CELL)
            draw_line(sheet, (left, top + 13), [Text(cell.caption, GREY, 13)], CELL)
    with files.whole(path) as partial:
        sheet.save(partial, format="PNG")
