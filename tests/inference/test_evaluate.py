import json
import os
import subprocess
import sys

import numpy as np
import pytest

from geoclick import masks
from geoclick.clicks import Click
from geoclick.inference import evaluate
from geoclick.inference.evaluation.options import EvaluateOptions, resolve
from geoclick.inference.evaluation.samples import read_samples
from geoclick.inference.generative import mask_decoding
from geoclick.segmenters import clicking
from geoclick.vlms.generation.answers import Generated
from tests.inference import evaluated
from tests.inference.pages import PageParser, check_self_contained

GENERATIVE_KEYS = [
    "vlm",
    "vlm_revision",
    "vlm_fingerprint",
    "adapter",
    "adapter_sha256",
    "adapter_config_sha256",
    "answer_format",
    "prompt_version",
    "min_pixels",
    "max_pixels",
    "max_new_tokens",
    "temperature",
    "segmenter",
    "segmenter_sha256",
    "decode",
    "policy",
]
"""What the protocol holds of the generative predictor."""


@pytest.fixture
def oracle(dataset, click_store, tiny_segmenter, tmp_path):
    """Runs the oracle on the dataset; returns the exit code."""

    def run(*flags, output="run"):
        words = ["--root", dataset, "--predictor", "oracle", "--clicks", click_store, "--batch-size", 2]
        return evaluate.main([*map(str, words), "--output", str(tmp_path / output), *map(str, flags)])

    return run


def read_lines(folder):
    return [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("decode", ["replay", "joint"])
def test_the_oracle_scores_the_stored_clicks(
    oracle, tiny_segmenter, tmp_path, dataset, stored_clicks, decode
):
    assert oracle("--decode", decode) == 0
    lines = read_lines(tmp_path / "run")
    assert [line["sample_id"] for line in lines] == ["s0", "s1", "s2", "s3"]
    samples = read_samples(resolve(EvaluateOptions(root=str(dataset), output="x")))
    for line, sample, clicks in zip(lines, samples, stored_clicks, strict=True):
        embedding = tiny_segmenter.embed([sample.read_image()])
        if decode == "joint":
            expected = clicking.joint(tiny_segmenter, embedding, [clicks])[0].mask
        else:
            history = clicking.replay(tiny_segmenter, embedding, [clicks])[0]
            expected = history[-1] if history else np.zeros(sample.size, bool)
        mask = masks.decode_rle(line["mask"])
        assert (mask == expected).mean() > 0.999
        assert line["iou"] == masks.iou(mask, sample.mask)
        assert tuple(Click(*click) for click in line["clicks"]) == clicks
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert metrics["scores"]["miou"] == pytest.approx(np.mean([line["iou"] for line in lines]))
    assert metrics["scores"]["n"] == 4
    low, high = metrics["scores"]["miou_interval"]
    assert low <= metrics["scores"]["miou"] <= high
    assert {name: block["n"] for name, block in metrics["by_task"].items()} == {
        "no_target": 1,
        "reasoning": 1,
        "referring": 2,
    }
    assert set(metrics["by_category"]) == {"tank", "road"}
    assert metrics["no_target"] | {"targets_without_mask": 0} == {
        "n": 1,
        "accuracy": 1.0,
        "false_alarms": 0,
        "unanswered": 0,
        "targets_without_mask": 0,
    }
    assert metrics["mean_clicks"] == 5 / 4
    assert metrics["answers"]["parse_rate"] is None
    assert metrics["protocol"]["segmenter_sha256"] == tiny_segmenter.sha256
    assert (tmp_path / "run/config.yaml").is_file()


def test_the_report_is_self_contained_and_escapes_text_from_outside(oracle, tmp_path):
    assert oracle() == 0
    page = (tmp_path / "run/report.html").read_text(encoding="utf-8")
    assert check_self_contained(page).addresses
    assert "&lt;script&gt;" in page
    assert "<title>run: upper bound (synthetic clicks) on folder test</title>" in page


def test_an_interrupted_run_continues(oracle, tmp_path, monkeypatch):
    assert oracle(output="complete") == 0
    asked = []
    decode = mask_decoding.decode_objects

    def count_or_die(segmenter, images, sequences, **options):
        if len(asked) == 2 and not (tmp_path / "run/died").exists():
            (tmp_path / "run/died").touch()
            raise KeyboardInterrupt
        asked.extend(sequences)
        return decode(segmenter, images, sequences, **options)

    monkeypatch.setattr(mask_decoding, "decode_objects", count_or_die)
    assert oracle() == 1
    part = tmp_path / "run/parts/000000.jsonl"
    assert len(part.read_text().splitlines()) == 2
    assert not (tmp_path / "run/metrics.json").exists()
    part.write_text(part.read_text() + '{"sample_id": "s')  # killed while writing
    assert oracle() == 0
    assert len(asked) == 4
    for name in ("predictions.jsonl", "metrics.json", "protocol.json"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "complete" / name).read_bytes()
    resumed = [
        json.loads((tmp_path / name / "run.json").read_text())["resumed"] for name in ("run", "complete")
    ]
    assert resumed == [2, 0]


def test_two_processes_and_one_give_the_same_files(dataset, tmp_path):
    words = ["--root", str(dataset), "--predictor", "noisy", "--batch-size", "1", "--output"]
    assert evaluate.main([*words, str(tmp_path / "one")]) == 0
    command = [sys.executable, "-m", "geoclick.inference.evaluate", *words, str(tmp_path / "two")]
    both = [
        subprocess.Popen(command, env=os.environ | {"RANK": str(rank), "WORLD_SIZE": "2"})
        for rank in range(2)
    ]
    assert [process.wait() for process in both] == [0, 0]
    assert json.loads((tmp_path / "two/run.json").read_text())["processes"] == 2
    for name in ("predictions.jsonl", "metrics.json", "protocol.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.parametrize("predictor", ["box", "center-point", "noisy"])
def test_reference_predictors(predictor, dataset, tiny_segmenter, tmp_path):
    words = ["--root", dataset, "--predictor", predictor, "--noise", "0", "--output", tmp_path / "run"]
    words += ["--segmenter", "sam_vit_b", "--checkpoint", "none.pth"]  # replaced by the fixture
    assert evaluate.main([str(word) for word in words]) == 0
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert metrics["no_target"]["accuracy"] == 1.0
    assert (metrics["scores"]["miou"] == 1.0) == (predictor == "noisy")
    assert (metrics["protocol"]["segmenter"] is None) == (predictor == "noisy")


def test_skip_broken_counts_broken_samples(dataset, tmp_path, capsys):
    lines = (dataset / "test/samples.jsonl").read_text().splitlines(keepends=True)
    (dataset / "test/samples.jsonl").write_text("".join([*lines[:2], "{\n", *lines[2:]]))
    words = ["--root", str(dataset), "--predictor", "noisy", "--output", str(tmp_path / "run")]
    assert evaluate.main(words) == 1
    assert "line 3" in capsys.readouterr().err
    assert evaluate.main([*words, "--skip-broken"]) == 0
    protocol = json.loads((tmp_path / "run/metrics.json").read_text())["protocol"]
    assert (protocol["n"], protocol["broken_and_skipped"]) == (4, {"broken line": 1})


def test_a_finished_run_is_not_continued_with_another_protocol(oracle, tmp_path, capsys):
    assert oracle() == 0
    before = {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()}
    assert oracle("--decode", "joint") == 1
    assert "decode 'replay', not 'joint'" in capsys.readouterr().err
    assert {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()} == before
    assert oracle("--limit", 2) == 1


def test_generative_end_to_end_on_a_random_model(dataset, tiny_segmenter, vlm_folder, tmp_path, monkeypatch):
    texts = {"the tank": "+(500,500) -(100,100)", "the harbour": "none", "where planes land": "+(500,500"}
    from geoclick.inference.backends import local

    def answer(vlm, images, queries, **options):
        assert options["answer_format"] == "compact"
        return [Generated(texts.get(query, "<img src=x onerror=alert(1)>")) for query in queries]

    flags = ["--root", dataset, "--vlm", vlm_folder, "--output", tmp_path / "run"]
    assert evaluate.main([*map(str, flags), "--max-new-tokens", "8"]) == 0
    protocol = json.loads((tmp_path / "run/metrics.json").read_text())["protocol"]
    assert protocol["answer_format"] == "json"
    assert protocol["prompt_version"] == "v1"
    start, end = list(protocol).index("predictor"), list(protocol).index("batch_size")
    assert list(protocol)[start + 1 : end] == GENERATIVE_KEYS

    monkeypatch.setattr(local, "generate", answer)
    flags[-1] = tmp_path / "fixed"
    assert evaluate.main([*map(str, flags), "--answer-format", "compact"]) == 0
    metrics = json.loads((tmp_path / "fixed/metrics.json").read_text())
    assert metrics["answers"]["by_status"] == {"empty": 1, "ok": 1, "unparsable": 2}
    assert metrics["answers"]["parse_rate"] == 0.5
    assert metrics["no_target"]["accuracy"] == 1.0
    assert metrics["no_target"]["targets_without_mask"] >= 2
    page = (tmp_path / "fixed/report.html").read_text(encoding="utf-8")
    assert "&lt;img src=x onerror=alert(1)&gt;" in page
    assert not any(address == "x" for address in PageParser(page).addresses)
    first = read_lines(tmp_path / "fixed")[0]
    assert first["clicks"][0] == [31.5, 23.5, True]


def test_gibberish_scores_nothing_and_loops_are_cut(
    dataset, tiny_segmenter, vlm_folder, tmp_path, monkeypatch
):
    """Answers that cannot be read are no answers of no target, and repeated clicks are not replayed."""
    from geoclick.inference.backends import local

    answers = {"the tank": " ".join(["+(500,500)"] * 14), "the harbour": "gibberish"}
    monkeypatch.setattr(
        local,
        "generate",
        lambda vlm, images, queries, **options: [
            Generated(answers.get(query, "+(500,500)")) for query in queries
        ],
    )
    words = [
        "--root",
        dataset,
        "--vlm",
        vlm_folder,
        "--answer-format",
        "compact",
        "--output",
        tmp_path / "run",
    ]
    assert evaluate.main([*map(str, words)]) == 0
    tank, *_, harbour = read_lines(tmp_path / "run")
    assert (harbour["iou"], harbour["boundary_iou"], harbour["status"]) == (0, 0, "unparsable")
    assert (len(tank["clicks"]), tank["status"], tank["dropped"]) == (1, "repaired", ["repeated"] * 13)
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert metrics["by_task"]["no_target"]["miou"] == 0
    assert metrics["no_target"]["accuracy"] == 0
    assert (metrics["no_target"]["false_alarms"], metrics["no_target"]["unanswered"]) == (0, 1)
    assert metrics["answers"]["dropped"] == 13


def test_a_strip_is_recorded_as_failed_and_the_rest_is_scored(
    dataset, tiny_segmenter, vlm_folder, tmp_path, monkeypatch, capsys
):
    from geoclick import images
    from geoclick.inference.backends import local

    none = Generated("none")
    monkeypatch.setattr(local, "generate", lambda vlm, images, queries, **options: [none] * len(queries))
    size = (8, 2000)
    images.write_png(dataset / "test/images/strip.png", np.zeros((*size, 3), np.uint8))
    line = {"sample_id": "strip", "task": "no_target", "query": "x", "image": "images/strip.png"}
    with (dataset / "test/samples.jsonl").open("a") as file:
        file.write(json.dumps(line | {"size": size, "mask": masks.encode_rle(np.zeros(size, bool))}) + "\n")
    words = [
        "--root",
        dataset,
        "--vlm",
        vlm_folder,
        "--answer-format",
        "compact",
        "--output",
        tmp_path / "run",
    ]
    assert evaluate.main([*map(str, words)]) == 0
    *others, strip = read_lines(tmp_path / "run")
    assert [other["status"] for other in others] == ["empty"] * 4
    assert (strip["status"], strip["iou"]) == ("failed", 0)
    assert "too narrow" in strip["error"]
    output = capsys.readouterr().out
    assert "failed and scored 0: 1 samples on 1 images" in output
    assert "images/strip.png: An image of 2000x8 pixels is too narrow" in output
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert metrics["answers"]["by_status"] == {"empty": 4, "failed": 1}
    assert metrics["answers"]["parse_rate"] == 1


def test_records_of_earlier_versions_score_unreadable_answers_0(tmp_path):
    from geoclick.scoring import records

    empty = evaluated.square(0, 0, 0)
    lines = [
        evaluated.record("a", empty, empty, status="unparsable", boundary_iou=1.0),
        evaluated.record("b", empty, empty, status="empty", boundary_iou=1.0),
    ]
    evaluated.write(tmp_path / "run", lines)
    read = records.read(tmp_path / "run/predictions.jsonl")
    assert [(line["iou"], line["boundary_iou"]) for line in read] == [(0, 0), (1, 1)]


def test_bad_input_is_one_sentence(oracle, dataset, click_store, tmp_path, capsys):
    def error(*flags):
        code = oracle(*flags, output="bad")
        message = capsys.readouterr().err.strip().splitlines()
        assert message[-1].startswith("error: ")
        assert not any("Traceback" in line for line in message)
        return code, message[-1]

    assert error("--split", "val")[0] == 2
    assert error("--limit", 0) == (2, "error: --limit must be 1 or more, not 0.")
    assert error("--batch-size", -1)[0] == 2
    assert error("--mode", "other")[0] == 2
    assert error("--predictor", "magic")[0] == 2
    assert error("--mode", "semantic")[0] == 2
    assert error("--noise", 1.5)[0] == 2
    assert error("--compare", "one")[0] == 2
    code, message = error("--clicks", tmp_path / "none")
    assert code == 1
    assert "holds no click store" in message
    assert not (tmp_path / "bad").exists()
    (dataset / "test/images/1.png").write_bytes((dataset / "test/images/1.png").read_bytes()[:500])
    code, message = error()
    assert code == 1
    assert "1.png cannot be read" in message


def test_samples_without_stored_clicks_are_an_error(oracle, dataset, capsys):
    path = dataset / "test/samples.jsonl"
    path.write_text(path.read_text().replace('"s1"', '"other"'))
    assert oracle() == 1
    assert "lacks 1 of 4 samples, such as other" in capsys.readouterr().err


def test_the_oracle_scores_the_iou_that_synth_stored(dataset, tiny_segmenter, tmp_path):
    from geoclick import store
    from geoclick.data_synthesis import run as synth

    place = ["--root", str(dataset), "--split", "test"]
    assert synth.main([*place, "--output", str(tmp_path / "made")]) == 0
    flags = ["--predictor", "oracle", "--clicks", str(tmp_path / "made"), "--output", str(tmp_path / "run")]
    assert evaluate.main([*place, *flags]) == 0
    stored = {row.sample_id: row.ious[-1] if row.ious else 1.0 for row in store.read(tmp_path / "made")}
    found = {line["sample_id"]: line["iou"] for line in read_lines(tmp_path / "run")}
    assert found == pytest.approx(stored, abs=1e-3)


def test_the_scores_of_windows_are_recorded_as_such(dataset, tmp_path, capsys):
    lines = [json.loads(text) for text in (dataset / "test/samples.jsonl").read_text().splitlines()]
    lines = [line | {"task": "semantic" if line["category"] else "no_target"} for line in lines]
    (dataset / "test/samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    words = [
        "--root",
        str(dataset),
        "--predictor",
        "noisy",
        "--noise",
        "0",
        "--output",
        str(tmp_path / "run"),
    ]
    assert evaluate.main([*words, "--tile", "40", "--overlap", "8"]) == 0
    recorded = json.loads((tmp_path / "run/protocol.json").read_text())
    assert (recorded["tile"], recorded["overlap"]) == (40, 8)
    assert "scored on windows of at most 40 pixels a side" in capsys.readouterr().out
    records = read_lines(tmp_path / "run")
    assert {tuple(line["size"]) for line in records} == {(40, 40)}
    assert all(line["iou"] == 1 for line in records)
    assert evaluate.main(words) == 1
    assert "with tile 40, not None" in capsys.readouterr().err
