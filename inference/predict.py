"""Masks of images from a sentence: the mask, an overlay with the clicks, and a JSON record for each image.

geoclick predict tile.png --text "the largest building" --output runs/predict
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from geoclick import files
from geoclick.command import Command
from geoclick.config import option, write_config
from geoclick.errors import GeoClickError, UsageError
from geoclick.options import GenerationOptions

if TYPE_CHECKING:
    import numpy as np

    from geoclick.inference.prediction import Prediction

EXAMPLE = 'geoclick predict tile.png --text "the largest building" --output runs/predict'


@dataclass(frozen=True, kw_only=True)
class PredictOptions(GenerationOptions):
    """Options of `geoclick predict`."""

    images: tuple[str, ...] = option(help="image files", positional=True)
    text: str = option(help="what to find, in words")
    output: str = option("runs/predict", help="folder for the masks, overlays and records")
    batch_size: int = option(8, help="images answered together", minimum=1)


def output_stems(paths: Sequence[Path]) -> list[str]:
    """A stem for the outputs of each image: its own, or with a number where an earlier image has taken it.

    Stems that differ only in case count as the same, since some file systems do.
    """
    taken: set[str] = set()
    stems = []
    for path in paths:
        names = (path.stem if n == 1 else f"{path.stem}-{n}" for n in count(1))
        stem = next(name for name in names if name.lower() not in taken)
        taken.add(stem.lower())
        stems.append(stem)
    return stems


def check(options: PredictOptions) -> list[Path]:
    """The images as paths; raises UsageError for a wrong request and GeoClickError for a missing file."""
    if not options.text.strip():
        raise UsageError("--text is empty; say what to find, for instance --text 'the largest building'.")
    paths = [Path(image) for image in options.images]
    for path in paths:
        if not path.is_file():
            raise GeoClickError(f"{path} does not exist or is no file; check the path.")
    return paths


def write(folder: Path, stem: str, image: "np.ndarray", prediction: "Prediction", record: dict) -> None:
    """Write `STEM.mask.png`, `STEM.overlay.png` and, last, `STEM.json`."""
    from geoclick.images import write_png
    from geoclick.pages.click_drawing import overlay

    write_png(folder / f"{stem}.mask.png", prediction.mask)
    write_png(folder / f"{stem}.overlay.png", overlay(image, prediction.mask, prediction.clicks))
    text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
    files.write_whole(folder / f"{stem}.json", text)


def run(options: PredictOptions) -> None:
    """Predict: check, load, then answer and write batch by batch."""
    paths = check(options)
    from rich.console import Console
    from rich.progress import Progress

    from geoclick.images import read_image
    from geoclick.inference.generative import predict

    segmenter = options.load_segmenter()
    vlm, answer_format = options.load_vlm()
    folder = Path(options.output)
    write_config(options, folder)
    common = {
        "query": options.text,
        "vlm": options.vlm,
        "vlm_revision": vlm.revision,
        "adapter": options.adapter,
        "answer_format": answer_format,
        "segmenter": options.segmenter,
        "segmenter_sha256": segmenter.sha256,
        "decode": options.decode,
    }
    todo = list(zip(paths, output_stems(paths), strict=True))
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("predict", total=len(todo))
        for start in range(0, len(todo), options.batch_size):
            batch = todo[start : start + options.batch_size]
            images = [read_image(path) for path, _ in batch]
            predictions = predict(
                vlm,
                segmenter,
                images,
                [options.text] * len(batch),
                answer_format=answer_format,
                decode=options.decode,
                batch_size=options.batch_size,
                max_new_tokens=options.max_new_tokens,
            )
            for (path, stem), image, prediction in zip(batch, images, predictions, strict=True):
                record = common | {
                    "image": str(path),
                    "size": list(image.shape[:2]),
                    "text": prediction.text,
                    "status": prediction.status,
                    "clicks": [click._asdict() for click in prediction.clicks],
                    "dropped": list(prediction.dropped),
                    "mask": f"{stem}.mask.png",
                    "mask_area": int(prediction.mask.sum()),
                }
                write(folder, stem, image, prediction, record)
                found = f"{len(prediction.clicks)} clicks, {record['mask_area']} pixels"
                progress.console.print(f"{path}: {prediction.status}, {found}", markup=False, highlight=False)
                progress.advance(task)
    print(f"masks, overlays and records: {folder}")


main = Command(
    prog="geoclick predict",
    options=PredictOptions,
    run=run,
    description="Masks of images from a sentence; writes mask, overlay and record of each.",
    example=EXAMPLE,
)


if __name__ == "__main__":
    sys.exit(main())
