"""`geoclick ablate --max-clicks`: segmenters by oracle clicks and by those of an adapter."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from geoclick import cli, codec, datasets, masks, segmenters
from geoclick.inference.ablation import clicks
from geoclick.inference.generative import mask_decoding
from geoclick.segmenters import clicking
from geoclick.segmenters.center_rule import next_click
from tests import tiny_sams
from tests.train.adapters import random_adapter
from tests.train.samples import listed


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Three images, four samples with a target and one without."""
    return listed(tmp_path_factory.mktemp("data"), ["a field", "a barn", "the road", "trees", "a lake"])


@pytest.fixture
def run(root, tmp_path, capsys):
    def call(*words):
        place = ("--root", root, "--split", "train", "--output", tmp_path / "out", "--device", "cpu")
        code = cli.main(["ablate", *map(str, (*words, *place))])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return code, (captured.out + captured.err).splitlines()

    return call


def test_a_row_for_each_segmenter(run, root, tmp_path):
    folder = tiny_sams.folder(tmp_path / "sam2", "sam2")
    words = ("--max-clicks", 3, "--segmenters", "embedded", folder)
    code, lines = run(*words)
    assert code == 0, lines
    assert "left out: 1 no target" in lines
    out = tmp_path / "out"
    assert {"table.md", "table.csv", "curves.png", "metrics.json", "rows", "config.yaml"} == {
        path.name for path in out.iterdir()
    }
    rows = json.loads((out / "metrics.json").read_text())["rows"]
    assert [row["segmenter"] for row in rows] == ["embedded", str(folder)]
    samples = [s for s in datasets.read("folder", root, "train") if s.mask.any()]
    for row in rows:
        segmenter = segmenters.load(row["segmenter"], device="cpu")
        assert row["samples"] == 4
        assert row["sha256"] == segmenter.sha256
        expected = [oracle_by_hand(segmenter, sample, 3) for sample in samples]
        assert row["oracle"] == pytest.approx(np.mean(expected, axis=0), abs=1e-3)
        assert row["adapter"] is None
    with (out / "table.csv").open(newline="") as file:
        table = list(csv.reader(file))
    assert table[0][:5] == ["segmenter", "clicks of", "1 click", "2 clicks", "3 clicks"]
    assert [float(cell) for cell in table[1][2:5]] == [round(value, 3) for value in rows[0]["oracle"]]
    assert np.asarray(Image.open(out / "curves.png")).std() > 0
    # Finished rows are read, and have the same line.
    stored = sorted((out / "rows").iterdir())
    times = [path.stat().st_mtime_ns for path in stored]
    assert run(*words)[1][:3] == lines[:3]
    assert [path.stat().st_mtime_ns for path in sorted((out / "rows").iterdir())] == times


def oracle_by_hand(segmenter, sample, count):
    """The IoU after each click, one sample at a time through `replay`."""
    embedding = segmenter.embed([sample.read_image()])[0]
    mask, sequence, found = np.zeros_like(sample.mask), (), []
    for _ in range(count):
        click = next_click(sample.mask, mask, sequence, sample.valid)
        if click is not None:
            sequence = (*sequence, click)
            mask = clicking.replay(segmenter, [embedding], [sequence])[0][-1]
        found.append(masks.iou(mask, sample.mask, sample.valid))
    return found


def test_the_clicks_of_an_adapter_are_decoded_by_every_segmenter(run, root, tmp_path, monkeypatch):
    adapter = random_adapter(tmp_path / "adapter", "embedded")
    asked = []
    real = clicks.adapter_answers
    monkeypatch.setattr(clicks, "adapter_answers", lambda *a: asked.append(real(*a)) or asked[-1])
    folder = tiny_sams.folder(tmp_path / "sam", "sam")
    code, lines = run("--max-clicks", 2, "--segmenters", "embedded", folder, "--adapter", adapter)
    assert code == 0, lines
    rows = json.loads((tmp_path / "out/metrics.json").read_text())["rows"]
    assert len(asked) == 1
    assert [len(row["adapter"]) for row in rows] == [2, 2]
    assert (tmp_path / "out/table.md").read_text().count("| adapter |") == 2


def test_clicks_of_answers_are_decoded_up_to_their_number_in_each_part(root):
    """Two parts, one part, and none; against the decoding of predict."""
    samples = [s for s in datasets.read("folder", root, "train") if s.mask.any()][:3]
    segmenter = segmenters.load("embedded", device="cpu")
    texts = ["+(400,400) -(900,900) +(200,300); +(600,500)", "+(300,300) -(100,800)", "none"]
    size = {"family": "qwen3_vl", "answer_format": "compact", "image_size": (64, 64)}
    answers = [codec.decode(text, **size) for text in texts]
    pictures = [sample.read_image() for sample in samples]
    found = clicks.answer_ious(segmenter, segmenter.embed(pictures), samples, answers, 3)
    first = [codec.decode(text, **size).prompts for text in ("+(400,400); +(600,500)", "+(300,300)", "none")]
    for objects, number in ((first, 0), ([answer.prompts for answer in answers], 2)):
        decoded = mask_decoding.decode_objects(segmenter, pictures, objects)
        expected = [masks.iou(d.mask, s.mask, s.valid) for d, s in zip(decoded, samples, strict=True)]
        assert [own[number] for own in found] == pytest.approx(expected, abs=1e-3)
    assert found[1][1] == found[1][2]
    assert found[2] == [0.0, 0.0, 0.0]
    assert found[0][0] != found[0][2]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--max-clicks", "3"], "--max-clicks compares --segmenters; give one or more."),
        (["--adapter", "a"], "--adapter goes with --max-clicks; give both."),
        (
            ["--max-clicks", "3", "--segmenters", "embedded", "--axes", "scale"],
            "does not vary --axes or --grid",
        ),
        (["--max-clicks", "3", "--segmenters", "nothing"], "Unknown segmenter 'nothing'"),
    ],
)
def test_wrong_options_are_one_sentence(run, words, message):
    code, lines = run(*words)
    assert code == 2
    assert message in lines[-1]
