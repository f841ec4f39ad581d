"""The backend of a server, asked for real over loopback."""

import base64
import io
import json
import sys
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import numpy as np
import pytest
from PIL import Image

from geoclick import prompts
from geoclick.errors import GeoClickError, UsageError
from geoclick.inference.backends import chat_api, ledger, openai, sending
from geoclick.options import GenerationOptions
from tests.faulty_server import FaultyServer, points

KEY = "sk-test-0123456789abcdefghij"
IMAGE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(sending, "FIRST_WAIT", 0.01)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def backend(server, *, temperature=None, folder=None, **options):
    words = {"backend": "openai", "vlm": "tiny", "base_url": server.url, "retries": 3, "timeout": 5.0}
    return openai.load(GenerationOptions(**(words | options)), temperature=temperature, ledger=folder)


def ask(server, *queries, **options):
    made = backend(server, **options)
    return made.answer([IMAGE] * len(queries), queries)


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


@pytest.mark.parametrize(
    "fault", ["limit", "crash", "hang", "trickle", "cut", "drop", "garbage", "nested", "no-choices"]
)
def test_errors_that_pass_are_tried_again(fault):
    with FaultyServer({"": f"{fault}:1"}) as server:
        (reply,) = ask(server, "the tank", timeout=0.4)
    assert reply.text == points("the tank")
    assert server.seen["the tank"] == 2


@pytest.mark.parametrize(
    ("fault", "times", "reason"),
    [
        ("crash", 3, "internal error"),
        ("hang", 3, "no answer within 0.3 seconds"),
        ("trickle", 3, "no answer within 0.3 seconds"),
        ("cut", 3, "the connection failed"),
        ("garbage", 3, "not in the format of OpenAI's chat API"),
        ("refuse", 2, "the content is not allowed"),
        ("huge", 1, "the answer is larger than 4 MiB"),
        ("long", 1, "the answer has 100,000 characters"),
        ("huge-error", 3, "The server did not answer"),
    ],
)
def test_errors_that_stay_are_a_failed_reply_and_the_others_are_answered(tmp_path, fault, times, reason):
    with FaultyServer({"bad": fault}) as server:
        replies = ask(server, "bad", "good", timeout=0.3 if times > 2 else 5.0, retries=2, folder=tmp_path)
    assert reason in replies[0].error
    assert replies[0].text == ""
    assert replies[1].text == points("good")
    # What is refused is sent again without structured output, unless another answer has shown that it is accepted.
    assert server.seen["bad"] in ((1, times) if fault == "refuse" else (times,))
    sums = ledger.read_summary(tmp_path)
    assert (sums["answered"], sums["failed"]) == (1, 1)


@pytest.mark.parametrize("fault", ["huge-error", "huge-redirect"])
def test_no_more_than_the_beginning_of_an_error_is_read(fault):
    with FaultyServer({"bad": f"{fault}:1"}) as server:
        (reply,) = ask(server, "bad", timeout=5.0)
        # The rest is in the buffers of the connection.
        assert 0 <= server.written < 32 << 20
    assert reply.text == points("bad")


def test_every_sample_is_a_request_of_its_own_and_sent_once(tmp_path):
    with FaultyServer({"road": "refuse"}) as server:
        made = backend(server, folder=tmp_path)
        sampled = made.sample([IMAGE] * 2, ["tank", "road"], 3)
        assert (server.seen["tank"], server.seen["road"]) == (3, 3)
        assert [[bool(reply.text) for reply in own] for own in sampled] == [[True] * 3, [False] * 3]
        # A continued run with more samples asks for those only; the first sample is the answer of a run without.
        again = backend(server, folder=tmp_path)
        assert again.sample([IMAGE], ["tank"], 4)[0][:3] == sampled[0]
        assert again.answer([IMAGE], ["tank"]) == sampled[0][:1]
        assert server.seen["tank"] == 4
    bodies = [body for body in server.sent if "Target: tank" in str(body)]
    assert all(body == bodies[0] for body in bodies)


def test_texts_that_cannot_be_read_are_answers():
    with FaultyServer({"half": "half", "prose": "prose", "silent": "silent", "odd": "surrogate"}) as server:
        made = backend(server)
        replies = made.answer([IMAGE] * 4, ["half", "prose", "silent", "odd"])
    assert [made.read(reply.text, (40, 60)).status for reply in replies] == ["repaired"] + ["unparsable"] * 3
    assert replies[3].text.encode()
    assert made.sender.ledger.summary()["cut_answers"] == 1


def test_answers_without_token_counts_are_counted():
    with FaultyServer({"a": "uncounted"}) as server:
        made = backend(server, price_input=1.0, price_output=1.0)
        replies = made.answer([IMAGE] * 2, ["a", "b"])
    assert all(reply.text for reply in replies)
    sums = made.sender.ledger.summary()
    assert (sums["uncounted"], sums["cost"]) == (1, pytest.approx(0.0011))
    assert "1 answers came without token counts" in "".join(ledger.lines(sums))


@pytest.mark.parametrize(
    "usage", [{}, {"prompt_tokens": 5}, {"prompt_tokens": "5", "completion_tokens": 5}, [1], 3]
)
def test_strange_token_counts_do_not_lose_the_answer(usage):
    body = {"choices": [{"message": {"content": "[]"}}], "usage": usage}
    assert chat_api.read_completion(json.dumps(body).encode()) == chat_api.Completion("[]", "", None, "")


def test_all_requests_wait_as_long_as_the_server_asks():
    with FaultyServer({"first": "limit:1"}) as server:
        ask(server, "first", *(f"{i}" for i in range(6)), concurrency=1)
    waits = [later - before for before, later in zip(server.times, server.times[1:], strict=False)]
    assert waits[0] >= 0.95
    assert max(waits[1:]) < 0.5


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "-3"}, None),
        ({}, None),
    ],
)
def test_the_wait_that_a_server_asks_for(headers, seconds):
    assert chat_api.retry_after(headers) == seconds


def test_the_wait_may_be_a_date():
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert 50 < chat_api.retry_after({"retry-after": date}) <= 60


@pytest.mark.parametrize(
    ("faults", "options", "sentence"),
    [
        ({}, {"vlm": "missing"}, "The server has no model 'missing' at this address"),
        ({"": "quota"}, {}, "The account has no credit left"),
        ({"": "long-wait"}, {}, "The server asks to wait 4,000 seconds"),
        ({"": "no-temperature"}, {"temperature": 0.5}, "The server refuses --temperature"),
        ({"": "no-effort"}, {"reasoning_effort": "low"}, "The server refuses --reasoning-effort"),
        ({"": "die"}, {"retries": 1}, "cannot be reached"),
        ({"": "uncounted"}, {"budget": 1.0, "price_input": 1.0, "price_output": 1.0}, "counts no tokens"),
    ],
)
def test_errors_of_the_run_end_it_at_once(faults, options, sentence):
    with FaultyServer(faults) as server, pytest.raises(GeoClickError, match=sentence):
        ask(server, *(f"query {i}" for i in range(40)), concurrency=2, **options)
    assert len(server.sent) <= 8


def test_a_wrong_key_ends_the_run_and_is_quoted_nowhere(tmp_path, capsys):
    with FaultyServer(key="another") as server, pytest.raises(GeoClickError) as caught:
        ask(server, "a", "b", folder=tmp_path)
    assert "The server refuses the key" in str(caught.value)
    assert "OPENAI_API_KEY" in str(caught.value)
    chain, error = [], caught.value
    while error:
        chain.append(f"{error!r}")
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    written = "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    output = capsys.readouterr()
    assert KEY not in "".join(chain) + written + output.out + output.err
    assert KEY not in repr(backend(server))


def test_many_failures_in_a_row_end_the_run():
    with FaultyServer({"": "crash"}) as server, pytest.raises(GeoClickError, match="10 requests in a row"):
        ask(server, *(f"query {i}" for i in range(40)), retries=0)
    assert len(server.sent) < 20


def test_the_number_of_open_requests_is_limited():
    with FaultyServer({"": "slow"}) as server:
        ask(server, *(f"query {i}" for i in range(12)), concurrency=3)
    assert server.most_open == 3


def test_equal_requests_are_sent_once_and_a_ledger_is_not_asked_again(tmp_path):
    queries = ["a", "b", "a"]
    with FaultyServer() as server:
        first = ask(server, *queries, folder=tmp_path)
        assert ask(server, *queries, folder=tmp_path) == first
        assert server.answered == {"a": 1, "b": 1}
        ask(server, "a", folder=tmp_path, temperature=1.0)
        assert server.answered["a"] == 2


def test_a_line_that_a_kill_cut_is_asked_again(tmp_path):
    with FaultyServer() as server:
        ask(server, "a", folder=tmp_path)
        path = next(tmp_path.glob("*.jsonl"))
        whole = path.read_bytes()
        path.write_bytes(whole[:-9])
        ask(server, "a", "b", folder=tmp_path)
    assert server.answered == {"a": 2, "b": 1}
    assert len([json.loads(line) for line in path.read_text().splitlines()]) == 2
    path.write_bytes(b"{\n" + whole)
    with pytest.raises(GeoClickError, match="is broken"):
        ask(server, "a", folder=tmp_path)


def test_costs_are_counted_and_the_budget_stops_the_run_until_it_is_raised(tmp_path):
    prices = {"price_input": 2.0, "price_output": 10.0, "concurrency": 1, "folder": tmp_path}
    queries = [f"query {i}" for i in range(6)]
    with FaultyServer() as server:
        with pytest.raises(
            GeoClickError, match=r"The budget of 0\.008 is spent: 3 requests have cost 0\.0090"
        ):
            ask(server, *queries, budget=0.008, **prices)
        assert len(server.sent) == 3
        with pytest.raises(GeoClickError, match="is spent"):
            ask(server, *queries, budget=0.008, **prices)
        assert len(server.sent) == 3
        replies = ask(server, *queries, budget=1.0, **prices)
    assert [reply.text for reply in replies] == [points(query) for query in queries]
    assert set(server.answered.values()) == {1}
    sums = ledger.read_summary(tmp_path)
    assert sums["cost"] == pytest.approx(6 * (2 * 1000 + 10 * 100) / 1e6)
    assert (sums["input_tokens"], sums["output_tokens"], sums["models"]) == (6000, 600, {"tiny-2026": 6})
    assert len(sums["dates"]) == 2


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


def test_an_interrupt_does_not_wait_for_open_requests(monkeypatch):
    with FaultyServer({"": "hang"}) as server:
        made = backend(server, timeout=20.0)
        start = time.monotonic()
        monkeypatch.setattr("concurrent.futures.Future.result", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            made.answer([IMAGE], ["a"])
    assert time.monotonic() - start < 5


def _interrupt(future):
    raise KeyboardInterrupt
