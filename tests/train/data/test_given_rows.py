"""Rows that begin with the clicks of a model: these have no loss, padded, packed and augmented."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from geoclick import mask_overlay, masks, store, vlms
from geoclick.clicks import Click
from geoclick.geo.reading import read_image
from geoclick.train.augmentation.augment import KINDS, Augmentation
from geoclick.train.data import rows
from geoclick.train.data.collator import IGNORED, ClickCollator
from geoclick.train.packing import packed_forward
from geoclick.train.packing.packed_collator import PackedCollator
from geoclick.vlms.encoding import process_images
from tests import tiny
from tests.train.packing.test_packed_forward import packed_losses, padded_losses

CLICKS = (Click(15, 15), Click(20, 12), Click(50, 50, False), Click(28, 28))


def write(folder, given):
    """A store whose rows with a target begin with a number of given clicks, of four in two parts."""
    clicks, root = tiny.click_store(folder, rows=6)
    found = [
        replace(row, clicks=CLICKS, ious=(0.3, 0.4, 0.5, 0.6), parts=(3, 1), given=given)
        if row.clicks
        else row
        for row in store.read(clicks)
    ]
    shutil.rmtree(clicks)
    store.write_shard(clicks, 0, 1, found)
    store.write_manifest(clicks, {"rows": 6})
    return clicks, root


@pytest.fixture(scope="module")
def vlm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vlm")
    return vlms.load(str(tiny.qwen3_vl_folder(folder)), device="cpu", dtype=torch.float32)


def build(data, vlm, **options):
    found, left_out = rows.build(*data, vlm, answer_format="compact", max_clicks=6, min_iou=0.0, **options)
    assert not left_out
    return [found[index] for index in range(len(found))]


def taught(vlm, labels):
    return vlm.processor.tokenizer.decode([label for label in labels.flatten().tolist() if label != IGNORED])


@pytest.mark.parametrize("given", [0, 2, 3, 4])
def test_what_is_taught_begins_after_the_given_clicks(vlm, tmp_path, given):
    row = build(write(tmp_path, given), vlm)[0]
    text = vlm.frame((64, 64), "compact").encode((CLICKS[:3], CLICKS[3:]))
    padded = taught(vlm, ClickCollator(vlm.processor)([row])["labels"])
    packed = taught(vlm, PackedCollator(vlm.processor)([[row]])["labels"])
    assert padded == packed
    assert padded.endswith("<|im_end|>")
    assert text.endswith(padded.removesuffix("<|im_end|>"))
    assert padded.count("+(") + padded.count("-(") == 4 - given


def test_losses_are_those_of_what_follows_packed_and_padded(vlm, tmp_path):
    """The loss of a row is that of its complete answer without the given tokens."""
    packed_forward.prepare(vlm.model)
    plain, own = (build(write(tmp_path / str(given), given), vlm)[:3] for given in (0, 2))
    with torch.no_grad():
        padded, packed = padded_losses(vlm, own), packed_losses(vlm, own)
        torch.testing.assert_close(padded, packed, rtol=1e-4, atol=1e-4)
        for row, complete, loss in zip(own, plain, padded, strict=True):
            batch = ClickCollator(vlm.processor)([complete])
            labels = batch["labels"].clone()
            length = len(row["completion_ids"])
            labels[0, : labels.shape[1] - length] = IGNORED
            logits = vlm.model(**{k: v for k, v in batch.items() if k != "labels"}).logits
            direct = torch.nn.functional.cross_entropy(
                logits[0, :-1], labels[0, 1:], ignore_index=IGNORED, reduction="sum"
            )
            torch.testing.assert_close(loss, direct, rtol=1e-4, atol=1e-4)
            assert (
                row["prompt_ids"] + row["completion_ids"]
                == complete["prompt_ids"] + complete["completion_ids"]
            )


def test_augmented_rows_move_with_the_image_only(vlm, tmp_path):
    """Given clicks, and those that correct their mask, are neither moved nor shuffled."""
    raw = build(write(tmp_path, 2), vlm, raw=True)[0]
    assert raw["given"] == 2
    augmentation = Augmentation(vlm.processor, vlm.family, "compact", KINDS, 0.4, 0)
    for epoch in range(12):
        sample = augmentation.draw(raw, epoch)
        assert [len(part) for part in sample.parts] == [3, 1]
        assert sample.clicks == tuple(sample.view.click(click, (64, 64)) for click in CLICKS)
        row = augmentation(raw, epoch)
        text = taught(vlm, ClickCollator(vlm.processor)([row])["labels"])
        assert text.count("label") + text.count("+(") + text.count("-(") == 2


def test_a_shown_mask_is_drawn_on_the_image_when_it_is_read(vlm, tmp_path):
    clicks, root = write(tmp_path, 2)
    mask = np.zeros((64, 64), bool)
    mask[20:50, 5:40] = True
    found = [replace(row, shown=masks.encode_rle(mask)) if row.given else row for row in store.read(clicks)]
    store.write_shard(clicks, 0, 1, found)
    both, _ = rows.build(clicks, root, vlm, answer_format="compact", max_clicks=6, min_iou=0.0)
    assert both.draws_masks
    padded = ClickCollator(vlm.processor)(list(both))
    packed = PackedCollator(vlm.processor)([list(both)])
    pictures = [read_image(root / row.image) for row in found]
    drawn = [
        mask_overlay.draw(picture, mask) if row.shown else picture
        for picture, row in zip(pictures, found, strict=True)
    ]
    expected = process_images(vlm.processor, drawn)["pixel_values"]
    torch.testing.assert_close(padded["pixel_values"], expected, rtol=0, atol=0)
    assert not torch.equal(expected, process_images(vlm.processor, pictures)["pixel_values"])
    # A pack has each picture once: two rows of an image without a mask, or with the same one, share it.
    assert len(packed["image_grid_thw"]) == len({(row.image, row.shown is None) for row in found})
