"""Maps of classes by a tiny random SAM 3: as a plain loop over the prompts with transformers' own post-processing."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional

from geoclick.devices import BatchSize
from geoclick.errors import GeoClickError, UsageError
from geoclick.inference.contrastive import classes, sam3
from tests import tiny_clips, tiny_sam3

CLASSES = classes.parse("background; building, big roof; x; water: blue")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_sam3.folder(tmp_path_factory.mktemp("sam3") / "model")


@pytest.fixture(scope="module")
def loaded(folder):
    return sam3.load(str(folder), "cpu")


@pytest.fixture(scope="module")
def image():
    """Uint8 [45, 70, 3] with structure of several sizes."""
    small = torch.rand(1, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    large = functional.interpolate(small, size=(45, 70), mode="bicubic")[0].clamp(0, 1)
    noise = np.random.default_rng(0).integers(-20, 20, (45, 70, 3))
    return np.clip((255 * large).permute(1, 2, 0).numpy() + noise, 0, 255).astype(np.uint8)


def plain_scores(image, names):
    """The score of each prompt [Q, H, W]: the complete model once for each, and transformers' post-processing."""
    model, processor, size = tiny_sam3.model(), tiny_sam3.processor(), image.shape[:2]
    instances, scores = 0, []
    for name in names:
        inputs = processor(images=image, text=name, return_tensors="pt")
        outputs = model(**inputs)
        semantic = processor.image_processor.post_process_semantic_segmentation(
            outputs, target_sizes=[size], return_segmentation_scores=True
        )[0]["segmentation_scores"][0]
        kept = processor.post_process_instance_segmentation(outputs, threshold=0.5, target_sizes=[size])[0]
        presence = torch.sigmoid(outputs.presence_logits[0, 0])
        own = [n for n in range(12) if torch.sigmoid(outputs.pred_logits[0, n]) * presence > 0.5]
        assert len(own) == len(kept["scores"])
        best = semantic
        for number, score, binary in zip(own, kept["scores"], kept["masks"], strict=True):
            mask = torch.sigmoid(outputs.pred_masks[:, number : number + 1])
            mask = functional.interpolate(mask, size=size, mode="bilinear")[0, 0]
            assert torch.equal((mask > 0.5).long(), binary)
            best = torch.where(mask * score > best, mask * score, best)
        instances += len(own)
        scores.append(best * presence)
    return torch.stack(scores).numpy(), instances


@pytest.fixture(scope="module")
def expected(image):
    """The score of each class [C, H, W], the synonyms of the second by their maximum."""
    scores, instances = plain_scores(image, ["background", "building", "big roof", "x", "water"])
    assert 0 < instances < 5 * 12
    return np.stack([scores[0], np.maximum(scores[1], scores[2]), scores[3], scores[4]])


def test_the_scores_are_those_of_a_plain_loop(loaded, image, expected):
    scores = loaded.scores(image, CLASSES)
    assert scores.dtype == torch.float32
    np.testing.assert_allclose(scores.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("quantile", [0, 0.5])
def test_the_map_takes_the_highest_score_and_background_below_the_threshold(
    loaded, image, expected, quantile
):
    best, chosen = expected.max(0), expected.argmax(0)
    assert len(np.unique(chosen)) > 2
    threshold = float(np.quantile(best, quantile)) if quantile else 0.0
    labels, confidence = loaded.label_map(image, CLASSES, threshold)
    assert (labels.dtype, confidence.dtype) == (np.int32, np.float32)
    chosen = np.where(best < threshold, 0, chosen)
    order = np.sort(expected, axis=0)
    clear = (np.abs(best - threshold) > 1e-4) & (order[-1] - order[-2] > 1e-4)
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(labels[clear], chosen[clear])
    chosen_scores = np.take_along_axis(expected, chosen[None], 0)[0]
    np.testing.assert_allclose(confidence[clear], chosen_scores[clear], atol=1e-5)


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_batches_of_prompts_are_prompts_one_by_one(loaded, image, expected, batch, monkeypatch):
    monkeypatch.setattr(sam3, "_batch", lambda device: BatchSize(batch, "prompts"))
    np.testing.assert_allclose(loaded.scores(image, CLASSES).numpy(), expected, atol=1e-5)


def test_the_image_is_encoded_once_and_the_text_once_for_all_images(folder, image, monkeypatch):
    own = sam3.load(str(folder), "cpu")
    calls = []
    for name in ("get_vision_features", "get_text_features"):
        original = getattr(own.model, name)
        monkeypatch.setattr(
            own.model, name, lambda *a, o=original, n=name, **k: calls.append(n) or o(*a, **k)
        )
    first = own.label_map(image, CLASSES)
    second = own.label_map(image, CLASSES)
    assert sorted(calls) == ["get_text_features", "get_vision_features", "get_vision_features"]
    np.testing.assert_array_equal(first[0], second[0])


def test_tiles_of_a_large_image_are_images_of_their_own(loaded, image):
    wide = np.ascontiguousarray(image[:35])
    parts = [loaded.scores(np.ascontiguousarray(wide[:, n : n + 35]), CLASSES).numpy() for n in (0, 35)]
    labels, confidence = loaded.label_map(wide, CLASSES, tile=35, overlap=0)
    np.testing.assert_array_equal(labels, np.concatenate(parts, axis=2).argmax(0))
    np.testing.assert_allclose(confidence, np.concatenate(parts, axis=2).max(0), atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (3, 20), (20, 3)])
def test_small_images_are_rows_by_columns_by_channels(loaded, size):
    values = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    labels, _ = loaded.label_map(values, CLASSES)
    assert labels.shape == size
    picture = torch.from_numpy(values).permute(2, 0, 1)
    inputs = tiny_sam3.processor()(
        images=picture, text="x", return_tensors="pt", input_data_format="channels_first"
    )
    outputs = tiny_sam3.model()(**inputs)
    expected = next(sam3.query_scores(outputs, size)).numpy()
    np.testing.assert_allclose(loaded.scores(values, CLASSES)[2].numpy(), expected, atol=1e-5)


def test_half_precision_gives_about_the_same_scores(folder, image, expected):
    half = sam3.load(str(folder), "cpu", torch.bfloat16)
    assert half.model.dtype == torch.bfloat16
    assert np.abs(half.scores(image, CLASSES).numpy() - expected).mean() < 0.05


def test_wrong_arguments_are_one_sentence(loaded, image):
    with pytest.raises(UsageError, match="threshold must be from 0 to 1, not 2"):
        loaded.label_map(image, CLASSES, 2)
    with pytest.raises(UsageError, match="`background`, which the class list lacks"):
        loaded.label_map(image, classes.parse("a; b"), 0.5)
    name = "a very long name of a class of buildings"
    with pytest.raises(UsageError, match=f"'{name}' has 42 tokens, but a prompt of SAM 3 has 32"):
        loaded.label_map(image, classes.parse(f"road; {name}"))


def test_memory_of_the_gpu_that_is_too_small_is_one_sentence(loaded, image, monkeypatch):
    monkeypatch.setattr(sam3, "_batch", lambda device: BatchSize(4, "prompts of SAM 3"))
    monkeypatch.setattr(sam3.Sam3, "_outputs", lambda *arguments: _out_of_memory())
    with pytest.raises(
        GeoClickError, match="too small for one of the prompts of SAM 3; use a smaller"
    ) as error:
        loaded.label_map(image, CLASSES)
    assert "\n" not in str(error.value)


def _out_of_memory():
    raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2 GiB")


def test_the_layout_in_which_the_model_is_published_is_loaded(folder, loaded, tmp_path):
    """Its config is that of a model for videos, and its weights are next to those of the tracker."""
    published = tmp_path / "published"
    shutil.copytree(folder, published)
    content = json.loads((folder / "config.json").read_text())
    (published / "config.json").write_text(
        json.dumps({"model_type": "sam3_video", "detector_config": content})
    )
    weights = {
        f"detector_model.{key}": value for key, value in load_file(folder / "model.safetensors").items()
    }
    weights |= {"tracker_model.x": torch.zeros(1), "tracker_neck.x": torch.zeros(1)}
    save_file(weights, published / "model.safetensors", metadata={"format": "pt"})
    own = sam3.load(str(published), "cpu")
    for key, value in loaded.model.state_dict().items():
        assert torch.equal(own.model.state_dict()[key], value)
    assert own.sha256 != loaded.sha256


def test_folders_of_other_models_and_broken_ones_are_one_sentence(folder, tmp_path):
    other = tiny_clips.folder(tmp_path / "clip", tiny_clips.clip())
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    path = copy / "config.json"
    content = json.loads(path.read_text())

    def message(name):
        with pytest.raises(GeoClickError) as error:
            sam3.load(str(name), "cpu")
        assert "\n" not in str(error.value)
        return str(error.value)

    assert message(other) == (
        f"{other} holds a model of type clip, not a SAM 3; give an existing folder, or a hub id such as facebook/sam3."
    )
    assert "does not exist; give an existing folder, or a hub id" in message(tmp_path / "none")
    content["detr_decoder_config"]["num_queries"] = 9
    path.write_text(json.dumps(content))
    assert "The SAM 3 in" in message(copy) or "do not match its config.json" in message(copy)
    shutil.copy(folder / "config.json", path)
    whole = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    assert "cannot be loaded" in message(copy)
    weights = load_file(folder / "model.safetensors")
    weights.pop("text_projection.bias")
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    assert "1 weights" in message(copy)
    (copy / "model.safetensors").unlink()
    torch.save(weights, copy / "pytorch_model.bin")
    assert "holds no .safetensors weights" in message(copy)
    shutil.copy(folder / "model.safetensors", copy)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (copy / name).unlink()
    assert "The processor in" in message(copy)


def test_code_in_a_folder_is_not_run(folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / "evil.py").write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')\nclass Model: pass\n")
    for name in ("config.json", "processor_config.json", "tokenizer_config.json"):
        content = json.loads((copy / name).read_text())
        keys = ("AutoModel", "AutoConfig", "AutoProcessor", "AutoImageProcessor", "AutoTokenizer")
        content["auto_map"] = dict.fromkeys(keys, "evil.Model") | {"AutoTokenizer": ["evil.Model", None]}
        (copy / name).write_text(json.dumps(content))
    assert sam3.load(str(copy), "cpu").name == str(copy)
    assert not (tmp_path / "sprung").exists()
