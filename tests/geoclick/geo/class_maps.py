"""Small maps of classes, written as `geoclick predict --classes` writes them: window by window."""

import numpy as np
import rasterio

from geoclick.geo import class_regions, tiles
from geoclick.geo.class_regions import ClassPieces
from geoclick.geo.index_raster import IndexWriter

NAMES, COLORS = ("background", "building", "road"), ((0, 0, 0), (230, 75, 60), (66, 133, 214))


def write_map(path, labels, confidence, place, side=7):
    """Write labels, int [H, W], in windows of a side; returns the pieces of the windows."""
    labels = labels.astype(np.uint8)
    tags = {f"class_{number}": name for number, name in enumerate(NAMES)}
    colors = dict(enumerate(COLORS))
    writer = IndexWriter(path, labels.shape, place.crs, place.transform, colors=colors, tags=tags)
    grid, pieces = tiles.cut(labels.shape, side, 0), ClassPieces()
    for tile in tiles.all_tiles(grid):
        window = tiles.window(grid, tile)
        # The last window of a row or column overlaps the one before it.
        rows, columns = tiles.exclusive(grid, tile)
        own = (tiles.crop(labels, window)[rows, columns], tiles.crop(confidence, window)[rows, columns])
        pieces.add(*own, window)
    for top in range(0, len(labels), side):
        writer.write(labels[top : top + side])
    writer.close()
    return pieces


def regions_of(folder, labels, confidence, place, side=7):
    """The regions of a map."""
    path = folder / "map.tif"
    pieces = write_map(path, labels, confidence, place, side)
    found = class_regions.from_file(path, pieces, place.crs, place.transform)
    path.unlink()
    return found


def read(path):
    with rasterio.open(path) as raster:
        return raster.read(1)
