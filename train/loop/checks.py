"""Early checks for what would stop a run late: broken images, no space or permission to write, a missing tracker."""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np

from geoclick import contradictions, store
from geoclick.datasets import Sample
from geoclick.errors import GeoClickError, UsageError
from geoclick.geo import reading
from geoclick.geo.reading import RecordedRule
from geoclick.jobs import processes
from geoclick.train.data.row_file import StoreFile
from geoclick.train.data.row_index import Limits, open_index
from geoclick.train.options.mixture import Source

DECODED = 32
"""Images that are decoded completely; of the others only the header is read."""

BYTES_PER_WEIGHT = 16
"""Size of a checkpoint per LoRA weight: the weight in float32, AdamW's two moments, and DeepSpeed's master copy."""


def check_images(sizes: dict[str, tuple[int, int]]) -> None:
    """Read the header of every image, and decode `DECODED` evenly spread images.

    Args:
        sizes: path of an image to the (height, width) in pixels that it must have.

    Raises:
        GeoClickError: an image is missing, no image or of another size, or a decoded one is truncated.
    """
    for path, size in sizes.items():
        try:
            fits = reading.image_size(Path(path)) == tuple(size)
        except GeoClickError:
            fits = False
        if not fits:
            reading.read_image(path, size=size)
    paths = list(sizes)
    for path in paths[:: max(1, -(-len(paths) // DECODED))]:
        reading.read_image(path, size=sizes[path])


def check_samples(samples: Sequence[Sample]) -> None:
    """Read the header of every image of samples, and decode `DECODED` evenly spread images as they are shown.

    Raises:
        GeoClickError: as in `check_images`.
    """
    distinct = list({sample.root / sample.image: sample for sample in samples}.values())
    for sample in distinct:
        try:
            fits = reading.image_size(sample.root / sample.image) == tuple(sample.size)
        except GeoClickError:
            fits = False
        if not fits:
            sample.read_image()
    for sample in distinct[:: max(1, -(-len(distinct) // DECODED))]:
        sample.read_image()


def check_pixels(clicks: str | Path) -> None:
    """Refuse a click store whose images were not read by the default rule, by which training reads them.

    Raises:
        GeoClickError: they were not.
    """
    # A store without a manifest does not say how its images were read.
    manifest = store.read_manifest(clicks) if Path(clicks, "manifest.json").is_file() else {}
    default = reading.DEFAULT
    bands, stretch = (manifest.get(name) for name in ("bands", "stretch"))
    if manifest.get("dataset") == "raster" or (
        tuple(bands or ()) == default.bands
        and (stretch is None or tuple(map(float, stretch)) == default.stretch)
    ):
        # The tiles of rasters are written as they are shown.
        return
    raise GeoClickError(
        f"The images of {clicks} were read with --bands {bands} and --stretch {stretch}, but training reads them with "
        "the defaults; write them as 8-bit RGB files, for example with 'gdal_translate -ot Byte -scale', and make the "
        "click store from those."
    )


def pixel_rule(stores: Sequence[str | Path]) -> RecordedRule:
    """The `bands` and `stretch` by which the images of click stores were shown.

    Empty if the first one has no manifest, or if they differ.
    """
    rules = [_pixel_rule(clicks) for clicks in stores]
    return rules[0] if all(rule == rules[0] for rule in rules) else {}


def _pixel_rule(clicks: str | Path) -> RecordedRule:
    if not Path(clicks, "manifest.json").is_file():
        return {}
    manifest = store.read_manifest(clicks)
    rule = {key: manifest[key] for key in ("bands", "stretch") if key in manifest}
    return cast(RecordedRule, rule)


def check_contradictions(
    sources: Sequence[Source], *, max_clicks: int, min_iou: float, answer_end: str, allowed: bool
) -> None:
    """Print how many rows of click stores have the same image and query as others, and another target.

    Args:
        sources: the stores; chats are not compared.
        max_clicks: as in `chat_rows.usable`.
        min_iou: as in `chat_rows.usable`.
        answer_end: as in `chat_rows.usable`.
        allowed: accept any number of them.

    Raises:
        GeoClickError: there are too many, or a store is missing or broken.
    """
    limits = Limits(max_clicks, min_iou, answer_end)
    questions: list[np.ndarray] = []
    targets: list[np.ndarray] = []
    # A store that is there in two formats has each question once.
    for path, root in dict.fromkeys((s.path, s.root) for s in sources if not s.is_chats):
        index = open_index(StoreFile(path), limits)
        folder = str(Path(root).resolve())
        images = np.array([contradictions.fingerprint(f"{folder}/{name}") for name in index.names], np.int64)
        # The sum of two hashes is a hash, whatever overflows.
        questions.append(images[index.image] + index.queries)
        targets.append(index.targets)
    result = contradictions.count(np.concatenate(questions), np.concatenate(targets))
    contradictions.check(result, allowed=allowed)
    if result.contradicting and processes.is_first():
        print(f"warning: {result}")


def existing(folder: Path) -> Path:
    """The folder, or its nearest parent that exists."""
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())


def check_writable(output: Path) -> None:
    """Write a temporary file to the output folder or its nearest parent; raises GeoClickError if that fails."""
    try:
        with tempfile.TemporaryFile(dir=existing(output)):
            pass
    except OSError as error:
        raise GeoClickError(f"{output} is not writable ({error.strerror}); give another --output.") from error


def check_space(output: Path, *, weights: int, checkpoints: int) -> tuple[int, int]:
    """Compare the size of a run's checkpoints with the free space.

    Args:
        output: the run's folder.
        weights: number of trained weights.
        checkpoints: largest number of checkpoints on the disk at once.

    Returns:
        The largest number of bytes that the run needs, and the number of free bytes.

    Raises:
        GeoClickError: they do not fit.
    """
    needed = weights * BYTES_PER_WEIGHT * checkpoints + weights * 4
    free = shutil.disk_usage(existing(output)).free
    if needed > free:
        raise GeoClickError(
            f"{checkpoints} checkpoints and the adapter take up to {needed / 1e9:.1f} GB, but {free / 1e9:.1f} GB are "
            f"free at {output}; free space, lower save_total_limit, or give another --output."
        )
    return needed, free


def check_reporting(names: Sequence[str]) -> None:
    """Refuse a tracker (`report_to`) that is unknown or not installed; raises UsageError with those that are."""
    from transformers.integrations import integration_utils

    available = integration_utils.get_available_reporting_integrations()
    for name in names:
        if name not in available:
            known = name in integration_utils.INTEGRATION_TO_CALLBACK
            raise UsageError(
                f"report_to {name} is {'not installed' if known else 'unknown'}; "
                f"{'install it, or ' if known else ''}use one of: {', '.join([*available, 'none'])}."
            )
