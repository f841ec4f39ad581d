"""The picture sheet of a click store: a few sequences, one per row, click by click."""

import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from geoclick import masks, store
from geoclick.files import whole
from geoclick.geo.reading import DEFAULT, PixelOptions, read_recorded
from geoclick.pages.click_drawing import (
    BLACK,
    MASK_COLOR,
    NEGATIVE,
    POSITIVE,
    SUPERSAMPLING,
    TARGET_COLOR,
    Text,
    draw_click,
    draw_line,
    window_around,
    window_panel,
)

if TYPE_CHECKING:
    from geoclick.data_synthesis.shards.job import Job

CELL = 232
GAP = 10
TITLE = 30
CAPTION = 36
HEADER = 40
PAPER, INK, FAINT = (255, 255, 255), (28, 32, 36), (112, 120, 128)


def write_sheet(
    output: Path, root: str | Path, job: "Job", *, count: int, pixels: PixelOptions = DEFAULT
) -> None:
    """Write `sheet.png` into the folder of a store: the image with the target, then with the mask after each click.

    The masks are decoded again from the stored clicks.

    Args:
        output: the store.
        root: the folder of its dataset.
        job: that made the store; its seed selects the sequences.
        count: largest number of sequences.
        pixels: how the images are shown.
    """
    from geoclick.segmenters.clicking import replay

    rows = pick((row for row in store.read(output) if row.clicks), count, job.seed)
    if not rows:
        return
    pictures = [read_recorded(Path(root), row.image, (row.height, row.width), pixels) for row in rows]
    embeddings = job.segmenter.embed(pictures)
    of_part = [(number, clicks) for number, row in enumerate(rows) for clicks in row.sequences]
    masks_of_part = replay(
        job.segmenter, [embeddings[number] for number, _ in of_part], [s for _, s in of_part], job.prompting
    )
    history: list[list[np.ndarray]] = [[] for _ in rows]
    for (number, _), after in zip(of_part, masks_of_part, strict=True):
        earlier = history[number][-1] if history[number] else np.zeros_like(after[-1])
        history[number] += [earlier | mask for mask in after]
    sheet = draw_sheet(rows, pictures, history, columns=1 + job.max_clicks)
    with whole(output / "sheet.png") as partial:
        sheet.save(partial, format="PNG", optimize=True)


def pick(rows: Iterable[store.Row], count: int, seed: int) -> list[store.Row]:
    """A random sample of `count` rows of a stream, in the stream's order."""
    rng = random.Random(seed)
    sample: list[tuple[int, store.Row]] = []
    for index, row in enumerate(rows):
        if len(sample) < count:
            sample.append((index, row))
        elif (slot := rng.randrange(index + 1)) < count:
            sample[slot] = (index, row)
    return [row for _, row in sorted(sample, key=lambda pair: pair[0])]


def draw_sheet(
    rows: Sequence[store.Row],
    pictures: Sequence[np.ndarray],
    history: Sequence[Sequence[np.ndarray]],
    *,
    columns: int,
) -> Image.Image:
    """The sheet.

    Args:
        rows: the sequences.
        pictures: the image of each, uint8 [H, W, 3].
        history: the masks of each after each click, bool [H, W].
        columns: cells in a row.
    """
    width = columns * (CELL + GAP) + GAP
    height = HEADER + len(rows) * (TITLE + CELL + CAPTION)
    sheet = Image.new("RGB", (width, height), PAPER)
    _draw_legend(sheet)
    for number, (row, picture, after) in enumerate(zip(rows, pictures, history, strict=True)):
        top = HEADER + number * (TITLE + CELL + CAPTION) + TITLE
        place = f"{row.sample_id}, {row.width}x{row.height} pixels"
        draw_line(sheet, (GAP, top - 24), (Text(row.query, INK, 17), Text(place, FAINT, 13)), width - 2 * GAP)
        target = masks.decode_rle(row.mask)
        window = window_around(target, row.clicks)
        for column, clicks in enumerate(shown_clicks(len(after), columns)):
            shown = after[clicks - 1] if clicks else None
            cell = window_panel(picture, target, shown, row.clicks[:clicks], window, side=CELL)
            left = GAP + column * (CELL + GAP)
            sheet.paste(Image.fromarray(cell), (left, top))
            draw_line(sheet, (left, top + CELL + 6), _caption(row, clicks), CELL)
    return sheet


def shown_clicks(count: int, columns: int) -> list[int]:
    """The numbers of clicks after which the mask is shown: all from 0 to `count`, or `columns` of them, evenly."""
    if count < columns:
        return list(range(count + 1))
    return [round(column * count / (columns - 1)) for column in range(columns)]


def _caption(row: store.Row, clicks: int) -> tuple[Text, ...]:
    """The text below a cell."""
    if clicks == 0:
        return (Text("target", FAINT, 13),)
    positive, iou = row.clicks[clicks - 1].positive, row.ious[clicks - 1]
    own = " model's own" if clicks <= row.given else ""
    return (
        Text(f"{clicks} {'+' if positive else '-'}{own}", POSITIVE if positive else NEGATIVE, 15),
        Text(f"IoU {iou:.2f}", INK, 15),
    )


def _draw_legend(sheet: Image.Image) -> None:
    """Draw what the colors mean, in one line at the top."""
    scale = SUPERSAMPLING
    band = Image.new("RGB", (sheet.width * scale, HEADER * scale), PAPER)
    pen, font = ImageDraw.Draw(band), ImageFont.load_default(14 * scale)
    x, y = GAP * scale, HEADER * scale // 2
    for sign, text in (("+", "click on a missing part"), ("-", "click on a wrong part")):
        draw_click(pen, x + 10 * scale, y, sign, positive=sign == "+", radius=8 * scale)
        pen.text((x + 26 * scale, y), text, fill=INK, font=font, anchor="lm")
        x += int(46 * scale + font.getlength(text))
    for color, text in ((MASK_COLOR, "mask after the click"), (TARGET_COLOR, "target")):
        box = (x, y - 7 * scale, x + 22 * scale, y + 7 * scale)
        pen.rectangle(box, fill=color, outline=BLACK, width=scale)
        pen.text((x + 30 * scale, y), text, fill=INK, font=font, anchor="lm")
        x += int(50 * scale + font.getlength(text))
    sheet.paste(band.resize((sheet.width, HEADER), Image.Resampling.LANCZOS), (0, 0))
