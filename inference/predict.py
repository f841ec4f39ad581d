"""Masks of images from a sentence: writes a mask, an overlay with the clicks, and a JSON record for each image.

geoclick predict tile.png --text "the largest building" --output runs/predict
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoclick import files, output_folder
from geoclick.command import Command
from geoclick.config import option
from geoclick.errors import GeoClickError, UsageError
from geoclick.inference import prediction_files
from geoclick.options import GenerationOptions
from geoclick.progress_bar import progress

if TYPE_CHECKING:
    import numpy as np

    from geoclick.inference.pipeline import Pipeline
    from geoclick.inference.prediction import Prediction

EXAMPLE = 'geoclick predict tile.png --text "the largest building" --output runs/predict'


@dataclass(frozen=True, kw_only=True)
class PredictOptions(GenerationOptions):
    """Options of `geoclick predict`."""

    images: tuple[str, ...] = option(help="image files", positional=True)
    text: str = option(help="what to segment, as a phrase or a sentence")
    output: str = option("runs/predict", help="folder for the masks, overlays and records")
    batch_size: int = option(8, help="images in one call of the model", minimum=1)


def check(options: PredictOptions) -> list[Path]:
    """The images as paths; raises UsageError for an empty text and GeoClickError for a missing file."""
    if not options.text.strip():
        raise UsageError("--text is empty; name the target, such as --text 'the largest building'.")
    paths = [Path(image) for image in options.images]
    for path in paths:
        if not path.is_file():
            raise GeoClickError(f"{path} does not exist or is not a file; fix the path.")
    return paths


def write(
    folder: Path, stem: str, image: "np.ndarray", prediction: "Prediction", record: dict[str, Any]
) -> None:
    """Write `STEM.mask.png`, `STEM.overlay.png` and, last, `STEM.json`."""
    from geoclick.images import write_png
    from geoclick.pages.click_drawing import overlay

    write_png(folder / f"{stem}.mask.png", prediction.mask)
    write_png(folder / f"{stem}.overlay.png", overlay(image, prediction.mask, prediction.clicks))
    text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
    files.write_whole(folder / f"{stem}.json", text)


def run(options: PredictOptions) -> None:
    """Check the request, load the models, then predict and write batch by batch."""
    paths, folder = check(options), Path(options.output)
    names = prediction_files.output_names(paths)
    output_folder.check(folder, "predict", names)
    prediction_files.check(folder, paths, options.text)

    from geoclick.inference import pipeline as pipelines

    pipeline = pipelines.from_options(options, batch_size=options.batch_size)
    with output_folder.opened(folder, "predict", names):
        prediction_files.check(folder, paths, options.text)
        output_folder.write_config(options, folder, "predict")
        answer_all(options, pipeline, paths)
    print(f"masks, overlays and records: {folder}")


def answer_all(options: PredictOptions, pipeline: "Pipeline", paths: Sequence[Path]) -> None:
    """Predict and write batch by batch."""
    from geoclick.images import read_image

    folder, models = Path(options.output), describe(options, pipeline)
    todo = list(zip(paths, prediction_files.output_stems(paths), strict=True))
    with progress("predict", len(todo)) as bar:
        for start in range(0, len(todo), options.batch_size):
            batch = todo[start : start + options.batch_size]
            images = [read_image(path) for path, _ in batch]
            predictions = pipeline.predict_batch(images, [options.text] * len(batch))
            for (path, stem), image, prediction in zip(batch, images, predictions, strict=True):
                size = list(image.shape[:2])
                record = models | {"image": str(path), "size": size} | answer(stem, prediction)
                write(folder, stem, image, prediction, record)
                clicks = f"{len(prediction.clicks)} clicks, {record['mask_area']} pixels"
                bar.print(f"{path}: {prediction.status}, {clicks}")
                bar.advance()


def describe(options: PredictOptions, pipeline: "Pipeline") -> dict[str, Any]:
    """The part of a record that all images share: the query and the models."""
    return {
        "query": options.text,
        "vlm": options.vlm,
        "vlm_revision": pipeline.vlm.revision,
        "adapter": options.adapter,
        "answer_format": pipeline.generation.answer_format,
        "segmenter": options.segmenter,
        "segmenter_sha256": pipeline.segmenter.sha256,
        "decode": options.decode,
    }


def answer(stem: str, prediction: "Prediction") -> dict[str, Any]:
    """The part of a record that describes the answer about one image."""
    return {
        "text": prediction.text,
        "status": prediction.status,
        "clicks": [click._asdict() for click in prediction.clicks],
        "dropped": list(prediction.dropped),
        "mask": f"{stem}.mask.png",
        "mask_area": int(prediction.mask.sum()),
    }


main = Command(
    prog="geoclick predict",
    options=PredictOptions,
    run=run,
    description="Masks of images from a sentence; writes a mask, an overlay and a record for each image.",
    example=EXAMPLE,
)


if __name__ == "__main__":
    sys.exit(main())
