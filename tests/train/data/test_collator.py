from contextlib import nullcontext

import pytest
import torch
from PIL import Image
from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

from geoclick import vlms
from geoclick.train.data import rows, vision_features
from geoclick.train.data.collator import ClickCollator
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
    return vision_features.compute(
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
