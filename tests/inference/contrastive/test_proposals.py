"""Proposals are the masks of SamAutomaticMaskGenerator with the same weights and settings."""

import numpy as np
import pytest
import torch
from pycocotools import mask as coco

from geoclick import masks, segmenters
from geoclick.errors import GeoClickError, UsageError
from geoclick.inference.contrastive import proposals
from geoclick.inference.contrastive.proposals import ProposalSettings, propose, propose_with
from geoclick.segmenters import planes
from tests.inference.contrastive.conftest import generate

LOOSE = {"points_per_side": 5, "predicted_iou": 0.5, "stability": 0.6, "box_nms": 0.7}


class OnlyTheProtocol:
    """A segmenter that hides everything but the methods of the protocol."""

    def __init__(self, segmenter):
        self.name, self.sha256, self.device = "wrapped", segmenter.sha256, segmenter.device
        self.embed, self.decode, self.masks = segmenter.embed, segmenter.decode, segmenter.masks


def assert_same(ours, theirs):
    """Every mask of the one list has a partner of IoU 0.99 or more in the other, and the same attributes."""
    assert theirs
    assert len(ours) == len(theirs)
    ious = np.array(coco.iou([r["segmentation"] for r in theirs], [o.rle for o in ours], [0] * len(ours)))
    assert ious.max(0).min() >= 0.99
    assert ious.max(1).min() >= 0.99
    for record, proposal in zip(theirs, [ours[i] for i in ious.argmax(1)], strict=True):
        assert proposal.predicted_iou == pytest.approx(record["predicted_iou"], abs=1e-4)
        assert proposal.stability == pytest.approx(record["stability_score"], abs=1e-2)
        assert masks.area(proposal.rle) == proposal.mask.sum()
        left, top, right, bottom = proposal.box
        assert [left, top, right - left, bottom - top] == pytest.approx(record["bbox"], abs=1)


SETTINGS = {
    "grid": {},
    "all": {"predicted_iou": 0.0, "stability": 0.0, "box_nms": 1.0, "points_per_side": 4},
    "strict": {"predicted_iou": 0.65, "stability": 0.8, "box_nms": 0.5},
    "area": {"minimum_area": 40},
    "crops-area": {"crop_layers": 1, "points_per_side": 4, "minimum_area": 15},
    "crops": {"crop_layers": 1, "points_per_side": 3, "box_nms": 0.9},
}
LARGE, SMALL = (150, 200), (97, 61)
"""On the small image the generator fails on a crop without masks."""


@pytest.mark.parametrize(
    ("name", "size"),
    [
        *((name, LARGE) for name in SETTINGS if name != "crops"),
        ("grid", SMALL),
        pytest.param("crops", LARGE, marks=pytest.mark.slow),
        *(pytest.param(name, SMALL, marks=pytest.mark.slow) for name in ("all", "strict", "area")),
    ],
)
def test_every_mask_has_a_partner(pair, scene, opencv, name, size):
    segmenter, sam = pair
    image = np.ascontiguousarray(scene[: size[0], : size[1]])
    chosen = LOOSE | SETTINGS[name]
    assert_same(propose(segmenter, image, **chosen), generate(sam, image, **chosen))


def test_the_best_masks_come_first_and_points_are_those_of_the_grid(pair, scene):
    segmenter, sam = pair
    ours, theirs = propose(segmenter, scene, **LOOSE), generate(sam, scene, **LOOSE)
    assert [o.predicted_iou for o in ours] == sorted([o.predicted_iou for o in ours], reverse=True)
    for proposal, record in zip(ours, theirs, strict=True):
        assert proposal.point == pytest.approx(record["point_coords"][0])
    assert {o.point[0] for o in ours} <= {(i + 0.5) / 5 * 200 for i in range(5)}


def test_any_segmenter_gives_the_same(pair, scene):
    segmenter, _ = pair
    ours, theirs = (
        propose(s, scene, crop_layers=1, minimum_area=30, **LOOSE | {"points_per_side": 3})
        for s in (segmenter, OnlyTheProtocol(segmenter))
    )
    assert len(ours) == len(theirs) > 0
    for a, b in zip(ours, theirs, strict=True):
        assert masks.iou(a.mask, b.mask) > 0.99
        assert (a.point, a.box) == (b.point, b.box)
        assert a.stability == pytest.approx(b.stability, abs=1e-3)


def test_batches_do_not_change_masks(pair, scene, monkeypatch):
    segmenter, _ = pair
    expected = propose(segmenter, scene, **LOOSE)
    monkeypatch.setattr(segmenter.click_batch, "size", 1)
    monkeypatch.setitem(planes.PIXELS, "cpu", 2**13)
    for a, b in zip(propose(segmenter, scene, **LOOSE), expected, strict=True):
        assert masks.iou(a.mask, b.mask) > 0.99


def test_windows_are_proposed_one_by_one(pair, scene):
    segmenter, _ = pair
    settings = ProposalSettings(**LOOSE | {"points_per_side": 3}, window=110)
    ours = propose_with(segmenter, scene, settings)
    expected = []
    for rows in (slice(0, 75), slice(75, 150)):
        for columns in (slice(0, 100), slice(100, 200)):
            for proposal in propose(segmenter, scene[rows, columns], **LOOSE | {"points_per_side": 3}):
                full = np.zeros(scene.shape[:2], bool)
                full[rows, columns] = proposal.mask
                expected.append((full, proposal.point, (columns.start, rows.start)))
    assert len(ours) == len(expected) > 0
    for proposal, (full, point, (x, y)) in zip(ours, expected, strict=True):
        assert masks.encode_rle(full) == proposal.rle
        assert proposal.point == (point[0] + x, point[1] + y)
        columns, rows = np.flatnonzero(full.any(0)), np.flatnonzero(full.any(1))
        assert proposal.box == ((columns[0], rows[0], columns[-1], rows[-1]) if full.any() else (0, 0, 0, 0))
    assert propose_with(segmenter, scene, ProposalSettings(**LOOSE, window=200)) == propose(
        segmenter, scene, **LOOSE
    )


def test_too_little_memory_halves_the_batch_and_says_so(pair, scene, monkeypatch, capsys):
    segmenter, _ = pair
    expected = propose(segmenter, scene, **LOOSE)
    decoder = proposals.points.decoder

    def limited(*arguments):
        decode, batch = decoder(*arguments)

        def decode_few(grid, minimum):
            if len(grid) > 2:
                raise torch.OutOfMemoryError
            return decode(grid, minimum)

        return decode_few, batch

    monkeypatch.setattr(proposals.points, "decoder", limited)
    monkeypatch.setattr(segmenter.click_batch, "size", 8)
    ours = propose(segmenter, scene, **LOOSE)
    message = capsys.readouterr().err
    assert "too small for 8 clicks of the segmenter at once; continuing with 4" in message
    assert "continuing with 2" in message
    assert [p.point for p in ours] == [p.point for p in expected]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"points_per_side": 0}, "A grid of 0 points per side makes no proposals"),
        ({"predicted_iou": 88}, "predicted_iou must be from 0 to 1"),
        ({"crop_layers": -1}, "crop_layers must be 0 or more"),
        ({"minimum_area": -5}, "minimum_area must be 0 or more"),
    ],
)
def test_a_wrong_setting_is_one_sentence(settings, words):
    with pytest.raises(UsageError, match=words) as caught:
        propose(None, np.zeros((8, 8, 3), np.uint8), **settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "image", [np.zeros((8, 8)), np.zeros((8, 8, 4), np.uint8), np.zeros((0, 8, 3), np.uint8)]
)
def test_a_wrong_image_is_one_sentence(image):
    with pytest.raises(GeoClickError, match="Proposals need an RGB image"):
        propose(None, image)


def test_no_mask_is_no_proposal(pair, scene):
    segmenter, _ = pair
    assert (
        propose(segmenter, scene, points_per_side=2, predicted_iou=1.0, crop_layers=1, minimum_area=5) == []
    )


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (1, 40)])
def test_tiny_images(pair, size):
    segmenter, _ = pair
    image = np.full((*size, 3), 128, np.uint8)
    for proposal in propose(segmenter, image, points_per_side=2, predicted_iou=0, stability=0, crop_layers=1):
        assert proposal.mask.shape == size


@pytest.mark.gpu
def test_a_gpu_gives_the_masks_of_the_cpu(scene):
    on_cpu, on_gpu = (
        propose(segmenters.load("embedded", device=device), scene, crop_layers=1, minimum_area=30, **LOOSE)
        for device in ("cpu", "cuda")
    )
    assert len(on_cpu) == len(on_gpu) > 1
    for a, b in zip(on_cpu, on_gpu, strict=True):
        assert masks.iou(a.mask, b.mask) > 0.99
