"""Boxes in the training of the embedded SAM: where they lie, and that the loss teaches them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from geoclick.segmenters.base import Prompt
from geoclick.segmenters.sam import SamSegmenter, build
from geoclick.train.embedded import sam_loss
from geoclick.train.embedded.sam_evaluation import Example, evaluate
from geoclick.train.embedded.sam_frames import Frame
from geoclick.train.embedded.sam_loss import clicking_loss, collate, exact_box, simulated_box
from geoclick.train.embedded.sam_model import initialize
from tests import tiny


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    torch.set_num_threads(1)


def rectangle(size=128, left=40, top=30, right=89, bottom=59):
    ids = np.zeros((size, size), np.int32)
    ids[top : bottom + 1, left : right + 1] = 1
    image = np.full((size, size, 3), 90, np.uint8)
    image[ids > 0] = (220, 60, 60)
    return Frame(image, ids)


def test_simulated_boxes_have_noise_of_a_tenth_of_the_side_and_stay_in_the_frame():
    rng = np.random.default_rng(0)
    exact = exact_box(rectangle().ids > 0)
    assert exact == (40, 30, 89, 59)
    boxes = np.stack([simulated_box(rectangle().ids > 0, rng) for _ in range(500)])
    shifts = boxes - exact
    assert np.abs(shifts).max() == 5
    assert shifts[:, 1].std() == pytest.approx(2.8, abs=0.4)  # of 3.0, without what exceeds 5
    assert np.abs(shifts.mean(0)).max() < 0.6
    thin = np.zeros((64, 64), bool)
    thin[:, 63] = True
    for _ in range(50):
        left, top, right, bottom = simulated_box(thin, rng)
        assert 0 <= left <= right <= 63
        assert 0 <= top <= bottom <= 63


def test_a_box_is_at_the_same_place_in_training_and_at_inference(monkeypatch):
    monkeypatch.setattr(sam_loss, "BOX_NOISE", 0.0)
    seen = []
    original = sam_loss.decode_masks

    def recorded(sam, features, points, boxes, low_res, positions):
        seen.append((points, boxes, low_res))
        return original(sam, features, points, boxes, low_res, positions)

    monkeypatch.setattr(sam_loss, "decode_masks", recorded)
    sam = initialize(0)
    frame = rectangle()
    batch = collate(sam, [frame], [(frame.ids == 1)[None]], (64, 128))
    clicking_loss(sam, batch, 2, True, np.random.default_rng(0), boxed=True).backward()
    (points, boxes, low_res), (later, same, fed_back) = seen
    assert points is None
    assert low_res is None
    assert boxes.tolist() == [[104, 158, 153, 187]]
    assert later[0].shape == (1, 1, 2)
    assert same is boxes
    assert fed_back.shape == (1, 1, 64, 64)
    corners = sam.prompt_encoder.point_embeddings
    assert all(corners[i].weight.grad.abs().max() > 0 for i in (2, 3))


def test_the_first_mask_of_a_box_is_that_of_the_segmenter(monkeypatch):
    monkeypatch.setattr(sam_loss, "BOX_NOISE", 0.0)
    decoded = []
    original = sam_loss.decode_masks
    monkeypatch.setattr(
        sam_loss, "decode_masks", lambda *args: decoded.append(original(*args)) or decoded[-1]
    )
    sam, frame = initialize(0), rectangle(256)
    batch = collate(sam, [frame], [(frame.ids == 1)[None]], (0, 0))
    clicking_loss(sam, batch, 1, True, np.random.default_rng(0), boxed=True)
    trained = decoded[0][0][0, :1].detach()
    segmenter = SamSegmenter(sam, name="embedded")
    prompt = Prompt((), box=exact_box(frame.ids == 1))
    [answer] = segmenter.decode(segmenter.embed([frame.image]), [prompt], multimask=False)
    torch.testing.assert_close(answer.low_res, trained, atol=1e-3, rtol=1e-3)


def test_a_few_steps_teach_the_box_of_one_image():
    torch.manual_seed(0)
    sam = build(replace(tiny.SAM, image_size=128, relative_positions=False)).train()
    optimizer = torch.optim.AdamW(sam.parameters(), lr=3e-3)
    frame = rectangle()
    batch = collate(sam, [frame], [np.stack([frame.ids == 1] * 2)], (0, 0))
    losses = []
    for step in range(30):
        loss = clicking_loss(sam, batch, 2, True, np.random.default_rng(step), boxed=True)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.isfinite(losses).all()
    assert np.mean(losses[-3:]) < 0.5 * np.mean(losses[:3])
    measured = evaluate(sam.eval(), [Example(frame.image, [frame.ids > 0], np.ones((128, 128), bool))])
    assert measured["box"] > 0.5
