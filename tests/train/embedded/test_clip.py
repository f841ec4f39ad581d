"""The training run of the embedded CLIP resumes, and the shipped model loads with transformers alone and works."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoProcessor, CLIPModel

from geoclick import embedded
from geoclick.scenes import generate, render
from geoclick.scenes.queries import observe
from geoclick.train.embedded import clip
from geoclick.train.embedded.clip_batches import ClipBatches, tokenize
from geoclick.train.embedded.clip_dense_scores import dense_scores
from geoclick.train.embedded.clip_evaluation import evaluate, held_out_views
from geoclick.train.embedded.clip_options import EmbeddedClipOptions
from geoclick.train.embedded.clip_processor import CONTEXT, UNKNOWN, build_processor
from geoclick.train.embedded.clip_trainer import ClipTrainer
from geoclick.train.embedded.clip_views import Scenes
from geoclick.train.embedded.clip_words import CATEGORY_INDEX
from geoclick.train.embedded.scene_cache import SceneCache, VisibleObject


def scenes(count, seed):
    """A few scenes in memory."""
    layouts = [generate((seed, 2, i), 2) for i in range(count)]
    images, ids = zip(*map(render, layouts), strict=True)
    objects = tuple(
        tuple(VisibleObject(fact, (0, 0)) for fact in observe(layout, one))
        for layout, one in zip(layouts, ids, strict=True)
    )
    cache = SceneCache(np.stack(images), np.stack(ids).astype(np.uint8), objects)
    return Scenes(cache, [CATEGORY_INDEX[layout.ground, ""] for layout in layouts])


@pytest.fixture(scope="module")
def processor():
    return build_processor()


def test_resumed_equals_uninterrupted(tmp_path, processor):
    torch.set_num_threads(1)
    options = EmbeddedClipOptions(output=str(tmp_path), steps=4, views=4)
    batches = ClipBatches(scenes(2, seed=1), processor.tokenizer, steps=4, views=4, seed=0)
    uninterrupted = ClipTrainer(options, processor)
    uninterrupted.train_step(batches[0])
    uninterrupted.save()
    expected = [uninterrupted.train_step(batches[step]) for step in (1, 2)]

    resumed = ClipTrainer(options, processor)
    assert resumed.step == 1
    results = [resumed.train_step(batches[step]) for step in (1, 2)]
    for mine, theirs in zip(results, expected, strict=True):
        assert {name: loss.item() for name, loss in mine.items()} == {
            name: loss.item() for name, loss in theirs.items()
        }
    for mine, theirs in zip(resumed.model.parameters(), uninterrupted.model.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_a_step_has_the_same_batch_every_time(processor):
    both = [
        ClipBatches(scenes(2, seed=1), processor.tokenizer, steps=9, views=4, seed=3)[5] for _ in range(2)
    ]
    assert all(torch.equal(both[0][name], both[1][name]) for name in both[0])
    batch = both[0]
    views = len(batch["pixel_values"])
    assert batch["possible"].shape == (2 * views, views)
    assert batch["possible"][:views].diagonal().all()
    assert not batch["possible"][views:].diagonal().any()
    torch.testing.assert_close(batch["region_weights"].sum(1), torch.ones(len(batch["region_weights"])))
    assert (batch["truth"] > 0).any(1).all()


def test_unknown_words_are_one_token_and_long_texts_are_cut(processor):
    tokenizer = processor.tokenizer
    ids = tokenize(tokenizer, ["a Zebra, two", "tree " * 40])
    assert ids.shape == (2, CONTEXT)
    assert ids[0, :6].tolist() == tokenizer.convert_tokens_to_ids(
        ["<|startoftext|>", "a", UNKNOWN, ",", "two", "<|endoftext|>"]
    )
    assert ids[1, -1] == tokenizer.eos_token_id


@pytest.mark.slow
def test_the_command_resumes_to_the_weights_of_an_uninterrupted_run(tmp_path, monkeypatch):
    arguments = ["--cache", str(tmp_path / "cache"), "--scenes", "4", "--steps", "4", "--views", "4"]
    arguments += ["--save-every", "2", "--evaluate-every", "2"]
    monkeypatch.setattr(clip, "HELD_OUT_SCENES", 4)
    monkeypatch.setattr(clip, "HELD_OUT_VIEWS", 40)
    monkeypatch.setattr(clip, "DENSE_IMAGES", 1)
    assert clip.main([*arguments, "--output", str(tmp_path / "uninterrupted")]) == 0
    save = ClipTrainer.save

    def save_and_stop(trainer):
        save(trainer)
        raise KeyboardInterrupt

    monkeypatch.setattr(ClipTrainer, "save", save_and_stop)
    assert clip.main([*arguments, "--output", str(tmp_path / "stopped")]) != 0
    monkeypatch.setattr(ClipTrainer, "save", save)
    assert clip.main([*arguments, "--output", str(tmp_path / "stopped")]) == 0
    expected, resumed = (
        load_file(tmp_path / name / "model" / "model.safetensors") for name in ("uninterrupted", "stopped")
    )
    assert all(torch.equal(expected[name], resumed[name]) for name in expected)
    rows = [json.loads(line) for line in (tmp_path / "stopped" / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [4]
    assert "4 steps" in (tmp_path / "stopped" / "model" / "README.md").read_text()


def test_the_shipped_model_loads_with_transformers_and_is_small(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = embedded.folder("clip")
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 4e6
    model, processor = CLIPModel.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    image = np.zeros((256, 256, 3), np.uint8)
    inputs = processor(text=["a photo of a tree", "water"], images=[image], return_tensors="pt", padding=True)
    assert model.float()(**inputs).logits_per_image.shape == (1, 2)
    assert (folder / "README.md").read_text().startswith("# The embedded CLIP")


def test_the_shipped_model_tells_true_captions_from_wrong_ones():
    """Bounds well below the figures of the model card, which come from other scenes."""
    folder = embedded.folder("clip")
    model = CLIPModel.from_pretrained(folder).float().eval()
    held_out = held_out_views(scenes(12, seed=9000), 60, seed=1)
    scores = evaluate(model, AutoProcessor.from_pretrained(folder).tokenizer, held_out)
    assert scores["kind"] > 0.8
    assert scores["color"] > 0.7
    assert scores["caption"] > 0.5
    assert scores["region"] > 0.75


@pytest.mark.slow  # tests/inference/contrastive/test_pipeline.py has one image
def test_the_shipped_model_labels_pixels():
    scores = dense_scores(embedded.folder("clip"), 4, ("clip", "maskclip", "clearclip", "segearth-ov"))
    assert min(scores["maskclip"], scores["clearclip"], scores["segearth-ov"]) > max(0.35, scores["clip"])
