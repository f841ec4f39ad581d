import pytest

from geoclick import codec, prompts


@pytest.mark.parametrize("answer_format", codec.FORMATS)
def test_the_image_comes_first_and_the_query_is_kept(answer_format):
    query = "  the {largest} 100% red roof [left]\n"
    (turn,) = prompts.messages(query, answer_format=answer_format)
    image, text = turn["content"]
    assert (turn["role"], image) == ("user", {"type": "image"})
    assert "the {largest} 100% red roof [left]" in text["text"]
    assert text["text"] == text["text"].strip()


@pytest.mark.parametrize("answer_format", codec.FORMATS)
def test_training_adds_the_answer_and_leaves_the_question(answer_format):
    asked = prompts.messages("a road", answer_format=answer_format)
    taught = prompts.messages("a road", answer_format=answer_format, answer="none")
    assert taught[:-1] == asked
    assert taught[-1] == {"role": "assistant", "content": [{"type": "text", "text": "none"}]}


def test_the_json_prompt_shows_the_form_that_the_codec_reads():
    text = prompts.messages("a road", answer_format="json")[0]["content"][1]["text"]
    assert '{"point_2d": [x, y], "label": "positive" or "negative"}' in text
    assert set(prompts.INSTRUCTIONS) == set(codec.FORMATS)
