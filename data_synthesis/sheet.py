"""The picture sheet: a few sequences of a store, one a row, click by click."""

import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from geoclick import images, masks, store
from geoclick.clicks import Click
from geoclick.datasets.reading import inside
from geoclick.files import whole

if TYPE_CHECKING:
    from geoclick.data_synthesis.shards.job import Job

CELL = 232
GAP = 10
TITLE = 30
CAPTION = 36
HEADER = 40
Pieces = tuple[tuple[str, tuple[int, int, int], int], ...]
"""Texts with their color and size."""
SCALE = 2
"""Everything is drawn this much larger and then reduced, for smooth edges."""

PAPER, INK, FAINT = (255, 255, 255), (28, 32, 36), (112, 120, 128)
PREDICTION, TARGET = (255, 176, 0), (0, 190, 255)
POSITIVE, NEGATIVE = (22, 163, 74), (220, 38, 38)


def write_sheet(output: Path, root: str | Path, job: "Job", *, count: int) -> None:
    """Write `sheet.png` beside a store: image with target, then the mask after each click.

    The masks are decoded anew from the stored clicks.

    Args:
        output: the store.
        root: the folder of its dataset.
        job: what the store was made with; its seed picks the sequences.
        count: rows at most.
    """
    from geoclick.segmenters.clicking import replay

    rows = pick((row for row in store.read(output) if row.clicks), count, job.seed)
    if not rows:
        return
    pictures = [
        images.read_image(inside(Path(root), row.image), size=(row.height, row.width)) for row in rows
    ]
    embeddings = job.segmenter.embed(pictures)
    history = replay(job.segmenter, embeddings, [row.clicks for row in rows], job.prompting)
    sheet = draw_sheet(rows, pictures, history, columns=1 + job.max_clicks)
    with whole(output / "sheet.png") as partial:
        sheet.save(partial, format="PNG", optimize=True)


def pick(rows: Iterable[store.Row], count: int, seed: int) -> list[store.Row]:
    """`count` rows of a stream, each as likely as any other, in the stream's order."""
    rng, kept = random.Random(seed), []
    for index, row in enumerate(rows):
        if len(kept) < count:
            kept.append((index, row))
        elif (slot := rng.randrange(index + 1)) < count:
            kept[slot] = (index, row)
    return [row for _, row in sorted(kept, key=lambda pair: pair[0])]


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
        _line(sheet, (GAP, top - 24), ((row.query, INK, 17), (place, FAINT, 13)), width - 2 * GAP)
        target = masks.decode_rle(row.mask)
        window = window_of(target, row.clicks)
        for column in range(len(after) + 1):
            shown = after[column - 1] if column else None
            cell = draw_cell(picture, target, shown, row.clicks[:column], window)
            left = GAP + column * (CELL + GAP)
            sheet.paste(cell, (left, top))
            _line(sheet, (left, top + CELL + 6), _caption(row, column), CELL)
    return sheet


def _caption(row: store.Row, column: int) -> Pieces:
    """What stands under a cell."""
    if column == 0:
        return (("target", FAINT, 13),)
    positive, iou = row.clicks[column - 1].positive, row.ious[column - 1]
    return (
        (f"{column} {'+' if positive else '-'}", POSITIVE if positive else NEGATIVE, 15),
        (f"IoU {iou:.2f}", INK, 15),
    )


def window_of(target: np.ndarray, clicks: Sequence[Click]) -> tuple[int, int, int]:
    """A square around a target and clicks, over the image's border only where they need it.

    Args:
        target: bool [H, W].
        clicks: in pixels of the image.

    Returns:
        (left, top, side) in pixels of the image.
    """
    ys, xs = np.nonzero(target)
    xs = np.append(xs, [click.x for click in clicks])
    ys = np.append(ys, [click.y for click in clicks])
    extent = max(np.ptp(xs), np.ptp(ys)) + 1
    side = int(min(max(extent * 1.5, 96), max(target.shape) * 1.02))
    side = max(side, int(extent) + 8)
    left, top = (
        _start(values, side, length) for values, length in ((xs, target.shape[1]), (ys, target.shape[0]))
    )
    return left, top, side


def _start(values: np.ndarray, side: int, length: int) -> int:
    """Where a window of `side` around `values` starts, moved into the image where it fits."""
    if side >= length:
        return (length - side) // 2
    return int(min(max((values.min() + values.max() - side) // 2, 0), length - side))


def _cut(array: np.ndarray, window: tuple[int, int, int], size: int, resample: int) -> np.ndarray:
    """The window of an image or mask, resized to a square of `size`; paper or False beyond the border."""
    left, top, side = window
    box = (left, top, left + side, top + side)
    if array.dtype == bool:
        cut = Image.fromarray(array.astype(np.uint8) * 255).crop(box)
        return np.asarray(cut.resize((size, size), resample)) > 127
    inside_image = Image.new("L", (array.shape[1], array.shape[0]), 255).crop(box)
    paper = Image.new("RGB", (side, side), (238, 240, 242))
    paper.paste(Image.fromarray(array).crop(box), (0, 0), inside_image)
    return np.asarray(paper.resize((size, size), resample))


def _ring(mask: np.ndarray, width: int) -> np.ndarray:
    """The inner edge of a mask."""
    return mask & ~ndimage.binary_erosion(mask, iterations=width)


def draw_cell(
    picture: np.ndarray,
    target: np.ndarray,
    prediction: np.ndarray | None,
    clicks: Sequence[Click],
    window: tuple[int, int, int],
) -> Image.Image:
    """One cell: the image, the target's edge, the prediction's tint and edge, the clicks.

    Args:
        picture: uint8 [H, W, 3].
        target: bool [H, W].
        prediction: bool [H, W], or None for none.
        clicks: in pixels of the image, numbered in this order.
        window: the part that is shown, see `window_of`.

    Returns:
        An image of CELL x CELL pixels.
    """
    size = CELL * SCALE
    pixels = _cut(picture, window, size, Image.Resampling.BICUBIC).astype(np.float32)
    wanted = _cut(target, window, size, Image.Resampling.BILINEAR)
    if prediction is not None:
        shown = _cut(prediction, window, size, Image.Resampling.BILINEAR)
        pixels[shown] = pixels[shown] * 0.62 + np.array(PREDICTION) * 0.38
        pixels[_ring(shown, 5)] = PREDICTION
    pixels[ndimage.binary_dilation(wanted, iterations=1) & ~wanted] = (20, 20, 20)
    pixels[_ring(wanted, 4)] = TARGET
    cell = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(cell)
    for number, click in enumerate(clicks, start=1):
        x = (click.x + 0.5 - window[0]) * size / window[2]
        y = (click.y + 0.5 - window[1]) * size / window[2]
        _mark(draw, x, y, str(number), click.positive)
    return cell.resize((CELL, CELL), Image.Resampling.LANCZOS)


def _mark(draw: ImageDraw.ImageDraw, x: float, y: float, text: str, positive: bool) -> None:
    """A numbered dot."""
    radius = 8 * SCALE
    draw.ellipse(
        (x - radius, y - radius, x + radius, y + radius),
        fill=POSITIVE if positive else NEGATIVE,
        outline=(255, 255, 255),
        width=2 * SCALE,
    )
    draw.text((x, y), text, fill=(255, 255, 255), anchor="mm", font=ImageFont.load_default(11 * SCALE))


def _fitted(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """The text, cut with an ellipsis when it is wider than `width` pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text.rstrip() + "..."


def _line(sheet: Image.Image, place: tuple[int, int], pieces: Pieces, width: int) -> None:
    """Pieces of text side by side on one baseline, the last cut where the width ends."""
    draw, (x, y) = ImageDraw.Draw(sheet), place
    end, baseline = x + width, y + 15
    for text, color, size in pieces:
        font = ImageFont.load_default(size)
        text = _fitted(text, font, end - x)
        draw.text((x, baseline), text, fill=color, font=font, anchor="ls")
        x += round(font.getlength(text)) + 12


def _draw_legend(sheet: Image.Image) -> None:
    """One line at the top that says what the colors mean."""
    band = Image.new("RGB", (sheet.width * SCALE, HEADER * SCALE), PAPER)
    draw, font = ImageDraw.Draw(band), ImageFont.load_default(14 * SCALE)
    x, y = GAP * SCALE, HEADER * SCALE // 2
    for sign, words in (("+", "click on what is missing"), ("-", "click on what is too much")):
        _mark(draw, x + 10 * SCALE, y, sign, sign == "+")
        draw.text((x + 26 * SCALE, y), words, fill=INK, font=font, anchor="lm")
        x += int(26 * SCALE + font.getlength(words) + 20 * SCALE)
    for color, words in ((PREDICTION, "mask after the click"), (TARGET, "target")):
        draw.rectangle(
            (x, y - 7 * SCALE, x + 22 * SCALE, y + 7 * SCALE), fill=color, outline=(20, 20, 20), width=SCALE
        )
        draw.text((x + 30 * SCALE, y), words, fill=INK, font=font, anchor="lm")
        x += int(30 * SCALE + font.getlength(words) + 20 * SCALE)
    sheet.paste(band.resize((sheet.width, HEADER), Image.Resampling.LANCZOS), (0, 0))
