"""Sampled answers and enforced formats through predict and evaluate, with random and embedded models."""

import json

import numpy as np
import pytest

from geoclick import backend_options, images
from geoclick.inference import evaluate, predict
from geoclick.inference.backends import sending
from geoclick.scenes.drawing import sample_scene
from tests.faulty_server import FaultyServer

SAMPLING = ("--temperature", 1, "--samples", 3, "--max-new-tokens", 8)
TEXTS = ("--text", "the tank", "--text", "the road")


@pytest.fixture
def tiles(tmp_path):
    paths = [tmp_path / f"{name}.png" for name in "abc"]
    for seed, path in enumerate(paths):
        images.write_png(path, np.random.default_rng(seed).integers(0, 256, (40, 60, 3), dtype=np.uint8))
    return paths


@pytest.fixture
def command(tiny_segmenter, vlm_folder, tmp_path):
    """Runs predict on the tiny models and returns its exit code and records."""

    def run(output, *words):
        flags = ["--vlm", vlm_folder, "--output", tmp_path / output]
        code = predict.main([*map(str, words), *map(str, flags)])
        files = sorted((tmp_path / output).glob("*.json"))
        return code, {path.name: json.loads(path.read_text()) for path in files}

    return run


def test_samples_do_not_depend_on_the_batch_or_on_an_earlier_start(command, tiles):
    code, together = command("together", *tiles, *TEXTS, *SAMPLING, "--batch-size", 4)
    assert code == 0
    assert len(together) == 6
    sampled = [sample["text"] for record in together.values() for sample in record["sampled"]]
    assert len(sampled) == 18
    assert len(set(sampled)) > 9
    for record in together.values():
        asked = {key: record[key] for key in ("samples", "temperature", "vote_threshold", "seed")}
        assert asked == {"samples": 3, "temperature": 1.0, "vote_threshold": 0.5, "seed": 0}
    command("started", tiles[0], *TEXTS, *SAMPLING, "--batch-size", 1)
    assert command("started", *tiles, *TEXTS, *SAMPLING, "--batch-size", 1)[1] == together
    other = command("other", *tiles, *TEXTS, *SAMPLING, "--seed", 1)[1]
    assert [one["sampled"] for one in other.values()] != [one["sampled"] for one in together.values()]


def test_an_evaluation_records_samples_and_scores(dataset, tiny_segmenter, vlm_folder, tmp_path, capsys):
    def run(output, *words):
        flags = ["--root", dataset, "--vlm", vlm_folder, "--output", tmp_path / output, *SAMPLING]
        return evaluate.main([*map(str, flags), *map(str, words)])

    assert run("a", "--batch-size", 1) == 0
    assert run("b", "--batch-size", 4) == 0
    lines = [
        [json.loads(line) for line in (tmp_path / name / "predictions.jsonl").read_text().splitlines()]
        for name in "ab"
    ]
    for one, other in zip(*lines, strict=True):
        assert [sample["text"] for sample in one["sampled"]] == [s["text"] for s in other["sampled"]]
        assert len(one["sampled"]) == 3
        assert 0 <= one["confidence"] <= 1
    metrics = json.loads((tmp_path / "a/metrics.json").read_text())
    assert sum(metrics["answers"]["sampled"]["by_status"].values()) == 12
    assert "confidence" in metrics["ranking"]
    assert metrics["ranking"]["confidence"]["n"] == 4
    protocol = json.loads((tmp_path / "a/protocol.json").read_text())
    assert (protocol["samples"], protocol["vote_threshold"], protocol["temperature"]) == (3, 0.5, 1.0)
    assert "constrained" not in protocol
    assert run("a", "--batch-size", 1, "--samples", 2) == 1
    assert "holds a run with samples 3, not 2" in capsys.readouterr().err


def test_a_server_is_asked_for_every_sample(dataset, tiny_segmenter, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sending, "FIRST_WAIT", 0.01)
    words = ["--root", dataset, "--backend", "openai", "--vlm", "tiny", "--samples", 2, "--batch-size", 2]
    with FaultyServer({"planes": "refuse"}) as server:
        flags = [*words, "--base-url", server.url, "--output", tmp_path / "run"]
        assert evaluate.main(list(map(str, flags))) == 0
        assert set(server.answered.values()) == {2}
    assert "The server's own temperature decides" in capsys.readouterr().out
    lines = [json.loads(line) for line in (tmp_path / "run/predictions.jsonl").read_text().splitlines()]
    assert [line["status"] for line in lines] == ["ok", "ok", "failed", "ok"]
    assert [sample["status"] for sample in lines[2]["sampled"]] == ["failed"] * 2
    assert "not allowed" in lines[2]["error"]
    # The server gives equal answers.
    assert [line.get("agreement") for line in lines] == [1.0, 1.0, None, 1.0]


def test_enforced_answers_of_the_embedded_model_can_all_be_read(tmp_path):
    for number in range(3):
        images.write_png(tmp_path / f"{number}.png", sample_scene(0, "test", number, ["referring"])[0])
    # A temperature that breaks the format of most answers.
    words = [str(tmp_path / "[0-9].png"), "--text", "the building", "--text", "a road", "--temperature", "4"]
    words += ["--max-new-tokens", "60"]
    statuses = {}
    for flags in ((), ("--constrained",)):
        output = tmp_path / f"out{len(flags)}"
        assert predict.main([*words, *flags, "--output", str(output)]) == 0
        records = [json.loads(path.read_text()) for path in sorted(output.glob("*.json"))]
        statuses[flags] = {record["status"] for record in records}
        assert all(record.get("constrained", False) == bool(flags) for record in records)
    assert "unparsable" in statuses[()]
    # Clicks may repeat.
    assert statuses[("--constrained",)] <= {"ok", "empty", "repaired"}


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--samples", 2), "--samples needs --temperature above 0"),
        (("--samples", 2, "--temperature", 0), "--samples needs --temperature above 0"),
        (("--vote-threshold", 0.3), "--vote-threshold goes with --samples"),
        (("--samples", 2, "--temperature", 1, "--vote-threshold", 1), "must be below 1"),
        (("--constrained", "--backend", "openai", "--vlm", "m"), "goes with --backend local or vllm"),
    ],
)
def test_options_that_do_not_fit_are_one_sentence(tiles, dataset, capsys, words, reason):
    words = list(map(str, words))
    assert predict.main([str(tiles[0]), "--text", "a", *words]) == 2
    assert reason in capsys.readouterr().err
    assert evaluate.main(["--root", str(dataset), "--output", str(tiles[0].parent / "run"), *words]) == 2
    assert reason in capsys.readouterr().err


def test_sampling_has_no_meaning_for_maps_and_stored_clicks(tiles, dataset, capsys):
    flags = ["--samples", "2", "--temperature", "1"]
    assert predict.main([str(tiles[0]), "--classes", "a; b", *flags]) == 2
    assert "goes with --text" in capsys.readouterr().err
    words = ["--root", str(dataset), "--output", str(tiles[0].parent / "run"), "--predictor", "oracle"]
    assert evaluate.main([*words, *flags]) == 2
    assert "has no meaning for --predictor oracle" in capsys.readouterr().err


def test_the_library_is_named_if_it_is_missing(tiles, capsys, monkeypatch):
    monkeypatch.setattr(backend_options, "find_spec", lambda name: None)
    assert predict.main([str(tiles[0]), "--text", "a", "--constrained"]) == 2
    assert 'pip install "geoclick[constrained]"' in capsys.readouterr().err
