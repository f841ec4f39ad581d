"""Options of `geoclick app`, and which of them go together."""

import socket
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from geoclick.config import option
from geoclick.errors import GeoClickError, UsageError
from geoclick.options import METHODS, ClipOptions, GenerationOptions, PixelRule


@dataclass(frozen=True, kw_only=True)
class AppOptions(PixelRule, ClipOptions, GenerationOptions):
    """Options of `geoclick app`."""

    images: str | None = option(
        None,
        help="folder whose images can be chosen in the app, with its subfolders; no other path can be opened "
        "(default: only uploads)",
    )
    output: str = option(
        "runs/app", help="folder for saved corrections: a click store and the images it names"
    )
    method: str = option(
        "contrastive",
        choices=METHODS,
        help="what makes maps of classes: CLIP and the proposals of the segmenter (contrastive), or CLIP alone",
    )
    host: str = option(
        "127.0.0.1", help="address to listen on; 0.0.0.0 lets other machines in, without a password"
    )
    port: int = option(7860, help="port to listen on", minimum=1)
    max_upload: int = option(64, help="largest upload in MB", minimum=1)
    max_megapixels: float = option(
        16.0, help="largest image in million pixels; larger ones are refused", minimum=0.01
    )
    max_waiting: int = option(
        40, help="largest number of requests that wait for each kind of work; others are refused", minimum=1
    )
    batch_size: int = option(8, help="queries in one call of the model", minimum=1)
    revision: str | None = option(
        None,
        help="branch, tag or commit of a --vlm on the hub (default: the one that the adapter was trained on, else the "
        "newest)",
    )


def check(options: AppOptions) -> None:
    """Raise UsageError for options that are wrong or exclude each other, and GeoClickError for a missing folder."""
    options.check_backend()
    options.pixels()
    if options.decode == "first":
        raise UsageError("--decode first leaves out the clicks that the app edits; give replay or joint.")
    if options.samples > 1:
        raise UsageError("--samples has no use in the app, which edits the clicks of one answer; remove it.")
    if options.port > 65535:
        raise UsageError(f"--port is at most 65535, not {options.port}.")
    if options.images is not None and not Path(options.images).is_dir():
        raise GeoClickError(f"{options.images} is not a folder; give --images a folder of images.")


def check_address(options: AppOptions) -> None:
    """Raise GeoClickError if the app cannot listen on its address, before the models are loaded."""
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((options.host, options.port))
        except (OSError, TypeError) as error:  # TypeError: the name has no encoding
            reason = error.strerror if isinstance(error, OSError) else "it is no name of a host"
            raise GeoClickError(
                f"The app cannot listen on {options.host[:80]}:{options.port} ({reason}); give another --port or "
                "--host."
            ) from error


def check_installed() -> None:
    """Raise GeoClickError if Gradio is missing."""
    if find_spec("gradio") is None:
        raise GeoClickError("geoclick app needs Gradio; install it with: pip install geoclick[app].")
