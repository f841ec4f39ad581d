"""geoclick predict with a model on a server that fails."""

import json

import numpy as np
import pytest

from geoclick import images
from geoclick.inference import predict
from geoclick.inference.backends import sending
from tests.faulty_server import FaultyServer

KEY = "sk-test-0123456789abcdefghij"


@pytest.fixture
def tiles(tmp_path):
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{name}.png" for name in "ab"]
    for path in paths:
        images.write_png(path, rng.integers(0, 256, (40, 60, 3), dtype=np.uint8))
    return paths


def run(tiles, server, output, *flags):
    words = [*tiles, "--backend", "openai", "--vlm", "tiny", "--base-url", server.url, "--output", output]
    return predict.main([*map(str, [*words, *flags])])


def test_masks_come_from_a_server_and_a_rerun_asks_for_nothing_twice(
    tiles, tiny_segmenter, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr(sending, "FIRST_WAIT", 0.01)
    output = tmp_path / "out"
    with FaultyServer({"tank": "crash:1", "road": "refuse"}, key=KEY) as server:
        assert run(tiles, server, output, "--text", "the tank", "--text", "the road") == 1
        assert (output / "failures.jsonl").read_text().count("the content is not allowed") == 2
        assert "server: 2 requests answered by tiny-2026, 2 failed" in capsys.readouterr().out
        server.faults = {}
        assert run(tiles, server, output, "--text", "the tank", "--text", "the road") == 0
        assert server.answered == {"the tank": 2, "the road": 2}
    found = [json.loads(path.read_text()) for path in output.glob("*.json")]
    assert {record["query"] for record in found} == {"the tank", "the road"}
    assert {record["prompt_version"] for record in found} == {"zero-shot-v1"}
    assert {record["image_side"] for record in found} == {768}
    for path in output.rglob("*"):
        if path.is_file():
            assert KEY.encode() not in path.read_bytes()


def test_options_of_a_server_have_no_meaning_for_classes(tiles, tmp_path, capsys):
    with FaultyServer() as server:
        assert run(tiles, server, tmp_path / "out", "--classes", "building; road") == 2
    assert "goes with --text" in capsys.readouterr().err
