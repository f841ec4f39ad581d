"""The benchmark of generation, on a few samples of the embedded model."""

import json

import numpy as np
import pytest
import torch

from benchmarks import inference
from benchmarks.inference_ways import Task
from geoclick import vlms


@pytest.fixture(scope="module")
def vlm():
    torch.set_num_threads(1)
    return vlms.load(device="cpu")


@pytest.mark.parametrize("queries", [1, 3, 8])
def test_images_have_several_queries(queries):
    options = inference.InferenceOptions(output="", samples=9)
    images, texts = inference.draw(options, queries)
    owners = [id(image) for image in images]
    assert [owners.index(owner) for owner in owners] == [i // queries * queries for i in range(9)]
    for start in range(0, 9, queries):
        assert len(set(texts[start : start + queries])) == len(texts[start : start + queries])


def test_clicks_of_all_lengths_are_written_as_given(vlm, monkeypatch):
    """Both formats write the same clicks, which are the answers of the backend."""
    from geoclick.vlms.generation import answers as generation

    images, texts = inference.draw(inference.InferenceOptions(output="", samples=3), 2)
    written = []
    generate = generation.generate
    monkeypatch.setattr(
        generation,
        "generate",
        lambda *args, **options: written.append(generate(*args, **options)) or written[-1],
    )
    task = Task(vlm, images, texts, "json", 8, 2)
    figures = inference.compare_formats(task, 1, 0, inference.Timer(vlm.device), vlm.processor.tokenizer)
    sequences = inference.random_clicks(3, images[0].shape[:2], 0)
    assert [len(clicks) for clicks in sequences] == [1, 2, 3]
    assert len(written) == 4
    for name, answers in zip(inference.FORMATS * 2, written, strict=True):
        frame = vlm.frame(images[0].shape[:2], name)
        assert [answer.text for answer in answers] == [frame.encode(clicks) for clicks in sequences]
        assert figures[name]["tokens_an_answer"] == pytest.approx(
            np.mean([answer.tokens for answer in answers]), abs=0.1
        )
        assert figures[name]["tokens_an_answer_of_tokenizer"] == figures[name]["tokens_an_answer"]
    assert figures["json"]["tokens_an_answer"] > 2 * figures["compact"]["tokens_an_answer"]


@pytest.mark.slow
def test_the_ways_give_the_same_answers(tmp_path, capsys):
    output = tmp_path / "out"
    flags = ["--samples", "6", "--rounds", "1", "--threads", "1", "--max-new-tokens", "48"]
    assert inference.main(["--output", str(output), *flags]) == 0
    figures = json.loads((output / "inference.json").read_text())
    assert list(figures["ways"]) == ["1 queries an image", "8 queries an image"]
    for ways in figures["ways"].values():
        assert {ways[name]["same_answers"] for name in ("one-by-one", "batched", "shared")} == {6}
        assert ways["one-by-one"]["times_one-by-one"] == 1
        assert ways["shared"]["distinct_answers"] > 1
    assert inference.main(["--output", str(output)]) == 2
    assert "another --output" in capsys.readouterr().err
