"""The decoder of many single clicks gives the masks of `decode`, and only those above the limit."""

import numpy as np
import pytest
import torch

from geoclick import segmenters
from geoclick.clicks import Click
from geoclick.segmenters import points
from geoclick.segmenters.base import Prompt
from tests import tiny

POINTS = np.array([(3.0, 5.5), (60.25, 20), (10, 90), (44, 33), (0, 0)])


@pytest.mark.parametrize("load", [tiny.sam_segmenter, lambda: segmenters.load("embedded", device="cpu")])
def test_clicks_equal_decode(load):
    torch.set_num_threads(1)
    segmenter = load()
    # A limit of 0 or less means all masks, so that the scores must be above it.
    segmenter.sam.mask_decoder.iou_prediction_head.layers[-1].bias.data += 1
    image = np.random.default_rng(0).integers(0, 256, (100, 70, 3), dtype=np.uint8)
    embedding = segmenter.embed([image])[0]
    prompts = [Prompt((Click(x, y),)) for x, y in POINTS]
    decoded = segmenter.decode([embedding] * len(prompts), prompts, multimask=True)
    decode, batch = points.decoder(segmenter, embedding)
    assert batch.size == segmenter.prompt_batch
    everything = decode(POINTS, 0.0)
    torch.testing.assert_close(
        everything.low_res, torch.cat([d.low_res for d in decoded]), atol=1e-4, rtol=1e-4
    )
    torch.testing.assert_close(
        everything.scores, torch.cat([d.scores for d in decoded]), atol=1e-5, rtol=1e-5
    )
    assert everything.clicks.tolist() == [i for i in range(len(POINTS)) for _ in range(3)]

    limit = float(everything.scores.median())
    some, above = decode(POINTS, limit), everything.scores > limit
    assert 0 < len(some.scores) < len(everything.scores)
    assert some.clicks.tolist() == everything.clicks[above].tolist()
    torch.testing.assert_close(some.low_res, everything.low_res[above], atol=1e-4, rtol=1e-4)
    none = decode(POINTS, 100.0)
    assert none.low_res.shape == (0, *everything.low_res.shape[1:])
    assert len(none.scores) == len(none.clicks) == 0
