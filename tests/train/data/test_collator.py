from contextlib import nullcontext

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data._utils.pin_memory import pin_memory
from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

from geoclick import images, vlms
from geoclick.train.data import cached_features, rows
from geoclick.train.data.collator import ClickCollator
from geoclick.train.packing.packed_collator import PackedCollator
from tests import tiny
from tests.train.texts import with_texts


@pytest.fixture(scope="module", params=tiny.FOLDERS)
def case(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    vlm = vlms.load(str(tiny.FOLDERS[request.param](folder / "vlm")), device="cpu")
    data = tiny.click_store(folder, rows=6)
    dataset, _ = rows.build(*data, vlm, answer_format="compact", max_clicks=6, min_iou=0.0)
    return vlm, [dataset[i] for i in (0, 1, 4, 3)]


def compute(vlm, batch, limit=2**30):
    sizes = {row["images"][0]: tuple(row["size"]) for row in batch}
    return cached_features.compute(
        vlm, sizes, device=torch.device("cpu"), autocast=nullcontext(), limit=limit
    )


def test_the_batch_is_the_one_that_trl_makes(case):
    vlm, batch = case
    opened = [with_texts(vlm, row) | {"images": [Image.open(row["images"][0])]} for row in batch]
    expected = DataCollatorForVisionLanguageModeling(vlm.processor, completion_only_loss=True)(opened)
    found = ClickCollator(vlm.processor)(batch)
    assert set(found) == set(expected)
    for key in found:
        assert torch.equal(found[key], expected[key]), key


@pytest.mark.parametrize("packed", [False, True])
def test_a_batch_with_features_goes_to_pinned_memory(case, monkeypatch, packed):
    vlm, batch = case
    features = compute(vlm, batch)
    made = (
        PackedCollator(vlm.processor, features)([batch])
        if packed
        else ClickCollator(vlm.processor, features)(batch)
    )
    copied = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: copied.append(1) or tensor.clone())
    pinned = pin_memory(made)
    assert pinned.keys() == made.keys()
    before, after = (outputs["mm_encoder_outputs"]["image"] for outputs in (made, pinned))
    assert type(after) is type(before)
    assert len(after.pooler_output) == len(before.pooler_output)
    for a, b in zip(after.pooler_output, before.pooler_output, strict=True):
        assert torch.equal(a, b)
        assert a is not b
    tensors = sum(isinstance(value, torch.Tensor) for value in made.values())
    in_features = sum(
        len(part) if name == "pooler_output" else sum(map(len, part)) for name, part in before.items()
    )
    assert len(copied) == tensors + in_features


def test_the_length_of_a_batch_is_a_multiple(case):
    vlm, batch = case
    plain, padded = ClickCollator(vlm.processor)(batch), ClickCollator(vlm.processor, multiple=50)(batch)
    length = plain["input_ids"].shape[1]
    assert length % 50
    assert padded["input_ids"].shape[1] == length + -length % 50
    for name, fill in {"input_ids": vlm.processor.tokenizer.pad_token_id, "labels": -100}.items():
        assert torch.equal(padded[name][:, :length], plain[name])
        assert (padded[name][:, length:] == fill).all()
    assert torch.equal(padded["attention_mask"].sum(1), plain["attention_mask"].sum(1))


def test_labels_are_the_answer_and_nothing_else(case):
    vlm, batch = case
    found = ClickCollator(vlm.processor)(batch)
    for row, labels, ids in zip(batch, found["labels"], found["input_ids"], strict=True):
        kept = labels != -100
        assert vlm.processor.tokenizer.decode(labels[kept]) == with_texts(vlm, row)["completion"]
        assert torch.equal(ids[kept], labels[kept])


def test_features_give_the_loss_and_gradient_of_pixels(case):
    vlm, batch = case
    known = compute(vlm, batch)
    assert len(known) == len({row["images"][0] for row in batch})
    results = []
    for collator in (ClickCollator(vlm.processor), ClickCollator(vlm.processor, known)):
        vlm.model.zero_grad()
        loss = vlm.model(**collator(batch), use_cache=False).loss
        loss.backward()
        results.append((loss.detach(), vlm.model.lm_head.weight.grad.clone()))
    torch.testing.assert_close(results[0], results[1])


def test_features_that_do_not_fit_are_not_cached(case):
    vlm, batch = case
    size = sum(f.nbytes for f in compute(vlm, batch).values())
    assert compute(vlm, batch, limit=size) is not None
    assert compute(vlm, batch, limit=size - 1) is None
    assert compute(vlm, batch, limit=0) is None


@pytest.mark.parametrize("way", ["padded", "packed", "features"])
def test_an_image_of_three_rows_of_pixels_is_read_as_three_rows(case, tmp_path, way):
    """A processor that guesses the order of the axes takes them for three channels."""
    vlm, batch = case
    pixels = np.random.default_rng(0).integers(0, 255, (3, 90, 3), dtype=np.uint8)
    images.write_png(tmp_path / "strip.png", pixels)
    row = dict(batch[0]) | {"images": [str(tmp_path / "strip.png")], "size": [3, 90]}
    expected = vlm.processor.image_processor(images=[Image.fromarray(pixels)], return_tensors="pt")
    if way == "features":
        [feature] = compute(vlm, [row]).values()
        assert torch.equal(feature.grid, expected["image_grid_thw"][0])
        return
    found = ClickCollator(vlm.processor)([row]) if way == "padded" else PackedCollator(vlm.processor)([[row]])
    for name, value in expected.items():
        assert torch.equal(found[name], value)
