"""Stability, boxes and run lengths are those of the masks at full size."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from geoclick import masks
from geoclick.segmenters import bands, planes, upscaling
from geoclick.segmenters.planes import BlockPlanes, FullPlanes

DEVICE = torch.device("cpu")


def logits(number=6, low=32):
    """Random smooth logits of several steepness, one below and one above every threshold."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(number, 1, 6, 6, generator=generator) * torch.tensor([1, 3, 10, 40, 3, 3]).view(
        -1, 1, 1, 1
    )
    fine = torch.nn.functional.interpolate(coarse, low, mode="bicubic")[:, 0]
    fine[4], fine[5] = -5, 5
    return fine


@pytest.mark.parametrize("crowded", [-1.0, 0.3, 2.0], ids=["bands", "both", "blocks"])
@pytest.mark.parametrize("size", [(128, 128), (90, 200), (333, 97), (20, 31), (7, 5)])
def test_masks_equal_full_size(size, crowded, monkeypatch):
    monkeypatch.setattr(planes, "CROWDED", crowded)
    monkeypatch.setitem(bands.BAND_PIXELS, "cpu", 2000)
    inside = [round(128 * length / max(size)) or 1 for length in size]
    rows, columns = (upscaling.axis(32, 128, i, s, DEVICE) for i, s in zip(inside, size, strict=True))
    low_res = logits()
    full = rows.weights @ low_res @ columns.weights.T
    ours = BlockPlanes(rows, columns, (32, 32))
    measures, runs = ours.measure(low_res, 1.0), ours.runs(low_res)
    high, low = ((full > t).sum((1, 2)) for t in (1, -1))
    torch.testing.assert_close(measures.stability, high / low, atol=1e-3, rtol=0, equal_nan=True)
    for plane, box, lengths in zip(full.numpy() > 0, measures.boxes.tolist(), runs, strict=True):
        mask = masks.decode_rle(masks.encode_runs(size, lengths))
        assert (mask != plane).sum() <= 1 + plane.size // 5000
        outline = masks.bounding_box(mask)
        edges = (
            [outline[1].start, outline[0].start, outline[1].stop - 1, outline[0].stop - 1]
            if outline
            else [0] * 4
        )
        assert box == edges
        assert masks.encode_runs(size, lengths) == masks.encode_rle(mask)


def test_full_planes_equal_blocks():
    size = (60, 90)
    rows, columns = (upscaling.axis(32, 128, i, s, DEVICE) for i, s in ((85, 60), (128, 90)))
    segmenter = SimpleNamespace(
        device=DEVICE, masks=lambda low_res, _: rows.weights @ low_res @ columns.weights.T > 0
    )
    full = FullPlanes(segmenter, SimpleNamespace(size=size))
    blocks = BlockPlanes(rows, columns, (32, 32))
    a, b = (way.measure(logits(), 1.0) for way in (full, blocks))
    torch.testing.assert_close(a.stability, b.stability, atol=1e-3, rtol=0, equal_nan=True)
    assert a.boxes.tolist() == b.boxes.tolist()
    for ours, theirs in zip(full.runs(logits()), blocks.runs(logits()), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_no_logits_have_no_masks():
    axis = upscaling.axis(32, 128, 128, 64, DEVICE)
    blocks = BlockPlanes(axis, axis, (32, 32))
    assert blocks.runs(torch.zeros(0, 32, 32)) == []
    assert blocks.measure(torch.zeros(0, 32, 32), 1.0).boxes.shape == (0, 4)
