"""The losses of the embedded CLIP: masked pairs do not count, and features are those of transformers' forward pass."""

import pytest
import torch

from geoclick.train.embedded.clip_loss import background_loss, image_loss, region_loss
from geoclick.train.embedded.clip_model import build_model, image_and_patch_features, text_features


def changed(values, place, value=50.0):
    values = values.clone()
    values[place] = value
    return values


def test_pairs_that_may_be_true_do_not_count():
    torch.manual_seed(0)
    logits = torch.randn(6, 3)
    possible = torch.eye(6, 3, dtype=torch.bool)
    possible[1, 0] = possible[5, 2] = True
    loss = image_loss(logits, possible)
    for place in ((1, 0), (5, 2)):
        assert image_loss(changed(logits, place), possible) == loss
    for place in ((0, 1), (4, 2), (0, 0)):
        assert image_loss(changed(logits, place), possible) != loss


def test_wrong_captions_are_negatives_of_views_only():
    logits = torch.zeros(4, 2)
    alone = torch.eye(4, 2, dtype=torch.bool)
    # A view has one right caption of four, a caption one right view of two.
    assert image_loss(logits, alone).item() == pytest.approx((torch.tensor([4.0, 2.0]).log().mean()).item())


def test_regions_are_compared_with_what_does_not_name_them():
    truth = torch.tensor([[1, 1, 0, -1, 0]], dtype=torch.int8)
    logits = torch.tensor([[2.0, 1.0, 7.0, 0.5, -1.0]])
    others = torch.tensor([0.5, -1.0]).logsumexp(0)  # the wrong phrase and the background
    expected = (torch.nn.functional.softplus(others - torch.tensor([2.0, 1.0]))).mean()
    torch.testing.assert_close(region_loss(logits, truth), expected)
    assert truth[0, -1] == 0


def test_the_background_is_compared_with_wrong_phrases_without_a_color():
    truth = torch.tensor([[1, -1, -1, 0, 0]], dtype=torch.int8)
    plain = torch.tensor([True, True, False, True, True])
    logits = torch.tensor([[9.0, 1.0, 8.0, 7.0, 2.0]])
    expected = torch.nn.functional.softplus(torch.tensor(1.0 - 2.0))
    torch.testing.assert_close(background_loss(logits, truth, plain), expected)


@pytest.mark.parametrize("side", [128, 224])
def test_features_are_those_of_transformers(side):
    torch.manual_seed(0)
    model = build_model(40, {"start": 0, "end": 1, "unknown": 2}).eval()
    pixels, tokens = torch.randn(2, 3, side, side), torch.tensor([[0, 5, 6, 1], [0, 7, 1, 1]])
    with torch.no_grad():
        images, ways = image_and_patch_features(model, pixels)
        expected = model.get_image_features(pixel_values=pixels, interpolate_pos_encoding=True).pooler_output
        torch.testing.assert_close(images, torch.nn.functional.normalize(expected, dim=-1))
        assert [way.shape for way in ways] == [(2, (side // 16) ** 2, 128)] * 3
        texts = model.get_text_features(input_ids=tokens).pooler_output
        torch.testing.assert_close(text_features(model, tokens), torch.nn.functional.normalize(texts, dim=-1))
