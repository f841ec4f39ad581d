"""Make overview.png, the picture of the README, from a finished demo.

geoclick demo --output runs/demo
python docs/pictures/overview.py runs/demo

The first two rows are answers of the LoRA-tuned model to held-out queries: of each kind of query, samples at equal
distances in the order of their IoU, from 0.8 up. The third row is a map without training: of the images all of whose
pixels are scored, the one with the most pixels of the right class.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from geoclick import images, masks
from geoclick.clicks import Click
from geoclick.demo_results import MAPS
from geoclick.geo.reading import read_image
from geoclick.instances import of_mask
from geoclick.pages import captions
from geoclick.pages.click_drawing import Color, panel
from geoclick.scoring import records
from geoclick.scoring.records import Record

SIDE, CAPTION, HEADING, GAP, COLUMNS = 256, 40, 44, 8, 4
INK, PAPER = (20, 20, 20), (255, 255, 255)

QUERIES = (
    ("referring", 1),
    ("reasoning", 1),
    ("hard", 1),
    ("no_target", 1),
    ("all_of_a_kind", 2),
    ("several_by_purpose", 2),
)
"""Kinds of queries, and how many of each are shown."""

SEVERAL = ("all_of_a_kind", "several_by_purpose")
"""Kinds that ask for several objects; their answers have at least PARTS parts here."""

PARTS = 3

LEAST = 0.8
"""IoU of the answers that are shown."""

GENERATIVE = "From a query to clicks to a mask: a LoRA-tuned model writes the clicks, SAM decodes them"
TRAINING_FREE = "Without training: CLIP names the pixels, SAM proposes the regions"

TINT = 0.6
"""Share of a class's color in a map."""


def chosen(predictions: Sequence[Record]) -> list[Record]:
    """The answers that are shown, see the top of this file."""
    found = []
    for task, count in QUERIES:
        good = [one for one in predictions if one["task"] == task and one["iou"] >= LEAST]
        good = [one for one in good if task not in SEVERAL or len(one.get("parts", [])) >= PARTS]
        good.sort(key=lambda one: one["iou"])
        # Another image for each, and the best of those with the same query.
        good = [one for one in good if one["image"] not in {other["image"] for other in found}]
        good = list({one["query"]: one for one in good}.values())
        # In the middle of equal shares: one in the middle of all, two at a quarter and at three quarters.
        found += [good[int((share + 0.5) * len(good) / count)] for share in range(count)]
    return found


def cell(text: str, pixels: np.ndarray) -> Image.Image:
    """A picture below its text."""
    canvas = Image.new("RGB", (SIDE, SIDE + CAPTION), PAPER)
    canvas.paste(Image.fromarray(pixels), (0, CAPTION))
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(13)
    for number, line in enumerate(captions.wrap(text, font, SIDE - 8, 2)):
        pen.text((4, 3 + 17 * number), line, fill=INK, font=font)
    return canvas


def answer(folder: Path, record: Record) -> Image.Image:
    """An answer: the query, and below it the image with the mask and the clicks."""
    parts = [
        of_mask(tuple(Click(*click) for click in part["clicks"]), masks.decode_rle(part["mask"]))
        for part in record.get("parts", [])
    ]
    image = read_image(folder / "scenes" / record["image"])
    clicks = [Click(*click) for click in record["clicks"]]
    return cell(
        record["query"], panel(image, masks.decode_rle(record["mask"]), clicks, longest=SIDE, instances=parts)
    )


def class_map(folder: Path) -> list[Image.Image]:
    """An image, its true classes, those of the pipeline without training, and the legend."""
    run = folder / MAPS
    about = json.loads((run / "protocol.json").read_text(encoding="utf-8"))["classes"]
    colors = {name: tuple(one["color"]) for name, one in about.items()}
    found = {}
    for name, group in groupby(records.read(run / records.PREDICTIONS), key=lambda one: one["image"]):
        of_image = list(group)
        if of_image[0]["valid"] is None or masks.decode_rle(of_image[0]["valid"]).all():
            found[name] = of_image
    name = max(found, key=lambda name: right(found[name]))
    image = read_image(folder / "land-cover" / name)
    drawn = [tinted(image, found[name], key, colors) for key in ("target", "mask")]
    texts = ("a scene in the layout of LoveDA", "its true classes", "its classes without training")
    return [
        *(cell(text, small(pixels)) for text, pixels in zip(texts, (image, *drawn), strict=True)),
        legend({record["category"]: colors[record["category"]] for record in found[name]}),
    ]


def right(of_image: Sequence[Record]) -> int:
    """The pixels of an image that have the true class."""
    return sum(int(record["intersection"]) for record in of_image)


def tinted(
    image: np.ndarray, of_image: Sequence[Record], key: str, colors: Mapping[str, Color]
) -> np.ndarray:
    """An image in the colors of its classes, uint8 [H, W, 3]; the background stays as it is."""
    picture = image.astype(np.float32)
    for record in of_image:
        if record["category"] != "background":
            mask = masks.decode_rle(record[key])
            picture[mask] = (1 - TINT) * picture[mask] + TINT * np.array(colors[record["category"]])
    return picture.round().astype(np.uint8)


def small(pixels: np.ndarray) -> np.ndarray:
    """A square picture at the size of a cell."""
    return np.asarray(Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BOX))


def legend(colors: Mapping[str, Color]) -> Image.Image:
    """The colors of the classes."""
    canvas = Image.new("RGB", (SIDE, SIDE + CAPTION), PAPER)
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(15)
    for number, (name, color) in enumerate(colors.items()):
        top = CAPTION + 8 + 32 * number
        pen.rectangle((12, top, 34, top + 22), fill=PAPER if name == "background" else color, outline=INK)
        pen.text((46, top + 11), name, fill=INK, font=font, anchor="lm")
    return canvas


def sheet(rows: Sequence[tuple[str, Sequence[Image.Image]]]) -> np.ndarray:
    """Rows of cells below their headings, uint8 [H, W, 3]."""
    width, height = COLUMNS * (SIDE + GAP) - GAP, SIDE + CAPTION + GAP
    lines = [-(-len(cells) // COLUMNS) for _, cells in rows]
    canvas = Image.new("RGB", (width, len(rows) * HEADING + sum(lines) * height), PAPER)
    pen, font, top = ImageDraw.Draw(canvas), ImageFont.load_default(18), 0
    for (heading, cells), count in zip(rows, lines, strict=True):
        pen.text((4, top + HEADING - 14), heading, fill=INK, font=font, anchor="ls")
        for number, one in enumerate(cells):
            row, column = divmod(number, COLUMNS)
            canvas.paste(one, (column * (SIDE + GAP), top + HEADING + row * height))
        top += HEADING + count * height
    return np.asarray(canvas)


def main(folder: Path) -> None:
    """Write the picture."""
    predictions = list(records.read(folder / "lora" / records.PREDICTIONS))
    answers = [answer(folder, record) for record in chosen(predictions)]
    picture = sheet([(GENERATIVE, answers), (TRAINING_FREE, class_map(folder))])
    images.write_png(Path(__file__).parent / "overview.png", picture)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
