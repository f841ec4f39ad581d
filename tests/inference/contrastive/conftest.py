"""Segmenters, and segment-anything's own mask generator on the same weights."""

import copy
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import ndimage
from segment_anything import SamAutomaticMaskGenerator

from geoclick import embedded, segmenters
from geoclick.segmenters.embedded import read_folder
from geoclick.segmenters.sam import SamSegmenter, build
from tests import tiny

SMALL = replace(tiny.SAM, encoder_depth=2, global_blocks=(1,), image_size=128, window_size=4)


def random_sam():
    """A SAM with random weights whose logits and predicted IoUs are spread as those of a trained one."""
    torch.manual_seed(3)
    sam = build(SMALL)
    for name, weight in sam.named_parameters():
        if "rel_pos" in name or "pos_embed" in name:
            torch.nn.init.normal_(weight, std=0.3)
    for network in sam.mask_decoder.output_hypernetworks_mlps:
        network.layers[-1].weight.data *= 300
        network.layers[-1].bias.data *= 300
    sam.mask_decoder.iou_prediction_head.layers[-1].weight.data *= 4
    sam.mask_decoder.iou_prediction_head.layers[-1].bias.data += 0.8
    return sam


@pytest.fixture(scope="session", params=["random", "embedded"])
def pair(request):
    """A segmenter, and the model of segment-anything with its weights and its own layers."""
    torch.set_num_threads(1)
    if request.param == "embedded":
        return segmenters.load("embedded", device="cpu"), read_folder(embedded.folder("sam"))
    sam = random_sam()
    return SamSegmenter(copy.deepcopy(sam), name="random", sha256="0" * 64, prompt_batch=5), sam


@pytest.fixture(scope="session")
def scene():
    """An image of some disks and stripes, uint8 [150, 200, 3]."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:150, :200]
    image = np.full((150, 200, 3), 90.0)
    for cx, cy, radius in ((40, 40, 22), (120, 60, 30), (170, 120, 18), (70, 115, 12), (15, 130, 9)):
        image[(x - cx) ** 2 + (y - cy) ** 2 < radius**2] = rng.integers(0, 256, 3)
    image[:, 95:102] = 200
    return np.clip(image + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8)


def components(mask, connectivity):
    """OpenCV's connectedComponentsWithStats, as far as segment-anything uses it."""
    assert connectivity == 8
    numbers, count = ndimage.label(mask, np.ones((3, 3)))
    sizes = np.bincount(numbers.ravel(), minlength=count + 1)
    return count + 1, numbers, sizes[:, None], None


@pytest.fixture
def opencv(monkeypatch):
    """A module `cv2` with the one function that segment-anything's generator takes from it."""
    monkeypatch.setitem(sys.modules, "cv2", SimpleNamespace(connectedComponentsWithStats=components))


def generate(sam, image, **settings):
    """The records of SamAutomaticMaskGenerator for the arguments of `propose`."""
    names = {
        "predicted_iou": "pred_iou_thresh",
        "stability": "stability_score_thresh",
        "box_nms": "box_nms_thresh",
        "crop_layers": "crop_n_layers",
        "minimum_area": "min_mask_region_area",
    }
    arguments = {names.get(key, key): value for key, value in settings.items()}
    return SamAutomaticMaskGenerator(sam, output_mode="coco_rle", **arguments).generate(image)
