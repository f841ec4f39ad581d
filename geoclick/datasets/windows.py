"""Windows of large images: `--tile N --overlap M` cuts images of any layout, each window with samples of its own.

Images whose sides are at most the window's stay as they are. Windows are written as PNGs to `ROOT/SPLIT/.tiles` when a
sample first needs them, and reused later; the folder's name changes with the image, its modification time and the
display options.

Every query of an image is asked of each of its windows, where the target is the visible part of the image's target; a
window without any of it has no target. A COCO annotation (without `--by-class`) or a component (`--components`) that
fits a window is a sample of one window only, and a larger one of the fewest windows that show it, as for the polygons
of GeoTIFFs; pieces of less than `--min-area` pixels are left out, and the pixels that are cut off are counted.
Sentences (the tasks `referring` and `reasoning`) are about complete images, so that their images are not cut.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from uuid import uuid4

import numpy as np

from geoclick import images, masks
from geoclick.datasets.reading import LeftOut, OnLeftOut, ReadOptions, inside
from geoclick.datasets.sample import Sample
from geoclick.errors import GeoClickError, UsageError
from geoclick.files import whole
from geoclick.geo import tiles
from geoclick.geo.tiles import FOLDER, Window

CLASSES = ("semantic", "no_target")
"""Tasks whose queries can be asked of a part of an image."""


def check(tile: int, overlap: int) -> None:
    """Raise UsageError unless the overlap of windows is below their side."""
    if not 0 <= overlap < tile:
        raise UsageError(
            f"The overlap of tiles must be 0 or more and below their side {tile}, not {overlap}."
        )


def write_tile(path: Path, image: np.ndarray) -> None:
    """Write a tile atomically, first under a unique name, since several processes may write it.

    Raises:
        GeoClickError: it cannot be written.
    """
    own = path.with_name(f".{uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(own) as partial:
            images.write_png(partial, image)
        own.replace(path)
    except OSError as error:
        raise GeoClickError(
            f"The tile {path} cannot be written ({error}); make the dataset's folder writable, or leave out --tile."
        ) from error


def name_of(window: Window) -> str:
    """The file name of a window."""
    return f"{window.row}-{window.column}-{window.height}x{window.width}.png"


def cut(
    samples: Iterator[Sample], options: ReadOptions, on_left_out: OnLeftOut, *, instances: bool
) -> Iterator[Sample]:
    """The samples of windows, image by image, window by window, row by row.

    Args:
        samples: those of one image follow one another.
        options: with `tile` and `overlap`.
        on_left_out: called with everything that is not yielded.
        instances: whether several samples of an image may have the same query, each with a target of its own.

    Raises:
        UsageError: a sentence is asked about an image that would be cut, or the options are out of range.
    """
    side = options.tile
    if side is None:
        yield from samples
        return
    check(side, options.overlap)
    for (_, size), group in groupby(samples, key=lambda sample: (sample.image, sample.size)):
        if max(size) <= side:
            yield from group
        else:
            grid = tiles.cut(size, side, options.overlap)
            yield from _of_image(list(group), grid, options, on_left_out, instances)


@dataclass(frozen=True)
class Target:
    """The target of a sample, cropped.

    Attributes:
        sample: of the complete image.
        box: the window around it; None if it is empty.
        mask: the target in the box, bool.
        tiles: the tiles that are asked about it; None for all.
    """

    sample: Sample
    box: Window | None
    mask: np.ndarray
    tiles: frozenset[tiles.Tile] | None

    def piece(self, window: Window) -> np.ndarray:
        """The part of the target in a window, bool [H, W]."""
        piece = np.zeros((window.height, window.width), bool)
        if self.box and (part := tiles.overlap(self.box, window)):
            row, column = part.row - self.box.row, part.column - self.box.column
            top, left = part.row - window.row, part.column - window.column
            piece[top : top + part.height, left : left + part.width] = self.mask[
                row : row + part.height, column : column + part.width
            ]
        return piece

    @property
    def area(self) -> int:
        """Number of its pixels."""
        return int(np.count_nonzero(self.mask))


def _target(sample: Sample, grid: tiles.Grid, *, one_window: bool) -> Target:
    """The target of a sample; raises GeoClickError if its mask is broken."""
    mask = sample.mask
    slices = masks.bounding_box(mask)
    if slices is None:
        return Target(sample, None, np.zeros((0, 0), bool), None)
    rows, columns = slices
    box = Window(rows.start, columns.start, rows.stop - rows.start, columns.stop - columns.start)
    shown = frozenset(tiles.showing(grid, box)) if one_window else None
    return Target(sample, box, mask[slices].copy(), shown)


def _of_image(
    samples: Sequence[Sample],
    grid: tiles.Grid,
    options: ReadOptions,
    on_left_out: OnLeftOut,
    instances: bool,
) -> Iterator[Sample]:
    """The samples of the windows of one image."""
    for sample in samples:
        if sample.task not in CLASSES:
            raise UsageError(
                f"--tile cuts images into windows, but the query of {sample.sample_id} is about the complete image "
                f"{sample.image}; leave out --tile."
            )
    first = samples[0]
    folder = _folder(first, options)
    image: list[np.ndarray] = []
    try:
        targets = [_target(sample, grid, one_window=instances) for sample in samples]
        valid = {
            rle["counts"]: masks.decode_rle(rle)
            for sample in samples
            if (rle := sample.valid_rle) is not None
        }
        for tile in tiles.all_tiles(grid):
            window = tiles.window(grid, tile)
            cut_samples = list(_of_window(targets, tile, window, valid, options, on_left_out))
            path = folder / name_of(window)
            if cut_samples and not path.is_file():
                image = image or [first.read_image()]
                write_tile(path, tiles.crop(image[0], window))
            name = path.relative_to(first.root.resolve()).as_posix()
            yield from (replace(sample, image=name, pixels=None) for sample in cut_samples)
    except UsageError:
        raise
    except GeoClickError as error:
        on_left_out(LeftOut(first.image, "broken image or mask", str(error), len(samples)))


def _of_window(
    targets: Sequence[Target],
    tile: tiles.Tile,
    window: Window,
    valid: dict[str, np.ndarray],
    options: ReadOptions,
    on_left_out: OnLeftOut,
) -> Iterator[Sample]:
    """The samples of one window, still with the complete image.

    Args:
        targets: those of the image.
        tile: the window's place in the grid.
        window: the window.
        valid: the scored pixels of the image, bool [H, W], by the counts of their RLE.
        options: of the reader.
        on_left_out: called with everything that is not yielded.
    """
    pieces = [target.piece(window) for target in targets]
    visible = {target.sample.query for target, piece in zip(targets, pieces, strict=True) if piece.any()}
    for target, piece in zip(targets, pieces, strict=True):
        sample = target.sample
        name = f"{sample.sample_id}-r{window.row}c{window.column}"
        if target.tiles is not None:
            if tile not in target.tiles or not _is_large_enough(name, piece, target, options, on_left_out):
                continue
        elif not piece.any():
            if sample.query in visible:
                continue
            # Asked once, whatever the number of targets that other windows show.
            visible.add(sample.query)
        scored = None
        if sample.valid_rle is not None:
            scored = tiles.crop(valid[sample.valid_rle["counts"]], window)
            if not (piece & scored if piece.any() else scored).any():
                on_left_out(LeftOut(name, "no pixel that is scored"))
                continue
        yield replace(
            sample,
            sample_id=name,
            size=(window.height, window.width),
            rle=masks.encode_rle(piece),
            valid_rle=None if scored is None or scored.all() else masks.encode_rle(scored),
        )


def _is_large_enough(
    name: str, piece: np.ndarray, target: Target, options: ReadOptions, on_left_out: OnLeftOut
) -> bool:
    """Whether a component's piece is a sample; a piece that is cut is counted."""
    pixels, total = int(np.count_nonzero(piece)), target.area
    if pixels < total and pixels < max(options.min_area, 1):
        if pixels:
            on_left_out(LeftOut(name, "piece smaller than min_area"))
        return False
    if pixels < total:
        item = f"{name}, {pixels / total:.1%} visible"
        on_left_out(LeftOut(item, "pixels cut off by a tile's border", count=total - pixels))
    return True


def _folder(sample: Sample, options: ReadOptions) -> Path:
    """The folder of an image's windows; its name depends on all that decides their pixels.

    Raises:
        GeoClickError: the image is missing.
    """
    path = inside(sample.root, sample.image)
    try:
        facts = path.stat()
    except OSError as error:
        raise GeoClickError(f"{path} does not exist; check the path.") from error
    content = [sample.image, facts.st_size, facts.st_mtime_ns, options.bands, options.stretch]
    key = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]
    return inside(sample.root, f"{sample.split}/{FOLDER}/{path.stem}-{key}")
