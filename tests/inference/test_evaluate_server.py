"""geoclick evaluate with a model on a server that fails."""

import json
import multiprocessing
import os
import random
import signal
import time

import numpy as np
import pytest

from geoclick import images, masks
from geoclick.inference import evaluate
from geoclick.inference.backends import sending
from tests.faulty_server import FaultyServer

KEY = "sk-test-0123456789abcdefghij"
FAULTS = {"tank": "crash:1", "alert": "garbage:1", "planes": "refuse", "harbour": "prose"}
"""What happens to the queries of the dataset: the third one fails, and the last one has an answer without clicks."""


@pytest.fixture(autouse=True)
def quick(monkeypatch, tiny_segmenter):
    monkeypatch.setattr(sending, "FIRST_WAIT", 0.01)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def run(dataset, server, output, *flags):
    words = ["--root", dataset, "--backend", "openai", "--vlm", "tiny", "--output", output]
    words += ["--batch-size", 2, *flags]
    return evaluate.main([*map(str, words), "--base-url", server.url])


def read_lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_every_sample_is_answered_once_or_recorded_as_failed(dataset, tmp_path, capsys):
    output = tmp_path / "run"
    with FaultyServer(FAULTS, key=KEY) as server:
        assert run(dataset, server, output, "--price-input", 1, "--price-output", 10, "--image-side", 32) == 0
        assert set(server.answered.values()) == {1}
    lines = read_lines(output / "predictions.jsonl")
    assert [line["status"] for line in lines] == ["ok", "ok", "failed", "unparsable"]
    assert (lines[2]["iou"], lines[3]["iou"]) == (0, 0)
    (failure,) = read_lines(output / "failures.jsonl")
    assert failure["sample_id"] == "s2"
    assert "the content is not allowed" in failure["error"]
    metrics = json.loads((output / "metrics.json").read_text())
    assert metrics["answers"]["by_status"] == {"failed": 1, "ok": 2, "unparsable": 1}
    protocol = metrics["protocol"]
    expected = {
        "backend": "openai",
        "vlm": "tiny",
        "answer_format": "json",
        "prompt_version": "zero-shot-v1",
        "image_side": 32,
        "image_format": "png",
        "structured": "json_schema",
        "max_new_tokens": None,
        "temperature": None,
    }
    assert {key: protocol[key] for key in expected} == expected
    sums = {key.removeprefix("server_"): value for key, value in protocol.items()}
    assert (sums["models"], sums["answered"], sums["failed"]) == ({"tiny-2026": 3}, 3, 1)
    assert sums["cost"] == pytest.approx(3 * (1000 + 10 * 100) / 1e6)
    assert len(sums["dates"]) == 2
    printed = capsys.readouterr()
    assert "3 requests answered by tiny-2026, 1 failed" in printed.out
    assert "cost 0.0060" in printed.out
    assert sums["resized_images"] == 3
    assert "3 images were sent smaller than they are" in printed.out
    files = [path.read_text(encoding="utf-8") for path in output.rglob("*") if path.is_file()]
    assert KEY not in "".join(files) + printed.out + printed.err


def test_failed_samples_are_asked_again_and_the_others_are_not(dataset, tmp_path, capsys):
    output = tmp_path / "run"
    with FaultyServer(FAULTS) as server:
        assert run(dataset, server, output) == 0
        before, asked = (output / "predictions.jsonl").read_bytes(), len(server.sent)
        assert run(dataset, server, output) == 0
        assert len(server.sent) == asked
        server.faults = {"harbour": "prose"}
        assert run(dataset, server, output, "--retry-failed") == 0
        assert len(server.sent) == asked + 1
        assert set(server.answered.values()) == {1}
    after = read_lines(output / "predictions.jsonl")
    assert [line["status"] for line in after] == ["ok", "ok", "ok", "unparsable"]
    assert [json.dumps(line, ensure_ascii=False) for i, line in enumerate(after) if i != 2] == [
        line for i, line in enumerate(before.decode().splitlines()) if i != 2
    ]
    assert not (output / "failures.jsonl").exists()


@pytest.mark.parametrize("fault", ["die", "quota"])
def test_a_run_whose_server_ends_midway_is_continued(dataset, tmp_path, capsys, fault):
    with FaultyServer() as server:
        assert run(dataset, server, tmp_path / "whole") == 0
    output = tmp_path / "run"
    with FaultyServer({"planes": fault}) as server:
        assert run(dataset, server, output, "--retries", 1, "--concurrency", 1) == 1
        answered = set(server.answered)
    error = capsys.readouterr().err
    assert error.startswith("error: The ")
    assert len(error.splitlines()) == 1
    assert answered
    assert not (output / "predictions.jsonl").exists()
    with FaultyServer() as server:
        assert run(dataset, server, output) == 0
        assert not answered & set(server.answered)
    whole = (tmp_path / "whole/predictions.jsonl").read_bytes()
    assert (output / "predictions.jsonl").read_bytes() == whole


def test_a_spent_budget_is_one_sentence_and_the_run_is_continued(dataset, tmp_path, capsys):
    output, flags = tmp_path / "run", ("--price-input", 1, "--price-output", 10, "--concurrency", 1)
    with FaultyServer() as server:
        assert run(dataset, server, output, *flags, "--budget", 0.003) == 1
        assert "error: The budget of 0.003 is spent: 2 requests have cost 0.0040" in capsys.readouterr().err
        assert run(dataset, server, output, *flags, "--budget", 1) == 0
        assert set(server.answered.values()) == {1}


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--image-side", 40), "image_side 768, not 40"),
        (("--structured", "none"), "structured 'json_schema', not 'none'"),
        (("--prompt", "trained"), "prompt_version 'zero-shot-v1', not 'v1'"),
        (("--temperature", 0), "temperature None, not 0.0"),
    ],
)
def test_a_run_is_not_continued_with_other_requests(dataset, tmp_path, capsys, flags, sentence):
    with FaultyServer() as server:
        assert run(dataset, server, tmp_path / "run") == 0
        assert run(dataset, server, tmp_path / "run", *flags) == 1
    assert sentence in capsys.readouterr().err.replace('"', "'")


@pytest.mark.parametrize(
    ("flags", "code", "sentence"),
    [
        (("--predictor", "noisy"), 2, "--backend has no meaning for --predictor noisy"),
        (("--predictor", "clip"), 2, "--vlm has no meaning"),
        (("--vlm", "Qwen/Qwen2.5-VL-7B-Instruct"), 1, "writes pixels of the image"),
        (("--vlm", "missing"), 1, "The server has no model 'missing'"),
        (("--adapter", "x"), 2, "--adapter goes with --backend local"),
        (("--budget", 1), 2, "--budget needs --price-input"),
        (("--backend", "local", "--retry-failed"), 2, "goes with --backend openai"),
    ],
)
def test_bad_input_is_one_sentence(dataset, tmp_path, capsys, flags, code, sentence):
    with FaultyServer() as server:
        assert run(dataset, server, tmp_path / "run", *flags) == code
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert sentence in error


def test_a_wrong_key_stops_at_once(dataset, tmp_path, capsys):
    with FaultyServer(key="another") as server:
        assert run(dataset, server, tmp_path / "run", "--concurrency", 1, "--debug") == 1
        assert len(server.sent) == 1
    printed = capsys.readouterr()
    assert "The server refuses the key" in printed.err
    assert KEY not in printed.err + printed.out


def test_a_missing_key_is_one_sentence_before_the_dataset_is_read(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("OPENAI_API_KEY")
    words = [
        "--root",
        str(tmp_path),
        "--backend",
        "openai",
        "--vlm",
        "gpt-5",
        "--output",
        str(tmp_path / "run"),
    ]
    assert evaluate.main(words) == 1
    assert capsys.readouterr().err.startswith("error: OpenAI needs a key; set OPENAI_API_KEY")
    assert not (tmp_path / "run").exists()


@pytest.fixture
def thousand(tmp_path):
    """A dataset of 1,000 samples on 20 images."""
    folder, rng = tmp_path / "thousand/test", np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    for i in range(20):
        images.write_png(folder / f"images/{i}.png", rng.integers(0, 256, (32, 32, 3), dtype=np.uint8))
    words = ("limit", "crash", "cut", "garbage", "refuse", "drop", "half", "prose")
    mask = np.zeros((32, 32), bool)
    mask[4:20, 8:24] = True
    with (folder / "samples.jsonl").open("w") as file:
        for i in range(1000):
            query = f"{words[i // 25]} {i}" if i % 25 == 7 and i // 25 < len(words) else f"target {i}"
            line = {
                "sample_id": f"s{i}",
                "task": "referring",
                "query": query,
                "image": f"images/{i // 50}.png",
            }
            file.write(json.dumps(line | {"size": [32, 32], "mask": masks.encode_rle(mask)}) + "\n")
    return folder.parent


def faults():
    passing = {word: f"{word}:1" for word in ("limit", "crash", "cut", "garbage", "drop")}
    return passing | {word: word for word in ("refuse", "half", "prose")} | {"target": "slow"}


@pytest.mark.slow
def test_a_thousand_requests_killed_twenty_times_give_the_same_bytes(thousand, tmp_path, capfd):
    """Each sample is answered once or recorded as failed; a kill loses the requests that were open at most."""
    kills, concurrency, flags = 20, 8, ("--concurrency", 8, "--retries", 2, "--gallery", 0)
    with FaultyServer(faults()) as server:
        start = time.perf_counter()
        assert run(thousand, server, tmp_path / "whole", *flags) == 0
        seconds = time.perf_counter() - start
        assert set(server.answered.values()) == {1}
        assert len(server.answered) == 999
    whole = (tmp_path / "whole/predictions.jsonl").read_bytes()
    assert len({json.loads(line)["sample_id"] for line in whole.splitlines()}) == 1000

    fork, rng, killed = multiprocessing.get_context("fork"), random.Random(0), 0
    with FaultyServer(faults()) as server:
        for _ in range(kills):
            child = fork.Process(target=run, args=(thousand, server, tmp_path / "run", *flags))
            child.start()
            before = len(server.sent)
            while len(server.sent) < before + rng.randrange(5, 45) and child.is_alive():
                time.sleep(0.01)
            if child.is_alive():
                os.kill(child.pid, signal.SIGKILL)
                killed += 1
            child.join()
        assert run(thousand, server, tmp_path / "run", *flags) == 0
        again = sum(count - 1 for count in server.answered.values())
    assert killed == kills
    assert again <= kills * concurrency
    assert (tmp_path / "run/predictions.jsonl").read_bytes() == whole
    failed = read_lines(tmp_path / "run/failures.jsonl")
    assert [line["query"] for line in failed] == ["refuse 107"]
    print(f"uninterrupted {seconds:.1f} s; {killed} kills, {again} requests answered twice by the server")
