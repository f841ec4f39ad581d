import json

import numpy as np
import pytest
import rasterio

from geoclick import images
from geoclick.geo import reading
from geoclick.inference import predict
from geoclick.inference.backends import local
from geoclick.pages import click_drawing
from geoclick.vlms.generation.answers import Generated
from tests import tiny


@pytest.fixture
def tile(tmp_path):
    def make(name, size=(40, 60)):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(len(name))
        images.write_png(path, rng.integers(0, 256, (*size, 3), dtype=np.uint8))
        return path

    return make


@pytest.fixture
def command(tiny_segmenter, vlm_folder, tmp_path):
    """Runs predict on the tiny models and returns its exit code."""

    def run(*words):
        flags = ["--vlm", vlm_folder, "--output", tmp_path / "out"]
        return predict.main([*map(str, words), *map(str, flags)])

    return run


def test_every_text_has_its_outputs_and_an_image_is_embedded_once(
    command, monkeypatch, tiny_segmenter, tile, tmp_path
):
    texts = {"a building": "+(250,500)", "the road": "+(800,100)", "the road!": "none"}
    monkeypatch.setattr(
        local,
        "generate",
        lambda vlm, images, queries, **options: [Generated(texts[query]) for query in queries],
    )
    embedded, embed = [], tiny_segmenter.embed
    monkeypatch.setattr(tiny_segmenter, "embed", lambda given: embedded.append(len(given)) or embed(given))
    words = [word for text in texts for word in ("--text", text)]
    assert command(tile("a.png"), tile("b.png"), *words, "--answer-format", "compact") == 0
    names = [f"{stem}.{end}" for stem in "ab" for end in ("a-building", "the-road", "the-road-2")]
    assert sorted(path.stem for path in (tmp_path / "out").glob("*.json")) == names
    assert sum(embedded) == 2
    for name, (text, answer) in zip(names, list(texts.items()) * 2, strict=True):
        record = json.loads((tmp_path / f"out/{name}.json").read_text())
        assert (record["query"], record["text"], record["mask"]) == (text, answer, f"{name}.mask.png")
        mask = images.read_gray(tmp_path / f"out/{name}.mask.png")
        assert record["mask_area"] == (mask > 0).sum()
    assert command(tile("a.png"), *words, "--answer-format", "compact") == 0


def test_an_image_that_fails_does_not_lose_its_batch(command, answers, tile, tmp_path, capsys):
    first, cut, strip, last = (
        tile(name, size)
        for name, size in (("a.png", (40, 60)), ("b.png", (40, 60)), ("c.png", (8, 2000)), ("d.png", (9, 9)))
    )
    cut.write_bytes(cut.read_bytes()[:900])
    answers[0] = "+(500,500)"
    flags = ["--text", "the tank", "--answer-format", "compact", "--batch-size", 4]
    assert command(first, cut, strip, last, *flags) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith(f"error: 2 of 4 images failed: {cut}, {strip};")
    assert any("b.png cannot be read" in line for line in lines)
    assert any("2000x8 pixels is too narrow" in line for line in lines)
    assert not any("Traceback" in line for line in lines)
    assert sorted(path.name for path in (tmp_path / "out").glob("*.json")) == ["a.json", "d.json"]
    assert command(first, strip, *flags) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"error: {strip}: An image of 2000x8 pixels is too narrow")


@pytest.fixture
def answers(monkeypatch):
    """The model's answer, in place of random text."""
    texts = ["+(250,500) -(900,100)"]
    monkeypatch.setattr(
        local,
        "generate",
        lambda vlm, images, queries, **options: [Generated(texts[0])] * len(queries),
    )
    return texts


def test_mask_overlay_and_record(command, answers, tile, tmp_path):
    path = tile("a.png")
    assert command(path, "--text", "the tank", "--answer-format", "compact") == 0
    record = json.loads((tmp_path / "out/a.json").read_text())
    mask = images.read_gray(tmp_path / "out/a.mask.png")
    assert mask.shape == (40, 60)
    assert record["mask_area"] == (mask > 0).sum()
    assert record["clicks"] == [
        {"x": 14.5, "y": 19.5, "positive": True},
        {"x": 53.5, "y": 3.5, "positive": False},
    ]
    expected = {"image": str(path), "query": "the tank", "status": "ok", "decode": "replay", "adapter": None}
    assert record | expected == record
    assert record["text"] == answers[0]
    overlay = reading.read_image(tmp_path / "out/a.overlay.png")
    assert overlay.shape[1] == 512
    for click, color in zip(record["clicks"], (click_drawing.POSITIVE, click_drawing.NEGATIVE), strict=True):
        x, y = (round((click[axis] + 0.5) * 512 / 60) for axis in "xy")
        patch = overlay[max(0, y - 9) : y + 9, max(0, x - 9) : x + 9].astype(int)
        assert (np.abs(patch - color).max(axis=-1) < 8).any()
    assert (tmp_path / "out/config.yaml").is_file()


def test_sixteen_bits_are_stretched_and_bands_chosen(command, answers, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        local,
        "generate",
        lambda vlm, images, queries, **options: seen.extend(images) or [Generated(answers[0])],
    )
    pixels = np.random.default_rng(0).integers(900, 3000, (5, 40, 60)).astype("uint16")
    with rasterio.open(
        tmp_path / "a.tif", "w", driver="GTiff", count=5, height=40, width=60, dtype="uint16"
    ) as file:
        file.write(pixels)
    flags = ("--text", "the tank", "--answer-format", "compact", "--bands", "4", "--stretch", "minmax")
    assert command(tmp_path / "a.tif", *flags) == 0
    span = pixels[3].max() - pixels[3].min()
    assert np.array_equal(seen[0][..., 0], ((pixels[3] - pixels[3].min()) / span * 255 + 0.5).astype("uint8"))
    record = json.loads((tmp_path / "out/a.json").read_text())
    assert (record["bands"], record["stretch"]) == ([4], [0.0, 100.0])


def test_a_no_target_answer_gives_an_empty_mask(command, answers, tile, tmp_path):
    answers[0] = "none"
    assert command(tile("a.png"), "--text", "the tank", "--answer-format", "compact") == 0
    assert json.loads((tmp_path / "out/a.json").read_text())["status"] == "empty"
    assert not images.read_gray(tmp_path / "out/a.mask.png").any()


def test_end_to_end_on_random_weights(command, tile, tmp_path):
    paths = [tile("a.png"), tile("b.png", (64, 64)), tile("c/a.png", (33, 80))]
    assert command(*paths, "--text", "the tank", "--max-new-tokens", 8, "--batch-size", 2) == 0
    assert sorted(p.name for p in (tmp_path / "out").glob("*.json")) == ["a-2.json", "a.json", "b.json"]
    record = json.loads((tmp_path / "out/a-2.json").read_text())
    assert record["image"] == str(paths[2])
    assert record["size"] == [33, 80]


def test_bad_input_is_one_sentence(command, answers, tile, tmp_path, capsys):
    def error(*words):
        code = command(*words)
        lines = capsys.readouterr().err.strip().splitlines()
        assert "Traceback" not in "".join(lines)
        assert lines[-1].startswith("error: ")
        return code, lines[-1]

    good = tile("good.png")
    assert error(good, "--text", "  ")[0] == 2
    assert error(good) == (
        2,
        "error: Missing --text or --classes; give one on the command line or in --config (see 'geoclick predict "
        "--help').",
    )
    assert error("--text", "a")[1].startswith("error: Missing IMAGES")
    assert error(tmp_path / "none.png", "--text", "a") == (
        1,
        f"error: {tmp_path / 'none.png'} does not exist or is not a file; fix the path.",
    )
    assert error(good, "--text", "a", "--adapter", tmp_path / "no")[0] == 1
    assert error(good, "--text", "a", "--batch-size", 0)[0] == 2
    assert not (tmp_path / "out").exists()

    cut = tile("cut.png")
    cut.write_bytes(cut.read_bytes()[:900])
    code, message = error(good, cut, "--text", "a", "--batch-size", 1)
    assert code == 1
    assert "cut.png cannot be read" in message
    assert json.loads((tmp_path / "out/good.json").read_text())["mask"] == "good.mask.png"
    assert not list((tmp_path / "out").glob("cut*"))


def test_an_adapter_of_another_base_model_is_an_error(command, vlm_folder, tile, tmp_path, capsys):
    from geoclick.vlms import adapter as adapters
    from geoclick.vlms import loading

    other = tiny.qwen3_vl_folder(tmp_path / "other", seed=1)
    record = adapters.AdapterRecord(
        base="the-other",
        revision="",
        family="qwen3_vl",
        fingerprint=loading.fingerprint(other),
        answer_format="compact",
        min_pixels=4096,
        max_pixels=4096,
        targets="x",
    )
    (tmp_path / "adapter").mkdir()
    adapters.write_record(tmp_path / "adapter", record)
    assert command(tile("a.png"), "--text", "a", "--adapter", tmp_path / "adapter") == 1
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert "adapter does not fit" in message
    assert "--vlm the-other" in message
    assert not (tmp_path / "out").exists()


def test_large_images_are_cut_and_the_record_says_so(command, answers, tile, tmp_path, capsys):
    answers[0] = "+(500,500)"
    path, flags = tile("a.png", (40, 60)), ["--text", "building", "--answer-format", "compact"]
    assert command(path, *flags, "--tile", 40, "--overlap", 8) == 0
    record = json.loads((tmp_path / "out/a.json").read_text())
    assert (record["tile"], record["overlap"], record["size"]) == (40, 8, [40, 60])
    assert [click["x"] for click in record["clicks"]] == [19.5, 39.5]
    assert images.read_gray(tmp_path / "out/a.mask.png").shape == (40, 60)
    assert command(path, *flags) == 0
    assert "tile" not in json.loads((tmp_path / "out/a.json").read_text())
    assert command(path, *flags, "--tile", 40) == 2
    assert "--overlap must be below --tile 40, not 128" in capsys.readouterr().err
