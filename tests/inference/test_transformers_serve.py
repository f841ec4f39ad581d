"""The embedded model on a server of transformers gives the answers of the same model in this process."""

import importlib.util
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

from geoclick.inference import evaluate
from geoclick.scenes import run as scenes
from geoclick.vlms.loading import EMBEDDED
from tests import tiny_families

START_SECONDS = 120

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not all(map(importlib.util.find_spec, ("fastapi", "uvicorn"))), reason="needs transformers[serving]"
    ),
]


@pytest.fixture(scope="module")
def url():
    """The address of a server of the embedded model."""
    with serving(EMBEDDED) as address:
        yield address


@contextmanager
def serving(folder):
    """The address of a server of a model, which is ended afterwards."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).with_name("transformers")), "serve", str(folder)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--dtype", "float32"]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _is_healthy(port):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(30)


def _is_healthy(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as response:
            return response.status == 200
    except OSError:
        return False


def test_a_served_model_answers_as_the_same_model_in_this_process(url, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert scenes.main([str(tmp_path / "scenes"), "--count", "8"]) == 0

    def run(output, *flags):
        words = ["--root", tmp_path / "scenes", "--split", "train", "--output", tmp_path / output]
        words += ["--device", "cpu", "--answer-format", "compact", *flags]
        assert evaluate.main([*map(str, words)]) == 0
        return [
            json.loads(line) for line in (tmp_path / output / "predictions.jsonl").read_text().splitlines()
        ]

    server = ("--backend", "openai", "--vlm", EMBEDDED, "--base-url", url, "--prompt", "trained")
    served = run("served", *server, "--temperature", 0, "--max-new-tokens", 160, "--concurrency", 2)
    local = run("local")
    assert len({line["text"] for line in local}) > 1
    keys = ("sample_id", "text", "clicks", "status", "mask", "iou")
    assert [[line[key] for key in keys] for line in served] == [[line[key] for key in keys] for line in local]
    protocol = json.loads((tmp_path / "served/metrics.json").read_text())["protocol"]
    assert (protocol["server_models"], protocol["server_failed"]) == ({str(EMBEDDED): 8}, 0)
    assert protocol["server_output_tokens"] > 0


def test_a_server_that_ignores_the_schema_is_reported(url, tmp_path, capsys):
    assert scenes.main([str(tmp_path / "scenes"), "--count", "2"]) == 0
    words = [
        "--root",
        tmp_path / "scenes",
        "--split",
        "train",
        "--output",
        tmp_path / "run",
        "--device",
        "cpu",
    ]
    words += ["--backend", "openai", "--vlm", EMBEDDED, "--base-url", url, "--max-new-tokens", 60]
    assert evaluate.main([*map(str, words)]) == 0
    assert (
        "answers are no JSON object, although --structured json_schema asked for one"
        in capsys.readouterr().out
    )


def test_a_template_with_thoughts_gets_the_argument_against_them(tmp_path, monkeypatch):
    """With the prompt of training, Qwen3.5 answers as in this process; left to the server, it is asked to think."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    folder = tiny_families.qwen3_5_folder(tmp_path / "vlm")
    assert scenes.main([str(tmp_path / "scenes"), "--count", "3"]) == 0

    def run(output, *flags):
        words = ["--root", tmp_path / "scenes", "--split", "train", "--output", tmp_path / output]
        words += ["--vlm", folder, "--device", "cpu", "--answer-format", "compact", *flags]
        assert evaluate.main([*map(str, [*words, "--max-new-tokens", 12])]) == 0
        lines = (tmp_path / output / "predictions.jsonl").read_text().splitlines()
        # The server writes special tokens out, of which a random model makes some.
        return [re.sub(r"<\|\w+\|>", "", json.loads(line)["text"]) for line in lines]

    with serving(folder) as url:
        server = ["--backend", "openai", "--base-url", url, "--prompt", "trained", "--temperature", 0]
        served = run("off", *server)
        thinking = run("server", *server, "--thinking", "server")
    assert served == run("local")
    assert served != thinking
