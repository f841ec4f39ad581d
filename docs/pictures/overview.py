"""Make overview.png, the picture of the README, from a finished demo.

python docs/pictures/overview.py runs/demo
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from geoclick import datasets, images, masks
from geoclick.clicks import Click
from geoclick.pages.click_drawing import panel
from geoclick.scoring import records
from geoclick.scoring.records import Record

SIDE, CAPTION, COLUMNS = 256, 40, 4


def cell(sample: datasets.Sample, record: Record) -> Image.Image:
    """One sample: the query, and below it the image with the predicted mask and the clicks."""
    pixels = panel(
        sample.read_image(),
        masks.decode_rle(record["mask"]),
        [Click(*c) for c in record["clicks"]],
        longest=SIDE,
    )
    canvas = Image.new("RGB", (SIDE, SIDE + CAPTION), "white")
    canvas.paste(Image.fromarray(pixels), (0, CAPTION))
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(13)
    words, lines = sample.query.split(), [""]
    for word in words:
        if draw.textlength(f"{lines[-1]} {word}", font=font) > SIDE - 8:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    for i, line in enumerate(lines[:2]):
        draw.text((4, 3 + 17 * i), line, fill="black", font=font)
    return canvas


def main(folder: Path) -> None:
    """Eight held-out samples spread evenly over the IoUs from 0.5 up, of all three tasks."""
    samples = {s.sample_id: s for s in datasets.read("folder", str(folder / "scenes"), "test")}
    predictions = list(records.read(folder / "lora" / records.PREDICTIONS))
    chosen = []
    for task, count in (("referring", 4), ("reasoning", 3), ("no_target", 1)):
        good = sorted(
            (r for r in predictions if r["task"] == task and r["iou"] >= 0.5), key=lambda r: r["iou"]
        )
        chosen += [good[i] for i in np.linspace(0, len(good) - 1, count).round().astype(int)]
    width, height = SIDE + 8, SIDE + CAPTION + 8
    sheet = Image.new("RGB", (COLUMNS * width, -(-len(chosen) // COLUMNS) * height), "white")
    for i, record in enumerate(chosen):
        sheet.paste(cell(samples[record["sample_id"]], record), (i % COLUMNS * width, i // COLUMNS * height))
    images.write_png(Path(__file__).parent / "overview.png", np.asarray(sheet))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
