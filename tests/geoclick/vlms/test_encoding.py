import pytest
import torch

from benchmarks import random_models
from geoclick import prompts, vlms
from geoclick.errors import GeoClickError
from geoclick.vlms import encoding
from tests import tiny, tiny_families
from tests.paths import SHARED

QWEN = SHARED / "data" / "tokenizers"


@pytest.fixture(scope="module", params=tiny_families.FOLDERS)
def vlm(request, tmp_path_factory):
    return vlms.load(str(tiny_families.FOLDERS[request.param](tmp_path_factory.mktemp("vlm"))), device="cpu")


def chats(answer):
    return [prompts.messages(q, answer_format="compact", answer=answer) for q in ("a barn", "two roads")]


@pytest.fixture(scope="module")
def qwen_tokenizer():
    """Qwen's own tokenizer, which takes seconds to read."""
    if not (QWEN / "qwen.tiktoken").is_file():
        pytest.skip("Qwen's tokenizer is not there")
    return random_models.load_tokenizer(QWEN)


@pytest.fixture(params=["characters", "qwen"])
def processor(request, vlm, monkeypatch):
    """A family's processor, with the tokenizer of the tests and with Qwen's own."""
    if request.param == "qwen":
        if vlm.family not in tiny.FOLDERS:
            pytest.skip("has been read with an older family")
        monkeypatch.setattr(vlm.processor, "tokenizer", request.getfixturevalue("qwen_tokenizer"))
    return vlm.processor


def test_examples_are_the_rendered_chat(vlm):
    for example, chat in zip(
        encoding.encode_examples(vlm.processor, chats("+(1,2)")), chats("+(1,2)"), strict=True
    ):
        text = vlm.processor.apply_chat_template(chat, tokenize=False)
        assert ("<think>" in text) == (vlm.family in ("qwen3_5", "qwen3_5_moe"))
        rendered = vlm.processor.tokenizer.decode(example.prompt_ids + example.completion_ids)
        assert rendered == text.removesuffix("\n") != text


@pytest.mark.parametrize("answer", ["none", "[]", "+(1,2)", "+(512,233) -(80,914)"])
def test_a_completion_is_the_answer_and_the_end_of_its_turn(processor, answer):
    """Nothing after that is generated, so nothing after it has a loss."""
    tokenizer = processor.tokenizer
    end = tokenizer.added_tokens_encoder["<|im_end|>"]
    for example in encoding.encode_examples(processor, chats(answer)):
        assert example.completion_ids == [*tokenizer.encode(answer), end]


def test_a_template_that_ends_no_turn_is_refused(vlm, monkeypatch):
    template = vlm.processor.chat_template.replace("<|im_end|>", "")
    monkeypatch.setattr(vlm.processor, "chat_template", template)
    with pytest.raises(GeoClickError, match="ends no turn"):
        encoding.encode_examples(vlm.processor, chats("none"))


def test_prompts_are_those_of_examples(vlm):
    expected = [example.prompt_ids for example in encoding.encode_examples(vlm.processor, chats("none"))]
    assert encoding.encode_prompts(vlm.processor, chats(None)) == expected


def test_a_template_that_does_not_continue_its_prompt_is_refused(vlm, monkeypatch):
    template = vlm.processor.chat_template.replace("assistant\n", "assistant\n!")
    assert template != vlm.processor.chat_template
    monkeypatch.setattr(vlm.processor, "chat_template", template)
    with pytest.raises(GeoClickError, match="Thinking"):
        encoding.encode_examples(vlm.processor, chats("none"))


def test_a_template_that_puts_a_thought_before_the_answer_is_refused(vlm, monkeypatch):
    """The prompt of such a template begins the thought, and the answer that is trained would end it."""
    template = tiny_families.THINKING.replace("enable_thinking is false", "enable_thinking is none")
    assert template != tiny_families.THINKING
    monkeypatch.setattr(vlm.processor, "chat_template", template)
    prompt = vlm.processor.tokenizer.decode(encoding.encode_prompts(vlm.processor, chats(None))[0])
    assert prompt.endswith("<think>\n")
    with pytest.raises(GeoClickError, match="right after its own generation prompt"):
        encoding.encode_examples(vlm.processor, chats("none"))


def test_a_model_that_thinks_answers_at_once(tmp_path):
    own = vlms.load(str(tiny_families.qwen3_5_folder(tmp_path)), device="cpu").processor
    (example, _), control = encoding.encode_examples(own, chats("none")), chats(None)
    control[0][0]["content"][1]["text"] += "<|im_end|>"
    for ids in (example.prompt_ids, encoding.encode_prompts(own, control)[0]):
        assert own.tokenizer.decode(ids).endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")


@pytest.mark.parametrize("size", [(64, 64), (48, 96), (300, 120)])
def test_visual_tokens_are_those_of_the_processed_image(vlm, size):
    image = torch.zeros(*size, 3, dtype=torch.uint8).numpy()
    inputs = encoding.model_inputs(vlm, [image], ["a barn"], answer_format="compact")
    shown = (inputs["input_ids"] == vlm.processor.image_token_id).sum()
    assert encoding.visual_tokens(vlm.processor, size) == shown


def test_an_image_token_is_expanded_in_its_place():
    assert encoding.expand_image([1, 9, 2, 9], 9, 3) == [1, 9, 9, 9, 2, 9]


def test_sequences_are_padded_on_the_left():
    ids, mask = encoding.pad_left([torch.tensor([1, 2, 3]), torch.tensor([4])], 7)
    assert ids.tolist() == [[1, 2, 3], [7, 7, 4]]
    assert mask.tolist() == [[1, 1, 1], [0, 0, 1]]
