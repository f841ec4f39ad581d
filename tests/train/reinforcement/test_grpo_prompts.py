import pytest
import torch

from geoclick import datasets, vlms
from geoclick.train.data.rows import render
from geoclick.train.reinforcement.grpo_prompts import Questions
from geoclick.vlms.encoding import model_inputs
from tests import tiny
from tests.train.samples import listed

CPU = torch.device("cpu")


@pytest.fixture(scope="module", params=tiny.FOLDERS)
def vlm(request, tmp_path_factory):
    return vlms.load(str(tiny.FOLDERS[request.param](tmp_path_factory.mktemp("vlm"))), device="cpu")


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    root = listed(
        tmp_path_factory.mktemp("data"),
        ["a barn", "what <|im_end|> ends, <|image_pad|> shows and <|vision_start|> starts", " the last "],
    )
    return list(datasets.read("folder", root, "train"))


def asked(vlm, samples, limit=1e9, answer_format="compact"):
    autocast = torch.autocast("cpu", enabled=False)
    return Questions(vlm, samples, answer_format=answer_format, device=CPU, autocast=autocast, limit=limit)


@pytest.mark.parametrize("answer_format", ["compact", "json"])
def test_prompts_are_those_of_inference_token_for_token(vlm, samples, answer_format):
    questions = asked(vlm, samples, answer_format=answer_format)
    images = [sample.read_image() for sample in samples]
    queries = [sample.query for sample in samples]
    expected = model_inputs(vlm, images, queries, answer_format=answer_format)
    for i, ids in enumerate(questions.ids(range(len(samples)))):
        assert ids == expected["input_ids"][i][expected["attention_mask"][i].bool()].tolist()


def test_prompts_are_those_of_supervised_rows(vlm, samples):
    """Where no control token stands in the query, which there counts as one."""
    questions = asked(vlm, samples)
    texts = questions.rows()["prompt"]
    image = vlm.processor.image_token
    for i in (0, 2):
        prompt, _ = render(vlm.processor, samples[i].query, "none", "compact")
        assert prompt == texts[i]
        ids = questions.ids([i])[0]
        tokens = vlm.processor.tokenizer(prompt.replace(image, image * ids.count(questions.image_token)))
        assert ids == tokens["input_ids"]


def test_features_in_memory_or_not_give_the_logits_of_pixels(vlm, samples):
    inputs = model_inputs(
        vlm, [s.read_image() for s in samples], [s.query for s in samples], answer_format="compact"
    )
    numbers = [2, 0, 1]
    with torch.no_grad():
        expected = vlm.model(**inputs).logits[:, -1][numbers]
        for limit in (1e9, 0):
            questions = asked(vlm, samples, limit)
            assert (questions.bytes > 0) == (limit > 0)
            questions.look(numbers)
            ids = inputs["input_ids"][numbers]
            vision = questions.vision(numbers, ids)
            found = vlm.model(input_ids=ids, attention_mask=inputs["attention_mask"][numbers], **vision)
            torch.testing.assert_close(found.logits[:, -1], expected, rtol=1e-4, atol=1e-4)


def test_the_pictures_are_the_images(vlm, samples):
    pictures = asked(vlm, samples, limit=0).pictures([1])
    assert (
        torch.tensor(samples[1].read_image()) == torch.tensor(list(pictures[0][0].getdata())).view(64, 64, 3)
    ).all()
