"""Answers of models with linear attention and of mixtures of experts: those of transformers, prompt by prompt."""

import numpy as np
import pytest
import torch

from geoclick.errors import GeoClickError
from geoclick.vlms import loading
from geoclick.vlms.generation.decoding import Decoder
from tests import tiny_families
from tests.geoclick.vlms.generation.test_decoding import QUERIES, by_transformers, write

LIMIT = 6


@pytest.fixture(scope="module", params=["qwen3_5", *tiny_families.MIXTURES])
def vlm(request, tmp_path_factory):
    vlm = loading.load(
        str(tiny_families.FOLDERS[request.param](tmp_path_factory.mktemp("vlm"))), device="cpu"
    )
    torch.manual_seed(0)
    for weight in vlm.model.parameters():
        if weight.ndim > 1:
            weight.data.normal_(std=0.3)
    vlm.processor.image_processor.size["longest_edge"] = 100 * 100
    return vlm


def test_tokens_and_probabilities_are_those_of_transformers(vlm):
    """Images of several sizes with one to three queries of different lengths, in batches of four and two."""
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((64, 64), (48, 96), (120, 80))]
    asked = [images[i] for i in (1, 0, 2, 1, 1, 2)], [*QUERIES, "a field"]
    expected = by_transformers(vlm, *asked, limit=LIMIT)
    written = write(vlm, *asked, 4, limit=LIMIT)
    assert [one.tokens for one in written] == [tokens for tokens, _ in expected]
    assert len({tuple(tokens) for tokens, _ in expected}) >= 4
    for one, (_, log_probability) in zip(written, expected, strict=True):
        assert one.log_probability == pytest.approx(log_probability, rel=1e-4)
    # One query for an image: there is nothing to share.
    alone = write(vlm, asked[0][:3], asked[1][:3], limit=LIMIT)
    assert [one.tokens for one in alone] == [tokens for tokens, _ in expected[:3]]


def test_a_compiled_step_is_refused_for_linear_attention(vlm):
    if vlm.family == "qwen3_vl_moe":
        return
    with pytest.raises(
        GeoClickError, match=f"--compile does not support {vlm.family}, which has linear attention"
    ):
        Decoder(vlm, max_new_tokens=3, compile=True)
