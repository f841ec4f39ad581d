"""The picture sheet of an augmented run: some rows as stored, and as augmented in the first epochs."""

from pathlib import Path

import numpy as np
from PIL import Image

from geoclick import files
from geoclick.geo import reading
from geoclick.pages.click_drawing import Text, draw_line, panel
from geoclick.train.augmentation.augment import Augmentation, AugmentedSample, mask_of, parts_of
from geoclick.train.augmentation.image_views import FULL_IMAGE
from geoclick.train.data.lazy_rows import LazyRows

ROWS, EPOCHS = 12, 4
BLACK, GREY = (0, 0, 0), (128, 128, 128)
CELL, GAP, CAPTION = 288, 8, 36


def write(path: Path, rows: LazyRows, augmentation: Augmentation) -> None:
    """Write the sheet: for each row the stored sample, then that of each epoch, with its query.

    Args:
        path: of the PNG.
        rows: from `geoclick.train.data.rows.build`.
        augmentation: of the run.
    """
    chosen = sorted({round(place) for place in np.linspace(0, len(rows) - 1, ROWS)})
    step = CELL + GAP
    sheet = Image.new("RGB", (GAP + (1 + EPOCHS) * step, GAP + len(chosen) * (step + CAPTION)), "white")
    for line, row in enumerate(rows[index] for index in chosen):
        image, mask = reading.read_image(row["images"][0], size=tuple(row["size"])), mask_of(row)
        stored = AugmentedSample(FULL_IMAGE, row["query"], parts_of(row), augmentation.answer_format)
        shown = [stored, *(augmentation.draw(row, epoch) for epoch in range(EPOCHS))]
        for column, drawn in enumerate(shown):
            left, top = GAP + column * step, GAP + line * (step + CAPTION)
            picture, target = drawn.view.pixels(image), drawn.view.mask(mask)
            cell = panel(picture, target, drawn.clicks, longest=CELL)
            sheet.paste(Image.fromarray(cell), (left, top + CAPTION))
            place = "stored" if column == 0 else f"epoch {column}, {drawn.answer_format}"
            draw_line(sheet, (left, top - 3), [Text(drawn.query, BLACK, 13)], CELL)
            draw_line(sheet, (left, top + 13), [Text(place, GREY, 13)], CELL)
    with files.whole(path) as partial:
        sheet.save(partial, format="PNG")
