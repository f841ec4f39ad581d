"""Make overview.png, the README's picture, from a finished demo.

python docs/pictures/overview.py runs/demo
"""

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from geoclick import datasets, images, masks
from geoclick.clicks import Click
from geoclick.pages.click_drawing import panel

SIDE, CAPTION, COLUMNS = 256, 40, 4


def cell(sample: datasets.Sample, entry: dict) -> Image.Image:
    """One sample: the query above, the predicted mask and the clicks below."""
    picture = panel(
        sample.read_image(),
        masks.decode_rle(entry["mask"]),
        [Click(*c) for c in entry["clicks"]],
        longest=SIDE,
    )
    canvas = Image.new("RGB", (SIDE, SIDE + CAPTION), "white")
    canvas.paste(Image.fromarray(picture), (0, CAPTION))
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
    entries = [json.loads(line) for line in (folder / "lora" / "predictions.jsonl").open(encoding="utf-8")]
    chosen = []
    for task, count in (("referring", 4), ("reasoning", 3), ("no_target", 1)):
        good = sorted((e for e in entries if e["task"] == task and e["iou"] >= 0.5), key=lambda e: e["iou"])
        chosen += [good[i] for i in np.linspace(0, len(good) - 1, count).round().astype(int)]
    width, height = SIDE + 8, SIDE + CAPTION + 8
    sheet = Image.new("RGB", (COLUMNS * width, -(-len(chosen) // COLUMNS) * height), "white")
    for i, entry in enumerate(chosen):
        sheet.paste(cell(samples[entry["sample_id"]], entry), (i % COLUMNS * width, i // COLUMNS * height))
    images.write_png(Path(__file__).parent / "overview.png", np.asarray(sheet))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
