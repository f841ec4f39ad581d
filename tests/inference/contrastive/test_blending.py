import numpy as np
import pytest
import torch

from geoclick.geo import tiles
from geoclick.geo.tiles import Window
from geoclick.inference.contrastive import blending, image_crops


def gathered(image, logits_of, tile, overlap):
    """The strips as one tensor; they follow one another."""
    pieces, row = [], 0
    for top, logits in blending.strips(image, logits_of, tile=tile, overlap=overlap):
        assert top == row
        assert logits.shape[1] <= tile
        row += logits.shape[1]
        pieces.append(logits)
    return torch.cat(pieces, dim=1)


def coded(height, width):
    """An image whose values are the positions of its pixels."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, rows * 0], axis=-1).astype(np.uint8)


def of_pixels(tile):
    """Logits that depend on the pixel alone."""
    return torch.from_numpy(tile).permute(2, 0, 1).float()


@pytest.mark.parametrize("size", [(70, 90), (20, 90), (90, 20), (25, 25), (26, 51)], ids=str)
def test_logits_of_pixels_alone_are_unchanged(size):
    image = coded(*size)
    assert (gathered(image, of_pixels, 25, 8) - of_pixels(image)).abs().max() < 1e-4


def test_an_image_that_fits_a_tile_is_one_tile():
    calls = []
    image = coded(20, 30)
    result = gathered(image, lambda tile: calls.append(tile.shape) or of_pixels(tile), 64, 16)
    assert calls == [(20, 30, 3)]
    assert torch.equal(result, of_pixels(image))


def test_overlaps_are_weighted_means():
    """Every tile has a logit of its own; the distance to the border of a tile is its weight."""
    image, tile, overlap = coded(33, 47), 20, 6
    corners = []

    def numbered(part):
        corners.append((int(part[0, 0, 0]), int(part[0, 0, 1])))
        return torch.full((1, *part.shape[:2]), float(len(corners)))

    result = gathered(image, numbered, tile, overlap)
    total, weights = np.zeros((33, 47)), np.zeros((33, 47))
    for number, (top, left) in enumerate(corners, start=1):
        for y in range(tile):
            for x in range(tile):
                near = [min(i + 1, tile - i, overlap + 1) / (overlap + 1) for i in (y, x)]
                total[top + y, left + x] += number * near[0] * near[1]
                weights[top + y, left + x] += near[0] * near[1]
    assert np.abs(result[0].numpy() - total / weights).max() < 1e-4
    steps = np.abs(np.diff(result[0].numpy(), axis=1)).max()
    assert steps < 1 / overlap


def test_no_more_than_a_row_of_tiles_is_held(monkeypatch):
    sizes = []
    zeros = torch.zeros_like
    monkeypatch.setattr(torch, "zeros_like", lambda values: sizes.append(values.shape) or zeros(values))
    image = np.zeros((600, 40, 3), np.uint8)
    strips = [logits.shape for _, logits in blending.strips(image, of_pixels, tile=40, overlap=8)]
    assert len(strips) > 15
    assert max(shape[1] for shape in strips + [s for s in sizes if len(s) == 3]) <= 40


@pytest.mark.parametrize("size", [(70, 90), (20, 90), (90, 20), (25, 25), (26, 51), (61, 33)], ids=str)
@pytest.mark.parametrize("overlap", [0, 8, 17])
def test_the_logits_of_windows_are_those_of_strips_bit_by_bit(size, overlap):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    made = []

    def small_of(window):
        made.append(window)
        return torch.from_numpy(tiles.crop(image, window)[::2, ::2]).permute(2, 0, 1).float()

    def enlarge(small, size):
        return torch.nn.functional.interpolate(small[None], size=size, mode="bilinear")[0]

    def logits_of(tile):
        return enlarge(torch.from_numpy(tile[::2, ::2].copy()).permute(2, 0, 1).float(), tile.shape[:2])

    expected = gathered(image, logits_of, 25, overlap)
    blend = blending.Blend(size, small_of, enlarge, tile=25, overlap=overlap)
    for crop in image_crops.windows(size, 22):
        window = Window(crop.top, crop.left, *crop.size)
        found = blend.at(window)
        assert torch.equal(found, expected[:, crop.top : crop.bottom, crop.left : crop.right])
        # Tiles above the row of windows are not held.
        grid = tiles.cut(size, 25, overlap)
        assert all(grid.rows[row] + grid.height > window.row for row, _ in blend._small)
    assert len(made) == len(set(made)) == len(tiles.all_tiles(tiles.cut(size, 25, overlap)))
