"""Masks of images from a sentence: writes a mask, an overlay with the clicks, and a JSON record for each image.

geoclick predict tile.png --text "the largest building" --output runs/predict
geoclick predict tile.png --classes "building, roof; road; water" --output runs/map

With `--classes` CLIP and SAM, or SAM 3 (`--method sam3`), make a map of all classes instead, and the overlay has a
legend. For a GeoTIFF or JPEG 2000 that is georeferenced, the map is also written as GeoTIFF, and its regions as
GeoPackage and GeoJSON.

With `--tile N`, images with a larger side are cut to overlapping windows of N pixels, each window is asked on its own,
and the masks are put together. With several texts (`--text building --text road`) the names of the outputs end with the
text. An image that fails is reported at the end, with exit code 1; the others are answered.
"""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoclick import files, output_folder
from geoclick.command import Command, print_next
from geoclick.config import option
from geoclick.errors import GeoClickError, UsageError
from geoclick.inference import prediction_files
from geoclick.options import MAP_METHODS, ClipOptions, GenerationOptions, PixelRule
from geoclick.progress_bar import progress

if TYPE_CHECKING:
    import numpy as np

    from geoclick.inference.contrastive.map_files import MapPipeline
    from geoclick.inference.pipeline import Pipeline
    from geoclick.inference.prediction import Prediction

EXAMPLE = (
    'geoclick predict tile.png --text "the largest building" --output runs/predict\n'
    '  geoclick predict tile.png --classes "building, roof; road; water" --output runs/map'
)

OF_TEXT = (
    *("vlm", "adapter", "answer_format", "max_new_tokens", "min_pixels", "max_pixels"),
    *("quantise", "decode", "batch_size"),
)
"""Options without a meaning for a map of classes."""


@dataclass(frozen=True, kw_only=True)
class PredictOptions(PixelRule, ClipOptions, GenerationOptions):
    """Options of `geoclick predict`."""

    images: tuple[str, ...] = option(help="image files", positional=True)
    text: tuple[str, ...] = option(
        (),
        help="what to segment, as a phrase or a sentence; give it several times for several masks of each image",
        repeated=True,
    )
    classes: str | None = option(
        None,
        help="instead of --text: classes, of which each pixel gets one, such as 'building, roof; road; water: blue' "
        "(synonyms after commas, color after a colon), or a file with a class in each line",
    )
    method: str = option(
        "contrastive",
        choices=MAP_METHODS,
        help="what makes the map of --classes: CLIP and the proposals of the segmenter (contrastive), SAM 3 with the "
        "names as prompts (sam3), or CLIP alone by one of the other methods",
    )
    sam3: str | None = option(
        None, help="SAM 3 for --method sam3: a local folder, or a hub id, such as facebook/sam3"
    )
    output: str = option("runs/predict", help="folder for the masks, overlays and records")
    batch_size: int = option(8, help="images in one call of the model", minimum=1)
    tile: int | None = option(
        None,
        help="side in pixels of the windows that larger images are cut to; each is asked on its own and the masks are "
        "put together, which suits 'building', not 'the largest building' (default: images are not cut; 1024 with "
        "--classes)",
        minimum=1,
    )
    overlap: int = option(128, help="smallest overlap of neighboring windows in pixels", minimum=0)


def check(options: PredictOptions) -> list[Path]:
    """The images as paths; raises UsageError for wrong options and GeoClickError for a missing file."""
    if options.classes is not None:
        check_classes(options)
    elif not options.text:
        raise UsageError(
            "Missing --text or --classes; give one on the command line or in --config (see 'geoclick predict --help')."
        )
    else:
        clip = (field.name for field in fields(ClipOptions))
        _refuse(options, ("classes", "method", "sam3", *clip), "--classes")
    if not all(text.strip() for text in options.text):
        raise UsageError("--text is empty; name the target, such as --text 'the largest building'.")
    options.pixels()
    if options.tile is not None and options.overlap >= options.tile:
        raise UsageError(f"--overlap must be below --tile {options.tile}, not {options.overlap}.")
    paths = [Path(image) for image in options.images]
    for path in paths:
        if not path.is_file():
            raise GeoClickError(f"{path} does not exist or is not a file; fix the path.")
    return paths


def check_classes(options: PredictOptions) -> None:
    """Raise UsageError for a wrong class list and for options that have no meaning with it."""
    from geoclick.inference.contrastive import classes

    if options.text:
        raise UsageError("--text and --classes exclude each other; give one of them.")
    _refuse(options, OF_TEXT, "--text")
    check_method(options)
    given = classes.from_option(options.classes or "")
    listed = classes.with_background(given)
    if not 0 <= (options.threshold or 0) <= 1:
        raise UsageError(f"--threshold must be from 0 to 1, not {options.threshold}.")
    if options.threshold and listed.background is None:
        raise UsageError(
            "--threshold gives pixels to the class `background`, which --classes lacks; add it, such as "
            "'background; building; road'."
        )
    if listed is not given:
        print(f"The class `background` is added to {given.names[0]!r}, since --classes names no other.")


def check_method(options: PredictOptions) -> None:
    """Raise UsageError for options that have no meaning for the method of a map."""
    if options.method != "contrastive":
        _refuse(options, ("segmenter", "checkpoint"), "--method contrastive")
    if options.method != "sam3":
        _refuse(options, ("sam3",), "--method sam3")
        return
    clip = (field.name for field in fields(ClipOptions) if field.name != "threshold")
    _refuse(options, clip, "a method of CLIP")
    if options.sam3 is None:
        raise UsageError("--method sam3 needs --sam3, a folder or a hub id, such as facebook/sam3.")


def _refuse(options: PredictOptions, names: Iterable[str], flag: str) -> None:
    """Raise UsageError if one of the options is given, since it goes with `flag`."""
    defaults = {field.name: field.default for field in fields(options)}
    for name in names:
        if getattr(options, name) != defaults[name]:
            raise UsageError(f"--{name.replace('_', '-')} goes with {flag}; remove it, or give {flag}.")


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
    questions = options.text if options.classes is None else (options.classes,)
    suffixes = prediction_files.SUFFIXES if options.classes is None else prediction_files.MAP_SUFFIXES
    names = prediction_files.output_names(paths, questions, suffixes)
    output_folder.check(folder, "predict", names)
    prediction_files.check(folder, paths, questions, suffixes)
    predict = load_maps(options) if options.classes is not None else load_answers(options)
    with output_folder.opened(folder, "predict", names):
        prediction_files.check(folder, paths, questions, suffixes)
        output_folder.write_config(options, folder, "predict")
        errors = predict(paths)
    print(f"masks, overlays and records: {folder}")
    if len(errors) > 1:
        raise GeoClickError(
            f"{len(errors)} of {len(paths)} images failed: {', '.join(map(str, errors))}; "
            "the lines above say why, and the others have their masks."
        )
    for path, error in errors.items():
        raise GeoClickError(error if str(path) in error else f"{path}: {error}")
    if options.classes is None:
        model = ["--adapter", options.adapter] if options.adapter else ["--vlm", options.vlm]
        print_next("evaluate", "--root", "DATASET", "--split", "test", *model, "--output", "runs/evaluate")
    else:
        data = ("--dataset", "BENCHMARK", "--root", "DATASET", "--predictor", options.method)
        print_next("evaluate", *data, *models_of(options), "--output", "runs/evaluate")


def models_of(options: PredictOptions) -> list[str]:
    """The options that name the models of a map, as words of a command; the embedded ones are not named."""
    words = []
    for name in ("clip", "clip_checkpoint", "segmenter", "checkpoint", "sam3"):
        value = getattr(options, name)
        if value not in (None, "embedded"):
            flag = "segmenter-checkpoint" if name == "checkpoint" else name.replace("_", "-")
            words += [f"--{flag}", str(value)]
    return words


Predict = Callable[[Sequence[Path]], dict[Path, str]]
"""Predicts and writes; returns the error of each image that failed."""


def load_answers(options: PredictOptions) -> Predict:
    """The generative pipeline of `--text`."""
    from geoclick.vlms import bitsandbytes_import, quantization

    if not quantization.kind_of(options.quantise, options.adapter):
        bitsandbytes_import.leave_out(options.vlm)
    from geoclick.inference import pipeline as pipelines

    pipeline = pipelines.from_options(options, batch_size=options.batch_size)
    pipelines.warn_of_pixels(pipeline, options.pixels())
    return lambda paths: answer_all(options, pipeline, paths)


def load_maps(options: PredictOptions) -> Predict:
    """The pipeline of `--classes`."""
    from geoclick.inference.contrastive import map_files

    query = options.classes or ""
    loaded = (load_sam3 if options.method == "sam3" else load_contrastive)(options)
    folder, pixels = Path(options.output), options.pixels()

    def predict(paths: Sequence[Path]) -> dict[Path, str]:
        named = list(zip(paths, prediction_files.output_stems(paths), strict=True))
        return map_files.predict_all(loaded, named, folder, pixels, query)

    return predict


def load_sam3(options: PredictOptions) -> "MapPipeline":
    """SAM 3 with the class list as prompts."""
    from geoclick.inference.contrastive import sam3

    return sam3.load_pipeline(
        options.classes or "",
        options.sam3 or "",
        device=options.device,
        threshold=options.threshold,
        tile=options.tile or sam3.TILE,
        overlap=options.overlap,
    )


def load_contrastive(options: PredictOptions) -> "MapPipeline":
    """CLIP, with or without the proposals of the segmenter."""
    from geoclick.inference.contrastive import pipeline, settings

    query = options.classes or ""
    return pipeline.load(
        query,
        options.method,
        clip=options.clip,
        clip_checkpoint=options.clip_checkpoint,
        segmenter=options.segmenter,
        checkpoint=options.checkpoint,
        device=options.device,
        settings=settings.settings_of(options, tile=options.tile, overlap=options.overlap),
    )


def answer_all(options: PredictOptions, pipeline: "Pipeline", paths: Sequence[Path]) -> dict[Path, str]:
    """Predict and write batch by batch; returns the error of each image that failed."""
    folder, models = Path(options.output), describe(options, pipeline)
    todo = list(zip(paths, prediction_files.answer_stems(paths, options.text), strict=True))
    at_once, errors = max(1, options.batch_size // len(options.text)), dict[Path, str]()
    if options.tile is not None:
        at_once = 1
    with progress("predict", len(todo)) as bar:
        for start in range(0, len(todo), at_once):
            for path, stem, text, image, prediction in answer_batch(
                pipeline, todo[start : start + at_once], options, errors
            ):
                size = list(image.shape[:2])
                about = {"query": text} | models | {"image": str(path), "size": size}
                record = about | answer(stem, prediction)
                write(folder, stem, image, prediction, record)
                clicks = f"{len(prediction.clicks)} clicks, {record['mask_area']} pixels"
                name = f"{path}: " if len(options.text) == 1 else f"{path}, {text}: "
                bar.print(f"{name}{prediction.status}, {clicks}")
            for path, _ in todo[start : start + at_once]:
                if path in errors:
                    bar.print(f"{path}: failed, {errors[path]}")
                bar.advance()
    return errors


def answer_batch(
    pipeline: "Pipeline",
    batch: "Sequence[tuple[Path, tuple[str, ...]]]",
    options: PredictOptions,
    errors: dict[Path, str],
) -> "Iterator[tuple[Path, str, str, np.ndarray, Prediction]]":
    """The answers about a batch of images, with path, stem of the outputs, text and image of each.

    Args:
        pipeline: the models.
        batch: paths of images, with the stem of the outputs for each text.
        options: what to segment in each image, and how it is read.
        errors: where the images that fail are added.
    """
    from geoclick.geo.reading import read_image
    from geoclick.inference import windows

    images: dict[Path, np.ndarray] = {}
    for path, _ in batch:
        try:
            images[path] = read_image(path, pixels=options.pixels())
        except GeoClickError as error:
            errors[path] = str(error)
    asked = [
        (path, stem, text)
        for path, stems in batch
        if path in images
        for stem, text in zip(stems, options.text, strict=True)
    ]
    predictions = windows.predict(
        pipeline,
        [images[path] for path, _, _ in asked],
        [text for _, _, text in asked],
        tile=options.tile,
        overlap=options.overlap,
    )
    for (path, stem, text), prediction in zip(asked, predictions, strict=True):
        if prediction.error:
            errors[path] = prediction.error
        else:
            yield path, stem, text, images[path], prediction


def describe(options: PredictOptions, pipeline: "Pipeline") -> dict[str, Any]:
    """The part of a record that all answers share: the models, and how images are read and cut."""
    cut = {} if options.tile is None else {"tile": options.tile, "overlap": options.overlap}
    return cut | {
        "vlm": options.vlm,
        "vlm_revision": pipeline.vlm.revision,
        "adapter": options.adapter,
        "answer_format": pipeline.generation.answer_format,
        "segmenter": options.segmenter,
        "segmenter_sha256": pipeline.segmenter.sha256,
        "decode": options.decode,
        "bands": list(options.bands),
        "stretch": list(options.stretch),
    }


def answer(stem: str, prediction: "Prediction") -> dict[str, Any]:
    """The part of a record that describes one answer."""
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
    description="Masks of images from a sentence, or maps of classes; writes a mask, an overlay and a record for each "
    "image.",
    example=EXAMPLE,
)


if __name__ == "__main__":
    sys.exit(main())
