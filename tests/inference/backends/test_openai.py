"""The backend of a server, asked for real over loopback: requests, answers and options."""

import base64
import io
import sys

import numpy as np
import pytest
from PIL import Image

from geoclick import prompts
from geoclick.errors import GeoClickError, UsageError
from geoclick.inference.backends import ledger, openai
from geoclick.options import GenerationOptions
from tests.faulty_server import FaultyServer, points
from tests.inference.backends.asked_server import IMAGE, KEY, ask, backend

pytestmark = pytest.mark.usefixtures("quick_server")


def test_a_request_holds_prompt_image_and_schema_and_no_temperature():
    with FaultyServer(key=KEY) as server:
        (reply,) = ask(server, "the tank")
    assert (reply.text, reply.error) == (points("the tank"), "")
    (body,) = server.sent
    assert set(body) == {"model", "messages", "response_format"}
    assert body["response_format"]["json_schema"]["schema"] == prompts.ZERO_SHOT_SCHEMA
    image, text = body["messages"][0]["content"]
    assert text["text"] == prompts.zero_shot("the tank")[0]["content"][1]["text"]
    head, _, data = image["image_url"]["url"].partition(",")
    assert head == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
        np.testing.assert_array_equal(np.asarray(picture), IMAGE)


@pytest.mark.parametrize("image_format", ["png", "jpeg"])
def test_images_are_sent_at_a_stated_side(image_format):
    with FaultyServer() as server:
        ask(server, "the tank", image_side=30, image_format=image_format, temperature=0.5, max_new_tokens=99)
    url = server.sent[0]["messages"][0]["content"][0]["image_url"]["url"]
    with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as picture:
        assert (picture.size, picture.format) == ((30, 20), image_format.upper())
    assert server.sent[0]["temperature"] == 0.5
    assert server.sent[0]["max_completion_tokens"] == 99


def test_clicks_are_relative_to_the_original_image():
    with FaultyServer() as server:
        made = backend(server, image_side=30)
    wrapped = '{"points": [{"point_2d": [500, 500], "label": "negative"}]}'
    for text in (wrapped, f"```json\n{wrapped}\n```"):
        answer = made.read(text, (40, 60))
        assert [tuple(click) for click in answer.clicks] == [(29.5, 19.5, False)]
        assert answer.status == "ok"
    assert made.read('{"points": []}', (40, 60)).status == "empty"
    assert made.read(wrapped[:-4], (40, 60)).status == "unparsable"
    assert made.read('{"points": 3}', (40, 60)).status == "unparsable"


def test_texts_that_cannot_be_read_are_answers():
    with FaultyServer({"half": "half", "prose": "prose", "silent": "silent", "odd": "surrogate"}) as server:
        made = backend(server)
        replies = made.answer([IMAGE] * 4, ["half", "prose", "silent", "odd"])
    assert [made.read(reply.text, (40, 60)).status for reply in replies] == ["repaired"] + ["unparsable"] * 3
    assert replies[3].text.encode()
    assert made.sender.ledger.summary()["cut_answers"] == 1


def test_a_server_without_structured_output_is_asked_without_it(tmp_path, capsys):
    with FaultyServer(structured=False) as server:
        made = backend(server, folder=tmp_path, concurrency=1)
        replies = made.answer([IMAGE] * 3, ["a", "b", "c"])
    assert [reply.text for reply in replies] == list(map(points, "abc"))
    assert ["response_format" in body for body in server.sent] == [True, False, False, False]
    assert capsys.readouterr().out.count("rejects structured output") == 1
    assert made.sender.structured_rejected == 1
    assert ledger.read_summary(tmp_path)["unstructured"] == 3


@pytest.mark.parametrize("name", ["Qwen/Qwen2.5-VL-7B-Instruct", "qwen2_5_vl", "unsloth/qwen-2.5-vl-3b"])
def test_models_that_count_pixels_are_refused(name):
    with FaultyServer(model=name) as server:
        with pytest.raises(GeoClickError, match="writes pixels of the image as the server resizes it"):
            backend(server, vlm=name)
        with pytest.raises(GeoClickError, match="writes pixels of the image as the server resizes it"):
            ask(server, "a", vlm="alias")


def test_a_folder_of_a_model_that_counts_pixels_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "qwen2_5_vl"}')
    with pytest.raises(GeoClickError, match="writes pixels"):
        openai.check_model(str(tmp_path))
    openai.check_model("Qwen/Qwen3-VL-2B-Instruct")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"base_url": "localhost:8000"}, "must be an address"),
        ({"base_url": "http://user:secret@localhost/v1"}, "must hold no user, password"),
        ({"base_url": "http://localhost/v1?key=secret"}, "must hold no user, password"),
        ({"vlm": "embedded"}, "needs --vlm"),
        ({"adapter": "x"}, "--adapter goes with --backend local"),
        ({"max_pixels": 9}, "--max-pixels goes with --backend local"),
        ({"backend": "local", "vlm": "x"}, "--base-url goes with --backend openai"),
        ({"price_input": 1.0}, "go together"),
        ({"budget": 1.0}, "--budget needs"),
        ({"answer_format": "compact"}, "asks for json"),
    ],
)
def test_options_that_do_not_fit_are_one_sentence_without_the_secret(options, sentence):
    words = {"backend": "openai", "vlm": "tiny", "base_url": "http://localhost/v1"} | options
    with pytest.raises(UsageError, match=sentence) as caught:
        openai.load(GenerationOptions(**words))
    assert "secret" not in str(caught.value)


def test_a_missing_key_or_library_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(GeoClickError, match="pip install 'geoclick\\[openai\\]'"):
        openai.load(GenerationOptions(backend="openai", vlm="gpt-5"))
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(GeoClickError, match="OpenAI needs a key; set OPENAI_API_KEY"):
        openai.load(GenerationOptions(backend="openai", vlm="gpt-5"))


def test_a_server_of_ones_own_needs_no_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    with FaultyServer() as server:
        assert ask(server, "a")[0].text
    assert server.headers[0]["authorization"] == "Bearer none"


def test_the_prompt_of_training_is_sent_without_a_schema():
    with FaultyServer() as server:
        made = backend(server, prompt="trained", answer_format="compact")
        made.answer([IMAGE], ["the tank"])
    assert server.sent[0]["messages"][0]["content"][1]["text"] == "Clicks: the tank"
    assert "response_format" not in server.sent[0]
    assert made.read("+(500,500)", (40, 60)).status == "ok"
    assert made.describe()["prompt_version"] == prompts.PROMPT_VERSION


def test_the_pipeline_works_inside_a_running_loop(monkeypatch, segmenter):
    import asyncio

    from geoclick import segmenters
    from geoclick.inference import pipeline

    monkeypatch.setattr(segmenters, "load", lambda *args, **options: segmenter)
    with FaultyServer({"bad": "refuse"}) as server:
        options = GenerationOptions(backend="openai", vlm="tiny", base_url=server.url)
        loaded = pipeline.from_options(options, batch_size=4)

        async def notebook():
            return loaded.predict_batch([IMAGE] * 2, ["the tank", "bad"])

        answered, failed = asyncio.run(notebook())
    assert (answered.status, len(answered.clicks), failed.status) == ("ok", 1, "failed")
    assert "the content is not allowed" in failed.error
    assert not failed.mask.any()
