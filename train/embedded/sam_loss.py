"""The loss of the embedded SAM: simulated clicks and boxes with feedback, and the loss of every predicted mask."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from geoclick.clicks import Box, Click
from geoclick.masks import bounding_box
from geoclick.segmenters.center_rule import next_click
from geoclick.segmenters.clicking import FEEDBACK_LIMIT
from geoclick.segmenters.sam import decode_masks
from geoclick.segmenters.sam_library import Sam
from geoclick.train.embedded.sam_frames import OUTSIDE, Frame

BOX_NOISE = 0.1
"""Standard deviation of the noise on the edges of a box, as a fraction of its side, as for SAM."""
LARGEST_BOX_NOISE = 5.0
"""Largest shift of an edge in pixels: SAM's 20 pixels of 1,024 at 256."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Frames with objects to click on.

    Attributes:
        images: normalized as SAM does, zero in the padding, float [B, 3, S, S].
        targets: bool [N, S, S], N / B objects of each image, image by image.
        valid: bool [N, S, S], false in the padding.
        offset: (x, y) of the frames' top left corner in the model's full input, in pixels.
    """

    images: Tensor
    targets: np.ndarray
    valid: np.ndarray
    offset: tuple[int, int]


def collate(sam: Sam, frames: list[Frame], targets: list[np.ndarray], offset: tuple[int, int]) -> Batch:
    """A batch of frames of equal size; `targets[i]`, bool [K, S, S], belongs to frame i."""
    images = torch.from_numpy(np.stack([f.image for f in frames])).to(sam.device).permute(0, 3, 1, 2)
    inside = np.stack([f.ids != OUTSIDE for f in frames])
    normalized = (images - sam.pixel_mean) / sam.pixel_std * torch.from_numpy(inside).to(sam.device)[:, None]
    return Batch(normalized, np.concatenate(targets), np.repeat(inside, len(targets[0]), axis=0), offset)


def encode(sam: Sam, images: Tensor, offset: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Features and positional encoding of images that cover a part of the model's full input.

    Quarter frames cost a quarter of the time and train the same weights: the positions are those of the part. The
    offset must be a multiple of the attention window, so that the windows have the same borders as in full frames.

    Returns:
        Features [B, C, h, w] and positions [1, C, h, w].
    """
    encoder = sam.image_encoder
    tokens = encoder.patch_embed(images)
    height, width = tokens.shape[1:3]
    patch = images.shape[-1] // width
    rows = slice(offset[1] // patch, offset[1] // patch + height)
    columns = slice(offset[0] // patch, offset[0] // patch + width)
    tokens = tokens + encoder.pos_embed[:, rows, columns]
    for block in encoder.blocks:
        tokens = block(tokens)
    features = encoder.neck(tokens.permute(0, 3, 1, 2)).float()
    return features, sam.prompt_encoder.get_dense_pe()[:, :, rows, columns]


def simulated_click(
    target: np.ndarray, mask: np.ndarray, valid: np.ndarray, clicked: list[Click], rng: np.random.Generator
) -> Click:
    """The next click of a simulated user: half of the time by the center rule, else on a random wrong pixel."""
    if rng.random() < 0.5:
        click = next_click(target, mask, clicked, valid)
        if click is not None:
            return click
    wrong = np.flatnonzero((target ^ mask) & valid)
    pixels = wrong if len(wrong) else np.flatnonzero(target)
    row, column = divmod(int(rng.choice(pixels)), target.shape[1])
    return Click(column, row, bool(target[row, column]))


def exact_box(mask: np.ndarray) -> Box:
    """The box of the outermost pixels of a mask, bool [H, W] with at least one pixel."""
    slices = bounding_box(mask)
    assert slices is not None
    rows, columns = slices
    return columns.start, rows.start, columns.stop - 1, rows.stop - 1


def simulated_box(target: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The box of a target, bool [S, S], with noise on its edges, inside the frame: (left, top, right, bottom)."""
    box = np.array(exact_box(target), float)
    sides = np.tile(box[2:] - box[:2] + 1, 2)
    noise = np.clip(rng.normal(0, BOX_NOISE, 4) * sides, -LARGEST_BOX_NOISE, LARGEST_BOX_NOISE)
    corners = np.sort((box + noise).reshape(2, 2), axis=0)  # the edges of narrow boxes may pass each other
    return corners.clip(0, np.array(target.shape[::-1]) - 1).ravel()


def mask_loss(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Cross-entropy + Dice of logits [N, K, h, w] against coverage [N, 1, h, w], as [N, K].

    The weights are equal: with 5 times the cross-entropy, masks of small objects stay empty for a long time.
    """
    target = target.expand_as(logits)
    entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    inside = valid.sum((-2, -1))
    entropy = (entropy * valid).sum((-2, -1)) / inside
    probability = logits.sigmoid() * valid
    overlap = (probability * target).sum((-2, -1))
    total = probability.sum((-2, -1)) + target.sum((-2, -1))
    return entropy + 1 - (2 * overlap + 1) / (total + 1)


def true_iou(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """IoU of the thresholded masks [N, K] on the low-resolution grid."""
    mask, goal = (logits > 0) & valid.bool(), target > 0.5
    union = (mask | goal).sum((-2, -1))
    return (mask & goal).sum((-2, -1)) / union.clamp(min=1)


def clicking_loss(
    sam: Sam, batch: Batch, prompts: int, feedback: bool, rng: np.random.Generator, *, boxed: bool = False
) -> Tensor:
    """Mean loss over a sequence of simulated prompts for every object of a batch.

    Each prompt adds a click. After the first one, the loss is that of the best of three masks (by loss), plus half of
    that of the single mask. After later clicks it is that of the single mask. With `boxed`, the first prompt is the
    object's box with noise and no click, and stays part of the later prompts; the loss is always that of the single
    mask, which a box takes in `geoclick.segmenters.clicking`. The mean squared error of the predicted IoU is always
    added.

    Args:
        sam: the model.
        batch: frames with targets.
        prompts: number of prompts for each target.
        feedback: whether the logits of the last mask go into the next prompt.
        rng: source of randomness.
        boxed: whether the first prompt is a box.
    """
    features, positions = encode(sam, batch.images, batch.offset)
    features = features.repeat_interleave(len(batch.targets) // len(features), 0)
    side = positions.shape[-1] * 4
    target, valid = (
        functional.adaptive_avg_pool2d(torch.from_numpy(maps)[:, None].to(sam.device).float(), side)
        for maps in (batch.targets, batch.valid)
    )
    valid = valid.round()
    scale = batch.targets.shape[-1] // side
    offset = torch.tensor(batch.offset, dtype=torch.float, device=sam.device)
    boxes = _boxes(batch.targets, offset, rng) if boxed else None
    masks, low_res, loss = np.zeros_like(batch.targets), None, torch.zeros((), device=sam.device)
    sequences: list[list[Click]] = [[] for _ in batch.targets]
    for number in range(prompts):
        points = None
        if number > 0 or not boxed:
            for sequence, goal, mask, inside in zip(
                sequences, batch.targets, masks, batch.valid, strict=True
            ):
                sequence.append(simulated_click(goal, mask, inside, sequence, rng))
            clicks = torch.tensor(sequences, dtype=torch.float, device=sam.device)
            points = clicks[..., :2] + offset, clicks[..., 2].int()
        logits, scores = decode_masks(sam, features, points, boxes, low_res, positions)
        if number > 0 or boxed:
            logits, scores = logits[:, :1], scores[:, :1]
        value, last = _prompt_loss(logits, scores, target, valid)
        loss = loss + value
        low_res = last if feedback else None
        masks = (last[:, 0] > 0).cpu().numpy().repeat(scale, 1).repeat(scale, 2)
    return loss / prompts


def _boxes(targets: np.ndarray, offset: Tensor, rng: np.random.Generator) -> Tensor:
    """A box with noise for each target, in the model's full input, float [N, 4]."""
    boxes = np.stack([simulated_box(target, rng) for target in targets])
    return torch.from_numpy(boxes).to(offset) + offset.repeat(2)


def _prompt_loss(logits: Tensor, scores: Tensor, target: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """The loss of one prompt for each target, and the logits that are fed back, [N, 1, h, w].

    Args:
        logits: of the single mask, and of the three if they count, [N, 1 or 4, h, w].
        scores: their predicted IoU.
        target: coverage [N, 1, h, w].
        valid: the pixels that count.
    """
    losses = mask_loss(logits, target, valid)
    loss = (scores - true_iou(logits.detach(), target, valid)).square().mean()
    rows = torch.arange(len(logits), device=logits.device)
    if logits.shape[1] == 1:
        loss, chosen = loss + losses.mean(), torch.zeros_like(rows)
    else:
        best = losses.detach()[:, 1:].argmin(1) + 1
        loss = loss + losses[rows, best].mean() + 0.5 * losses[:, 0].mean()
        chosen = scores.detach()[:, 1:].argmax(1) + 1
    return loss, logits.detach()[rows, chosen][:, None].clamp(-FEEDBACK_LIMIT, FEEDBACK_LIMIT)
