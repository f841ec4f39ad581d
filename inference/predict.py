"""Masks of images from a sentence: writes a mask, an overlay with the clicks, and a JSON record for each image.

geoclick predict tile.png --text "the largest building" --output runs/predict
geoclick predict city.tif --text building --text road --output runs/city
geoclick predict tile.png --classes "building, roof; road; water" --output runs/map

A GeoTIFF or JPEG 2000 is read and written in windows of 1024 pixels with overlap; each window is asked on its own, and
the masks are put together. Its mask is also written as GeoTIFF and, if it is georeferenced, its objects and the clicks
as GeoPackage and GeoJSON. Other images are cut with `--tile N` only. With several texts the names of the outputs end
with the text. An image that fails is reported at the end, with exit code 1 (0 with `--skip-broken`), and in
failures.jsonl; the others are answered. The same command again continues.

With `--classes` CLIP and SAM, or SAM 3 (`--method sam3`), make a map of all classes instead, and the overlay has a
legend. A GeoTIFF or JPEG 2000 is read and written in windows likewise; the map is that of the complete image. It is
also written as GeoTIFF and, if it is georeferenced, its regions as GeoPackage and GeoJSON.

With `--engine ray` the workers of a Ray cluster answer the images, and this process writes the outputs.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from geoclick import output_folder
from geoclick.command import Command, print_next
from geoclick.errors import GeoClickError, UsageError
from geoclick.inference.backends import ledger
from geoclick.inference.predictions import inputs, output_files
from geoclick.inference.predictions import options as checks
from geoclick.inference.predictions.inputs import Input
from geoclick.inference.predictions.options import PredictOptions
from geoclick.jobs import processes

if TYPE_CHECKING:
    from geoclick.inference.predictions.records import Failures

EXAMPLE = (
    'geoclick predict tile.png --text "the largest building" --output runs/predict\n'
    "  geoclick predict city.tif --text building --text road --output runs/city\n"
    '  geoclick predict tile.png --classes "building, roof; road; water" --output runs/map'
)


def check(options: PredictOptions) -> list[Input]:
    """The images with their texts; raises UsageError for wrong options and GeoClickError for a missing file."""
    checks.check(options)
    texts = options.text if options.classes is None else (options.classes,)
    found = inputs.expand(options.images, options.listed, texts)
    if options.classes is not None and any(image.texts != texts for image in found.images):
        raise UsageError(
            f"{options.listed} has queries, which --classes does not ask; give a list without them."
        )
    if found.missing and not options.skip_broken:
        more = f" ({len(found.missing)} do not)" if len(found.missing) > 1 else ""
        raise GeoClickError(f"{found.missing[0]} does not exist or is not a file{more}; fix the path.")
    for note in found.notes:
        print(note)
    return found.images


def run(options: PredictOptions) -> None:
    """Check the request, load the models, then predict and write."""
    from geoclick.inference.predictions import asking, engines, records

    images, folder = check(options), Path(options.output)
    names = output_files.names_of(images)
    outputs = [name for one in names for name in one.files()]
    output_folder.check(folder, "predict", outputs)
    output_files.check(folder, images)
    processes.print_loading(f"the models for {len(images):,} images")
    queries = engines.queries(options)
    items = len(asking.groups(zip(images, names, strict=True), queries))
    with engines.opened(options, items) as engine, output_folder.opened(folder, "predict", outputs):
        output_files.check(folder, images)
        output_folder.write_config(options, folder, "predict")
        failures = asking.answer_all(engine, folder, images, names, queries)
        records.write_failures(folder, failures)
        if options.classes is None or len(images) > 1:
            records.write_all(folder, names)
    print(f"masks, overlays and records: {folder}")
    if options.backend == "openai":
        print("\n".join(ledger.lines(ledger.read_summary(folder / ledger.FOLDER))))
    report(options, images, failures)
    if options.classes is None:
        given = (("--vlm", options.vlm), ("--adapter", options.adapter))
        model = [word for flag, name in given if name for word in (flag, name)]
        print_next("evaluate", "--root", "DATASET", "--split", "test", *model, "--output", "runs/evaluate")
    else:
        data = ("--dataset", "BENCHMARK", "--root", "DATASET", "--predictor", options.method)
        print_next("evaluate", *data, *models_of(options), "--output", "runs/evaluate")


def report(options: PredictOptions, images: Sequence[Input], failures: "Failures") -> None:
    """Raise GeoClickError if images failed; with `--skip-broken` only if all did, else print how many."""
    if not failures:
        return
    listed = Path(options.output) / output_files.FAILURES
    if options.skip_broken and len(failures) < len(images):
        print(f"{len(failures)} of {len(images)} images failed; {listed} says why.")
        return
    if len(failures) > 1:
        shown = ", ".join(map(str, list(failures)[:5])) + (", ..." if len(failures) > 5 else "")
        raise GeoClickError(
            f"{len(failures)} of {len(images)} images failed: {shown}; {listed} says why, and the others have their "
            "masks."
        )
    for path, errors in failures.items():
        error = next(iter(errors.values()))
        raise GeoClickError(error if str(path) in error else f"{path}: {error}")


def models_of(options: PredictOptions) -> list[str]:
    """The options that name the models of a map, as words of a command; the embedded ones are not named."""
    words = []
    for name in ("clip", "clip_checkpoint", "segmenter", "checkpoint", "sam3"):
        value = getattr(options, name)
        if value not in (None, "embedded"):
            flag = "segmenter-checkpoint" if name == "checkpoint" else name.replace("_", "-")
            words += [f"--{flag}", str(value)]
    return words


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
