"""The picture sheet of an augmented run: some rows as they are stored and as the first epochs show them."""

from pathlib import Path

import numpy as np
from datasets import Dataset
from PIL import Image, ImageDraw, ImageFont

from geoclick import files, images
from geoclick.pages.click_drawing import panel
from geoclick.train.augmentation.augment import Augmentation, Drawn, clicks_of, mask_of
from geoclick.train.augmentation.image_views import WHOLE

ROWS, EPOCHS = 12, 4
CELL, GAP, CAPTION = 288, 8, 36


def write(path: Path, rows: Dataset, augmentation: Augmentation) -> None:
    """Write the sheet: a row each, at first as stored, then epoch by epoch, with the query that each is asked by.

    Args:
        path: of the PNG.
        rows: raw ones of `geoclick.train.data.rows.build`.
        augmentation: of the run.
    """
    chosen = sorted({round(place) for place in np.linspace(0, len(rows) - 1, ROWS)})
    step = CELL + GAP
    sheet = Image.new("RGB", (GAP + (1 + EPOCHS) * step, GAP + len(chosen) * (step + CAPTION)), "white")
    for line, row in enumerate(rows[index] for index in chosen):
        image, mask = images.read_image(row["images"][0], size=tuple(row["size"])), mask_of(row)
        stored = Drawn(WHOLE, row["query"], clicks_of(row), augmentation.answer_format)
        shown = [stored, *(augmentation.draw(row, epoch) for epoch in range(EPOCHS))]
        for column, drawn in enumerate(shown):
            left, top = GAP + column * step, GAP + line * (step + CAPTION)
            picture, target = drawn.view.picture(image), drawn.view.mask(mask)
            cell = panel(picture, target, drawn.clicks, longest=CELL)
            sheet.paste(Image.fromarray(cell), (left, top + CAPTION))
            place = "stored" if column == 0 else f"epoch {column}, {drawn.answer_format}"
            pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
            pen.text((left, top), drawn.query[:44], fill="black", font=font)
            pen.text((left, top + 16), place, fill="grey", font=font)
    with files.whole(path) as partial:
        sheet.save(partial, format="PNG")
