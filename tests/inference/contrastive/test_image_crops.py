"""Crops are those of segment-anything's mask generator, and masks move from a crop to the image."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from segment_anything.utils import amg

from geoclick import masks
from geoclick.inference.contrastive import image_crops
from geoclick.inference.contrastive.image_crops import Crop


@pytest.mark.parametrize("size", [(150, 200), (1024, 1024), (777, 333), (9, 40)])
@pytest.mark.parametrize("count", [0, 1, 2])
def test_layers_are_those_of_segment_anything(size, count):
    boxes, _ = amg.generate_crop_boxes(size, count, image_crops.OVERLAP)
    expected = [tuple(box) for box in boxes if box[0] < size[1] and box[1] < size[0]]
    assert [tuple(crop) for crop in image_crops.layers(size, count)] == expected


@pytest.mark.parametrize(("size", "side"), [((100, 100), 40), ((99, 301), 100), ((5, 5), 2), ((64, 64), 64)])
def test_windows_cover_each_pixel_once(size, side):
    covered = np.zeros(size, int)
    for window in image_crops.windows(size, side):
        assert 0 < max(window.size) <= side
        window.of(covered)[:] += 1
    assert (covered == 1).all()


def test_cut_off_masks_are_those_of_segment_anything():
    generator = torch.Generator().manual_seed(0)
    boxes = torch.randint(0, 100, (200, 4), generator=generator)
    for crop in (Crop(0, 0, 100, 100), Crop(0, 50, 150, 150), Crop(50, 80, 200, 180)):
        inside = boxes + torch.tensor([crop.left, crop.top] * 2)
        expected = amg.is_box_near_crop_edge(boxes, list(crop), [0, 0, 200, 180])
        assert image_crops.cut_off(inside, crop, (180, 200)).tolist() == expected.tolist()


@given(st.integers(0, 2**32 - 1))
def test_runs_move_to_the_image(seed):
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 12, 2)
    left, top = rng.integers(0, 6, 2)
    crop = Crop(int(left), int(top), int(left + width), int(top + height))
    size = int(crop.bottom + rng.integers(0, 4)), int(crop.right + rng.integers(0, 4))
    mask = rng.random((height, width)) < rng.choice([0.0, 0.2, 0.8, 1.0])
    full = np.zeros(size, bool)
    crop.of(full)[:] = mask
    runs = image_crops.uncropped(masks.decode_runs(masks.encode_rle(mask))[1], crop, size)
    assert masks.encode_runs(size, runs) == masks.encode_rle(full)
