import dataclasses

import pytest
import torch

from geoclick import datasets, vlms
from geoclick.geo.reading import PixelOptions
from geoclick.prompts import messages
from geoclick.train.reinforcement.epoch_samples import EpochSamples, picture_of
from geoclick.train.reinforcement.grpo_prompts import GrpoPrompts
from geoclick.vlms.encoding import model_inputs
from tests import tiny
from tests.train.samples import listed

CPU = torch.device("cpu")


@pytest.fixture(scope="module", params=tiny.FAMILIES)
def vlm(request, tmp_path_factory):
    return vlms.load(str(tiny.FOLDERS[request.param](tmp_path_factory.mktemp("vlm"))), device="cpu")


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    root = listed(
        tmp_path_factory.mktemp("data"),
        ["a barn", "what <|im_end|> ends, <|image_pad|> shows and <|vision_start|> starts", " the last "],
    )
    return list(datasets.read("folder", root, "train"))


def make(vlm, samples, limit=1e9, answer_format="compact", trains_vision=False):
    return GrpoPrompts(
        vlm,
        samples if isinstance(samples, EpochSamples) else EpochSamples(samples),
        answer_format=answer_format,
        device=CPU,
        autocast=torch.autocast("cpu", enabled=False),
        limit=limit,
        trains_vision=trains_vision,
    )


@pytest.mark.parametrize("answer_format", ["compact", "json"])
def test_prompts_are_those_of_inference_token_for_token(vlm, samples, answer_format):
    prompts = make(vlm, samples, answer_format=answer_format)
    images = [sample.read_image() for sample in samples]
    queries = [sample.query for sample in samples]
    expected = model_inputs(vlm, images, queries, answer_format=answer_format)
    for i, ids in enumerate(prompts.ids(range(len(samples)))):
        assert ids == expected["input_ids"][i][expected["attention_mask"][i].bool()].tolist()


def test_the_texts_of_the_logs_are_rendered_by_the_chat_template(vlm, samples):
    texts = make(vlm, samples).rows()["prompt"]
    for sample, text in zip(samples, texts, strict=True):
        chat = messages(sample.query, answer_format="compact")
        assert text == vlm.processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)


def test_features_in_memory_or_not_give_the_logits_of_pixels(vlm, samples):
    inputs = model_inputs(
        vlm, [s.read_image() for s in samples], [s.query for s in samples], answer_format="compact"
    )
    numbers = [2, 0, 1]
    with torch.no_grad():
        expected = vlm.model(**inputs).logits[:, -1][numbers]
        for limit in (1e9, 0):
            prompts = make(vlm, samples, limit)
            assert (prompts.bytes > 0) == (limit > 0)
            prompts.load_features(numbers)
            ids = inputs["input_ids"][numbers]
            vision = prompts.vision_inputs(numbers, ids)
            found = vlm.model(input_ids=ids, attention_mask=inputs["attention_mask"][numbers], **vision)
            torch.testing.assert_close(found.logits[:, -1], expected, rtol=1e-4, atol=1e-4)


def test_with_a_trained_tower_pixels_give_the_logits_of_features(vlm, samples):
    numbers = [2, 0, 1]
    prompts = make(vlm, samples, trains_vision=True)
    assert not prompts.bytes
    prompts.load_features(numbers)
    ids = prompts.ids(numbers)
    for number, row in zip(numbers, ids, strict=True):
        row = torch.tensor([row])
        features, pixels = prompts.vision_inputs([number], row), prompts.pixel_inputs([number], CPU)
        pixels["mm_token_type_ids"] = features["mm_token_type_ids"]
        with torch.no_grad():
            first, second = (vlm.model(input_ids=row, **vision).logits for vision in (features, pixels))
        torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-4)


def test_features_and_pixels_are_those_of_the_chosen_bands(vlm, samples):
    gray = [dataclasses.replace(sample, pixels=PixelOptions(bands=(1,))) for sample in samples]
    for one, other in ((samples, gray), (gray, gray)):
        first, second = (make(vlm, some) for some in (one, other))
        ids = torch.tensor([first.ids([0])[0]])
        same = torch.equal(
            *(
                torch.cat(prompts.vision_inputs([0], ids)["mm_encoder_outputs"]["image"].pooler_output)
                for prompts in (first, second)
            )
        )
        assert same == (one is gray)


def test_augmented_images_have_their_own_features_in_every_epoch(vlm, samples):
    """The logits are those of inference on the view and its query."""
    augmented = EpochSamples(samples, ("flip", "rotate"), seed=1)
    prompts = make(vlm, augmented)
    assert not prompts.bytes
    shown = set()
    for epoch in range(3):
        keys = [epoch * len(samples) + index for index in range(len(samples))]
        prompts.load_features(keys)
        seen = [augmented[key] for key in keys]
        shown.add(picture_of(seen[0]))
        images, queries = [one.read_image() for one in seen], [one.query for one in seen]
        inputs = model_inputs(vlm, images, queries, answer_format="compact")
        ids = [torch.tensor(one) for one in prompts.ids(keys)]
        for one, row, mask in zip(ids, inputs["input_ids"], inputs["attention_mask"], strict=True):
            assert one.tolist() == row[mask.bool()].tolist()
        with torch.no_grad():
            expected = vlm.model(**inputs).logits[:, -1]
            vision = prompts.vision_inputs(keys, inputs["input_ids"])
            found = vlm.model(
                input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], **vision
            )
        torch.testing.assert_close(found.logits[:, -1], expected, rtol=1e-4, atol=1e-4)
    assert len(shown) > 1


def test_prompts_that_are_not_expanded_have_one_image_token(vlm, samples):
    prompts = make(vlm, samples)
    for one, other in zip(prompts.ids([0, 1], expanded=False), prompts.ids([0, 1]), strict=True):
        assert one.count(prompts.image_token) == 1
        assert [i for i in other if i != prompts.image_token] == [i for i in one if i != prompts.image_token]
