"""The Python interface: `load`, `predict` and `predict_batch`."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from geoclick import images
from geoclick.clicks import Click
from geoclick.errors import GeoClickError
from geoclick.geo.reading import PixelOptions
from geoclick.inference import pipeline as pipelines
from geoclick.inference import predict
from geoclick.inference.backends import local
from geoclick.inference.generative.settings import Generation
from geoclick.scenes.drawing import sample_scene
from geoclick.vlms import encoding
from geoclick.vlms.adapter import AdapterRecord
from geoclick.vlms.generation.answers import MAX_NEW_TOKENS, Generated

ANSWERS = {"the tank": "+(250,500) -(900,100)", "the road": "+(500,500)"}


@pytest.fixture
def tiny_pipeline(tiny_segmenter, vlm_folder, monkeypatch):
    """The tiny models, with an answer of ANSWERS by query."""
    monkeypatch.setattr(
        local,
        "generate",
        lambda vlm, images, queries, **options: [Generated(ANSWERS.get(q, "none")) for q in queries],
    )
    return pipelines.load(str(vlm_folder), device="cpu", generation=Generation(answer_format="compact"))


@pytest.fixture
def tile():
    return np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


def test_three_lines_give_the_mask_that_the_command_writes(tmp_path):
    image, _, queries = sample_scene(0, "test", 7, ["referring"])
    text, path = queries[0].text, tmp_path / "tile.png"
    images.write_png(path, image)

    from geoclick.inference.pipeline import load

    pipeline = load()
    prediction = pipeline.predict(path, text)

    words = [str(path), "--text", text, "--output", str(tmp_path / "out")]
    assert predict.main(words) == 0
    record = json.loads((tmp_path / "out/tile.json").read_text())
    mask = images.read_gray(tmp_path / "out/tile.mask.png") > 0
    assert prediction.mask.any()
    assert prediction.mask.dtype == bool
    np.testing.assert_array_equal(prediction.mask, mask)
    assert prediction.text == record["text"]
    assert [click._asdict() for click in prediction.clicks] == record["clicks"]
    assert 0 < prediction.score <= 1.1


@pytest.mark.parametrize("decode", ["replay", "joint"])
def test_a_batch_equals_one_by_one_and_embeds_an_image_once(tiny_pipeline, tile, decode, monkeypatch):
    pipeline = pipelines.Pipeline(
        tiny_pipeline.vlm, tiny_pipeline.segmenter, tiny_pipeline.generation, decode
    )
    texts = ["the tank", "nothing", "the road"]
    alone = [pipeline.predict(tile, text) for text in texts]
    embedded = []
    embed = pipeline.segmenter.embed
    monkeypatch.setattr(
        pipeline.segmenter, "embed", lambda given: embedded.append(len(given)) or embed(given)
    )
    together = pipeline.predict_batch([tile] * 3, texts)
    assert embedded == [1]
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one.mask, other.mask)
        assert (one.clicks, one.text, one.status) == (other.clicks, other.text, other.status)
        assert one.score == pytest.approx(other.score, abs=1e-5)
    assert alone[0].clicks == (Click(14.5, 19.5), Click(53.5, 3.5, False))
    assert (alone[1].score, alone[1].status, alone[1].mask.any()) == (None, "empty", False)


def test_several_texts_of_one_image_encode_it_once(tiny_segmenter, vlm_folder, tile, tmp_path, monkeypatch):
    """The file is read once, and vision tower and segmenter see one image."""
    images.write_png(tmp_path / "a.png", tile)
    pipeline = pipelines.load(
        str(vlm_folder), device="cpu", generation=Generation(answer_format="compact", max_new_tokens=6)
    )
    counts = Counter()
    vision, embed, read = pipeline.vlm.model.model.visual, tiny_segmenter.embed, pipelines.read_image
    see = vision.forward

    def saw(pixels, *args, **options):
        counts["patches"] += len(pixels)
        return see(pixels, *args, **options)

    monkeypatch.setattr(vision, "forward", saw)
    monkeypatch.setattr(
        local.Local, "read", lambda backend, text, size: backend.vlm.frame(size, "compact").decode("+(9,9)")
    )
    monkeypatch.setattr(
        tiny_segmenter, "embed", lambda given: counts.update(embedded=len(given)) or embed(given)
    )
    monkeypatch.setattr(pipelines, "read_image", lambda path: counts.update(read=1) or read(path))
    texts = ["the tank", "the road", "a field"]
    results = pipeline.predict(str(tmp_path / "a.png"), texts)
    patches = len(encoding.process_images(pipeline.vlm.processor, [tile])["pixel_values"])
    assert counts == {"patches": patches, "embedded": 1, "read": 1}
    assert [result.query for result in results] == texts
    assert all(0 < result.probability <= 1 and result.mask.shape == (40, 60) for result in results)
    alone = [pipeline.predict(tmp_path / "a.png", text) for text in texts]
    assert [result.text for result in results] == [result.text for result in alone]
    assert [result.probability for result in results] == pytest.approx([one.probability for one in alone])
    assert counts["read"] == 4
    assert results[0].source == tmp_path / "a.png"
    assert pipeline.predict(tile, []) == []


def test_paths_that_are_equal_are_one_image(tiny_pipeline, tile, tmp_path, monkeypatch):
    images.write_png(tmp_path / "a.png", tile)
    paths = [tmp_path / "a.png", str(tmp_path / "a.png"), str(tmp_path) + "/a.png"]
    read = []
    monkeypatch.setattr(pipelines, "read_image", lambda path: read.append(path) or tile)
    first, *others = tiny_pipeline.predict_batch(paths, ["the tank", "nothing", "the road"])
    assert len(read) == 1
    assert first.source == tmp_path / "a.png"
    assert all(other.image is first.image for other in others)


def test_path_pil_image_and_array_give_the_same_mask(tiny_pipeline, tile, tmp_path):
    images.write_png(tmp_path / "a.png", tile)
    sources = [tile, Image.fromarray(tile), tmp_path / "a.png", str(tmp_path / "a.png")]
    masks = [tiny_pipeline.predict(source, "the tank").mask for source in sources]
    assert masks[0].any()
    for mask in masks[1:]:
        np.testing.assert_array_equal(mask, masks[0])


def test_wrong_arguments_are_one_sentence(tiny_pipeline, tile, tmp_path):
    for image in (tile[..., 0], tile.astype(float), tile[..., :2]):
        with pytest.raises(GeoClickError, match=r"uint8 \[H, W, 3\]"):
            tiny_pipeline.predict(image, "the tank")
    with pytest.raises(GeoClickError, match="2 images do not match 1 texts"):
        tiny_pipeline.predict_batch([tile, tile], ["the tank"])
    with pytest.raises(GeoClickError, match="does not exist"):
        tiny_pipeline.predict(tmp_path / "none.png", "the tank")


def test_a_very_narrow_image_is_an_error_and_does_not_lose_its_batch(tiny_pipeline, tile):
    strip = np.zeros((2000, 8, 3), np.uint8)
    with pytest.raises(GeoClickError, match="8x2000 pixels is too narrow"):
        tiny_pipeline.predict(strip, "the tank")
    narrow, other = tiny_pipeline.predict_batch([strip, tile], ["the tank"] * 2)
    assert (narrow.status, narrow.mask.shape, narrow.mask.any()) == ("failed", (2000, 8), False)
    assert "too narrow" in narrow.error
    np.testing.assert_array_equal(other.mask, tiny_pipeline.predict(tile, "the tank").mask)


@pytest.mark.parametrize("size", [(3, 60), (3, 3), (60, 3), (1, 60)])
def test_small_images_are_not_transposed(tiny_pipeline, size):
    """Libraries that guess the order of the axes take a first axis of three for channels."""
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    inputs = encoding.model_inputs(tiny_pipeline.vlm, [image], ["x"], answer_format="compact")
    turned = encoding.model_inputs(
        tiny_pipeline.vlm, [image.transpose(1, 0, 2)], ["x"], answer_format="compact"
    )
    _, height, width = inputs["image_grid_thw"][0].tolist()
    assert turned["image_grid_thw"][0].tolist() == [1, width, height]
    assert (height > width) == (size[0] > size[1])
    assert tiny_pipeline.predict(image, "the tank").mask.shape == size


def test_defaults_come_from_the_model(tiny_segmenter, vlm_folder):
    generation = pipelines.load(str(vlm_folder), device="cpu").generation
    assert generation == Generation(answer_format="json", max_new_tokens=MAX_NEW_TOKENS["json"])


@pytest.mark.parametrize(
    ("recorded", "given", "warned"),
    [
        ({"bands": [4, 3, 2], "stretch": [2, 98]}, PixelOptions(), True),
        ({"bands": [4, 3, 2], "stretch": [2, 98]}, PixelOptions((4, 3, 2)), False),
        ({"bands": [], "stretch": []}, PixelOptions(), True),
        ({"bands": [], "stretch": [2.0, 98.0]}, PixelOptions(), False),
        ({}, PixelOptions((1,)), False),
    ],
)
def test_another_rule_than_that_of_the_adapter_is_one_line(tiny_pipeline, recorded, given, warned, capsys):
    record = AdapterRecord(
        **dict.fromkeys(("base", "revision", "family", "fingerprint", "targets"), ""),
        **{"answer_format": "compact", "min_pixels": 1, "max_pixels": 2, "pixels": recorded},
    )
    pipelines.warn_of_untrained(replace(tiny_pipeline, vlm=replace(tiny_pipeline.vlm, record=record)), given)
    assert ("was trained on images shown with " in capsys.readouterr().out) == warned
    pipelines.warn_of_untrained(tiny_pipeline, given)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("shown", [True, False, None])
@pytest.mark.parametrize("rounds", [1, 2])
def test_rounds_with_an_adapter_that_never_saw_a_mask_are_one_line(tiny_pipeline, shown, rounds, capsys):
    record = AdapterRecord(
        **dict.fromkeys(("base", "revision", "family", "fingerprint", "targets"), ""),
        **{"answer_format": "compact", "min_pixels": 1, "max_pixels": 2, "shown_masks": shown},
    )
    generation = replace(tiny_pipeline.generation, rounds=rounds)
    for vlm, warned in (
        (replace(tiny_pipeline.vlm, record=record), rounds > 1 and shown is False),
        (tiny_pipeline.vlm, rounds > 1),
    ):
        pipelines.warn_of_untrained(replace(tiny_pipeline, vlm=vlm, generation=generation), PixelOptions())
        assert capsys.readouterr().out.count("--show-masks") == warned
