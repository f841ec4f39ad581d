"""What would stop a run late, looked for early: broken images, no room or right to write, a tracker not installed."""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from geoclick import images
from geoclick.errors import GeoClickError, UsageError

DECODED = 32
"""Images that are read to their last pixel; of the others the header is read."""

BYTES_PER_WEIGHT = 16
"""Of a checkpoint, by LoRA weight: float32 itself, AdamW's two moments, and DeepSpeed's master copy."""


def check_images(sizes: dict[str, tuple[int, int]]) -> None:
    """Read every image's header, and `DECODED` images, evenly spread, as a whole.

    Args:
        sizes: path of an image to the (height, width) in pixels that it must have.

    Raises:
        GeoClickError: an image is missing, no image, of another size, or among those decoded and cut short.
    """
    for path, size in sizes.items():
        try:
            with Image.open(path) as image:
                whole = image.size == (size[1], size[0])
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            whole = False
        if not whole:
            images.read_image(path, size=size)
    paths = list(sizes)
    for path in paths[:: max(1, -(-len(paths) // DECODED))]:
        images.read_image(path, size=sizes[path])


def existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())


def check_writable(output: Path) -> None:
    """Write and remove a file where the output folder is or will be; raises GeoClickError where that fails."""
    try:
        with tempfile.TemporaryFile(dir=existing(output)):
            pass
    except OSError as error:
        raise GeoClickError(
            f"Nothing can be written to {output} ({error.strerror}); give another --output."
        ) from error


def check_space(output: Path, *, weights: int, checkpoints: int) -> tuple[int, int]:
    """Compare the checkpoints that a run keeps with the space that is free.

    Args:
        output: the run's folder.
        weights: numbers that are trained.
        checkpoints: that lie on the disk at once at most.

    Returns:
        Bytes that the run needs, at most, and bytes that are free.

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

    here = integration_utils.get_available_reporting_integrations()
    for name in names:
        if name not in here:
            known = name in integration_utils.INTEGRATION_TO_CALLBACK
            raise UsageError(
                f"report_to {name} is {'not installed' if known else 'unknown'}; "
                f"{'install it, or ' if known else ''}use one of: {', '.join([*here, 'none'])}."
            )
