"""Crops of proposals hold the right pixels, and their cosines are those of single calls."""

import numpy as np
import pytest
import torch
from transformers import CLIPConfig, CLIPModel

from geoclick import masks
from geoclick.clips.loading import NORMALIZATION, Clip
from geoclick.errors import UsageError
from geoclick.inference.contrastive import region_crops
from tests.inference.contrastive.test_selection import Mask


@pytest.fixture(scope="module")
def clip():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config={**tower, "vocab_size": 50, "bos_token_id": 0, "eos_token_id": 1},
        vision_config={**tower, "image_size": 32, "patch_size": 8},
        projection_dim=16,
    )
    return Clip(CLIPModel(config).eval(), None, *NORMALIZATION["clip"], 32, "tiny", "")


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)


def rectangle(rows, columns):
    mask = np.zeros((60, 80), bool)
    mask[rows, columns] = True
    return Mask(mask)


def test_a_crop_of_the_size_of_the_model_is_the_image_itself(clip, image):
    proposal = rectangle(slice(10, 42), slice(20, 52))
    proposal.mask[15, 25] = False
    proposal.rle = masks.encode_rle(proposal.mask)
    kept, mean, blurred = (
        region_crops.crop(clip, image, proposal, background=name, margin=1.0)
        for name in ("kept", "mean", "blurred")
    )
    expected = image[10:42, 20:52]
    np.testing.assert_array_equal(kept, expected)
    inside = proposal.mask[10:42, 20:52]
    np.testing.assert_array_equal(mean[inside], expected[inside])
    assert mean[5, 5].tolist() == [123, 117, 104]
    np.testing.assert_array_equal(blurred[inside], expected[inside])
    assert blurred[5, 5].tolist() != expected[5, 5].tolist()


def test_the_margin_widens_the_crop_inside_the_image(clip, image):
    assert region_crops._wider(slice(10, 20), 1.6, 80) == slice(7, 23)
    assert region_crops._wider(slice(0, 20), 1.6, 22) == slice(0, 22)


@pytest.mark.parametrize("background", region_crops.BACKGROUNDS)
def test_cosines_in_batches_are_those_one_by_one(clip, image, background):
    proposals = [rectangle(slice(i, i + 9), slice(3 * i, 3 * i + 20)) for i in range(0, 30, 5)]
    proposals.insert(2, rectangle(slice(0, 0), slice(0, 0)))
    text = torch.nn.functional.normalize(
        torch.randn(3, 16, generator=torch.Generator().manual_seed(1)), dim=-1
    )
    ours = region_crops.crop_cosines(clip, image, proposals, text, background=background, margin=1.2)
    assert ours.shape == (7, 3)
    assert ours.dtype == np.float32
    assert (ours[2] == 0).all()
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (clip.mean, clip.std))
    for number in (0, 1, 3, 6):
        crop = region_crops.crop(clip, image, proposals[number], background=background, margin=1.2)
        pixels = (torch.from_numpy(crop).permute(2, 0, 1).float() / 255 - mean) / std
        with torch.inference_mode():
            outputs = clip.model(input_ids=torch.tensor([[0, 5, 1]]), pixel_values=pixels[None])
        np.testing.assert_allclose(ours[number], (outputs.image_embeds @ text.T)[0], atol=1e-5)


def test_no_proposals_have_no_cosines(clip, image):
    assert region_crops.crop_cosines(clip, image, [], torch.zeros(3, 16)).shape == (0, 3)


def test_a_wrong_option_is_one_sentence(clip, image):
    with pytest.raises(UsageError, match="Unknown background 'black'"):
        region_crops.crop_cosines(clip, image, [], torch.zeros(3, 16), background="black")
    with pytest.raises(UsageError, match=r"must be 1 or more, not 0\.5"):
        region_crops.crop_cosines(clip, image, [], torch.zeros(3, 16), margin=0.5)
