"""Options of `geoclick predict`, and which of them go together."""

from collections.abc import Iterable
from dataclasses import dataclass, fields

from geoclick import plain_text
from geoclick.backend_options import ANSWER_OPTIONS, BACKEND_OPTIONS
from geoclick.config import option
from geoclick.errors import UsageError
from geoclick.options import MAP_METHODS, ClipOptions, EngineOptions, GenerationOptions, PixelRule

TILE = 1024
"""Default side of the windows of rasters in pixels."""

OF_TEXT = (
    *("vlm", "adapter", "answer_format", "max_new_tokens", "min_pixels", "max_pixels"),
    *("quantise", "decode", "batch_size", "tolerance", "revision", "seed"),
    *ANSWER_OPTIONS,
    *BACKEND_OPTIONS,
)
"""Options without a meaning for a map of classes."""


@dataclass(frozen=True, kw_only=True)
class PredictOptions(PixelRule, EngineOptions, ClipOptions, GenerationOptions):
    """Options of `geoclick predict`."""

    images: tuple[str, ...] = option(
        (), help="images: files, folders (the images directly in them) or quoted globs", positional=True
    )
    listed: str | None = option(
        None,
        help="file with further images: a path in each line, or, in a .jsonl file, objects with image and query, "
        "which is asked in place of --text",
        name="from",
    )
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
    batch_size: int = option(8, help="queries in one call of the model", minimum=1)
    tile: int | None = option(
        None,
        help="side in pixels of the windows that larger images are cut to; each is asked on its own and the masks are "
        f"put together, which suits 'building', not 'the largest building' (default: {TILE} for GeoTIFF, JPEG 2000 and "
        "--classes; other images are not cut)",
        minimum=1,
    )
    overlap: int = option(128, help="smallest overlap of neighboring windows in pixels", minimum=0)
    resolution: float | None = option(
        None,
        help="meters on the ground in one pixel that the models see, for a first look at a georeferenced raster with "
        "smaller pixels (default: the raster's own)",
        minimum=1e-6,
    )
    tolerance: float = option(
        1.5,
        help="largest distance in pixels between the outline of an object along its pixels and its polygon; 0 follows "
        "the pixels",
        minimum=0,
    )
    skip_broken: bool = option(
        False, help="end with exit code 0 although images failed; failures.jsonl lists them in any case"
    )
    revision: str | None = option(
        None,
        help="branch, tag or commit of a --vlm on the hub (default: the one that the adapter was trained on, else the "
        "newest)",
    )


def check(options: PredictOptions) -> None:
    """Raise UsageError for options that are wrong or exclude each other."""
    if not options.images and options.listed is None:
        raise UsageError("Missing IMAGES; give files, folders or globs, or a list by --from.")
    if options.classes is not None:
        check_classes(options)
    elif not options.text and not (options.listed or "").lower().endswith(".jsonl"):
        raise UsageError(
            "Missing --text or --classes; give one on the command line or in --config (see 'geoclick predict --help')."
        )
    else:
        clip = (field.name for field in fields(ClipOptions))
        _refuse(options, ("classes", "method", "sam3", *clip), "--classes")
        options.check_backend()
        if options.backend == "openai":
            _refuse(options, ("revision",), "--backend local")
    for text in options.text:
        if reason := plain_text.query_fault(text):
            raise UsageError(f"--text {reason}; name the target, such as --text 'the largest building'.")
    options.pixels()
    options.check_engine(options.device, options.backend)
    if options.classes is None and options.overlap >= (options.tile or TILE):
        where = f"--tile {options.tile}" if options.tile else f"the default --tile {TILE}"
        raise UsageError(f"--overlap must be below {where}, not {options.overlap}.")
    if options.tile is not None and options.overlap >= options.tile:
        raise UsageError(f"--overlap must be below --tile {options.tile}, not {options.overlap}.")


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
