"""The training of the embedded SAM: frames, simulated clicks, loss, evaluation and model card."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from geoclick.config import read_yaml
from geoclick.segmenters.sam import build
from geoclick.train.embedded.sam_card import model_card
from geoclick.train.embedded.sam_evaluation import Example, evaluate
from geoclick.train.embedded.sam_frames import (
    OUTSIDE,
    Frame,
    Tile,
    components,
    crop,
    pick_objects,
    tile_frame,
)
from geoclick.train.embedded.sam_loss import (
    clicking_loss,
    collate,
    encode,
    mask_loss,
    simulated_click,
    true_iou,
)
from geoclick.train.embedded.sam_model import ARCHITECTURE, initialize
from geoclick.train.embedded.sam_options import EmbeddedSamOptions
from tests import tiny
from tests.paths import REPO


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    torch.set_num_threads(1)


def square(ids_value=1, image_size=128):
    ids = np.zeros((image_size, image_size), np.int32)
    ids[30:60, 40:90] = ids_value
    image = np.full((image_size, image_size, 3), 90, np.uint8)
    image[ids > 0] = (220, 60, 60)
    return Frame(image, ids)


def test_architecture_stays_small():
    sam = build(ARCHITECTURE)
    assert sum(p.numel() for p in sam.parameters()) <= 2.2e6


def test_full_frame_encoding_equals_that_of_segment_anything():
    sam = initialize(0).eval()
    images = torch.randn(1, 3, 256, 256)
    with torch.no_grad():
        features, positions = encode(sam, images, (0, 0))
        torch.testing.assert_close(features, sam.image_encoder(images))
    torch.testing.assert_close(positions, sam.prompt_encoder.get_dense_pe())


def test_quarter_frame_has_the_positions_of_its_part():
    sam = initialize(0).eval()
    with torch.no_grad():
        features, positions = encode(sam, torch.zeros(1, 3, 128, 128), (64, 128))
    assert features.shape[-2:] == (16, 16)
    torch.testing.assert_close(positions, sam.prompt_encoder.get_dense_pe()[:, :, 16:32, 8:24])


def test_mask_loss_is_lowest_for_the_target_and_ignores_the_padding():
    target = torch.zeros(1, 1, 8, 8)
    target[..., 2:5, 2:6] = 1
    valid = torch.ones(1, 1, 8, 8)
    valid[..., 6:] = 0
    right, wrong = (target * 2 - 1) * 20, (1 - target * 2) * 20
    logits = torch.cat([right, wrong], 1)
    losses = mask_loss(logits, target, valid)[0]
    assert losses[0] < 0.01 < 1 < losses[1]
    assert true_iou(logits, target, valid)[0].tolist() == [1.0, 0.0]
    spoiled = torch.where(valid.bool(), right, torch.full_like(right, 50.0))
    torch.testing.assert_close(mask_loss(spoiled, target, valid), mask_loss(right, target, valid))


def test_simulated_clicks_are_on_wrong_pixels():
    rng = np.random.default_rng(0)
    target, mask, valid = np.zeros((3, 20, 20), bool)
    target[2:9, 2:9] = mask[6:15, 6:15] = True
    valid[:, :12] = True
    for _ in range(50):
        click = simulated_click(target, mask, valid, [], rng)
        assert (target ^ mask)[click.y, click.x]
        assert valid[click.y, click.x]
        assert click.positive == target[click.y, click.x]
    assert simulated_click(target, target, valid, [], rng).positive


def test_components_of_touching_classes_are_separate():
    classes = np.array([[1, 1, 2], [0, 1, 2], [1, 0, 0]], np.uint8)
    ids = components(classes)
    assert len(np.unique(ids[ids > 0])) == 2
    assert ids[2, 0] == ids[1, 1]
    assert ids[0, 2] != ids[0, 1]


def test_frames_of_oblong_tiles_are_padded_at_the_bottom_and_right():
    tile = Tile(np.full((300, 150, 3), 200, np.uint8), np.ones((300, 150), np.uint8))
    padded = False
    for seed in range(12):
        frame = tile_frame([tile], np.random.default_rng(seed))
        inside = frame.ids != OUTSIDE
        assert frame.image.shape == (256, 256, 3)
        assert inside[0, 0]
        height, width = inside[:, 0].sum(), inside[0].sum()
        assert max(height, width) == 256
        assert inside[:height, :width].all()
        assert inside.sum() == height * width
        padded |= bool((~inside).any())
    assert padded


def test_picked_objects_are_large_enough_and_distinct():
    rng = np.random.default_rng(0)
    ids = np.zeros((64, 64), np.int32)
    ids[:2, :2], ids[10:20, 10:20], ids[30:40, 30:40] = 1, 2, 3
    masks = pick_objects(ids, 2, rng)
    assert sorted(int(ids[m][0]) for m in masks) == [2, 3]
    assert pick_objects(crop(Frame(ids, ids), 8, rng).ids * 0, 2, rng) is None


def test_a_few_steps_overfit_one_image():
    torch.manual_seed(0)
    sam = build(replace(tiny.SAM, image_size=128, relative_positions=False)).train()
    optimizer = torch.optim.AdamW(sam.parameters(), lr=3e-3)
    frame = square()
    batch = collate(sam, [frame], [np.stack([frame.ids == 1] * 2)], (0, 0))
    losses = []
    for step in range(30):
        loss = clicking_loss(sam, batch, 2, True, np.random.default_rng(step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-3:]) < 0.5 * np.mean(losses[:3])


def test_default_recipe_equals_the_default_options():
    recipe = read_yaml(REPO / "configs/embedded_sam/default.yaml")
    options = EmbeddedSamOptions()
    for key, value in recipe.items():
        default = getattr(options, key)
        assert (list(default) if isinstance(default, tuple) else default) == value, key


def test_evaluation_ranks_the_three_masks_by_predicted_iou():
    frame = square(image_size=256)
    example = Example(frame.image, [frame.ids > 0], np.ones((256, 256), bool))
    measured = evaluate(initialize(0).eval(), [example])
    assert measured["objects"] == 1
    assert measured["any"] <= measured["best"]
    assert measured["chosen"] <= measured["best"]
    assert measured["chosen"] == pytest.approx(measured["iou@1"], abs=1e-3)
    card = model_card(EmbeddedSamOptions(), {"scenes": measured}, steps=3, minutes=1.0)
    assert f"{measured['iou@6']:.3f} |" in card
    assert f"{measured['rank_correlation']:.3f} |" in card
