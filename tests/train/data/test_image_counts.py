"""Rows with no, one and several images: padded and packed they have the loss that each has alone in the model."""

import pytest
import torch

from geoclick import images, vlms
from geoclick.geo.reading import read_image
from geoclick.train.data import cached_features, vision_pass
from geoclick.train.data.collator import ClickCollator, expand_images
from geoclick.train.packing import packed_forward
from geoclick.train.packing.packed_collator import PackedCollator
from geoclick.vlms import encoding
from tests import tiny

LARGE = 96
"""Side of the image of another size."""


@pytest.fixture(scope="module", params=tiny.FOLDERS)
def case(request, tmp_path_factory):
    """A tiny VLM prepared for packing, and six rows: text, one image, two, text, three, one."""
    folder = tmp_path_factory.mktemp(request.param)
    vlm = vlms.load(str(tiny.FOLDERS[request.param](folder / "vlm")), device="cpu", dtype=torch.float32)
    packed_forward.prepare(vlm.model)
    _, root = tiny.click_store(folder, rows=4)
    wide = read_image(root / "train/images/0001.png").repeat(2, axis=1)[:, :LARGE]
    images.write_png(root / "train/images/wide.png", wide)
    paths = [str(root / f"train/images/{name}.png") for name in ("0000", "0001", "wide")]
    sizes = [[64, 64], [64, 64], [64, LARGE]]
    return vlm, [
        row(vlm, shown, paths, sizes, f"turn {number}{'.' * number}")
        for number, shown in enumerate([(), (0,), (2, 0), (), (1, 2, 1), (0,)])
    ]


def row(vlm, shown, paths, sizes, text):
    """A row whose images stand before, between and after words."""
    parts = [part for _ in shown for part in ({"type": "image"}, {"type": "text", "text": text})]
    chat = [
        {"role": "user", "content": [*parts, {"type": "text", "text": "And?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": f"It is {text}"}]},
    ]
    (example,) = encoding.encode_examples(vlm.processor, [chat])
    return {
        "images": [paths[i] for i in shown],
        "size": [side for i in shown for side in sizes[i]],
        **example._asdict(),
    }


def direct_loss(vlm, row):
    """Summed loss of a row by the plain model and processor, without our collators."""
    opened = [read_image(path) for path in row["images"]]
    given = dict(encoding.process_images(vlm.processor, opened)) if opened else {}
    tokens = []
    grids = list(given.get("image_grid_thw", []))
    for token in row["prompt_ids"]:
        count = 1 if token != vlm.processor.image_token_id else int(grids.pop(0).prod()) // 4
        tokens += [token] * count
    answer = row["completion_ids"]
    ids = torch.tensor([tokens + answer])
    kinds = (ids == vlm.processor.image_token_id).long()
    logits = vlm.model(input_ids=ids, mm_token_type_ids=kinds, use_cache=False, **given).logits[0]
    chosen = logits[len(tokens) - 1 : -1]
    return torch.nn.functional.cross_entropy(chosen, torch.tensor(answer), reduction="sum")


def padded_losses(vlm, rows, known=None):
    batch = ClickCollator(vlm.processor, known)(rows)
    labels = batch.pop("labels")[:, 1:]
    logits = vlm.model(**batch, use_cache=False).logits[:, :-1]
    each = torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
    return each.sum(1)


def packed_losses(vlm, rows, known=None):
    batch = PackedCollator(vlm.processor, known)([rows])
    shifted, _ = batch.pop("shift_labels"), batch.pop("labels")
    logits = vlm.model(**batch, use_cache=False).logits[0]
    each = torch.nn.functional.cross_entropy(logits, shifted[0], reduction="none")
    sample = torch.bucketize(batch["logits_to_keep"], batch["cu_seq_lens"][1:], right=True)
    return each.new_zeros(len(rows)).index_add(0, sample, each)


WAYS = {"padded": padded_losses, "packed": packed_losses}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("chosen", [(0, 1, 2, 3, 4, 5), (0, 3), (4, 0), (2,), (3,)], ids=str)
def test_each_row_has_the_loss_that_it_has_alone(case, way, chosen):
    vlm, rows = case
    some = [rows[i] for i in chosen]
    with torch.no_grad():
        expected = torch.stack([direct_loss(vlm, one) for one in some])
        torch.testing.assert_close(WAYS[way](vlm, some), expected, rtol=1e-5, atol=1e-5)
    assert expected.min() > 1


@pytest.mark.parametrize("way", WAYS)
def test_cached_features_give_the_same_losses(case, way):
    vlm, rows = case
    sizes = {
        path: tuple(one["size"][2 * i : 2 * i + 2]) for one in rows for i, path in enumerate(one["images"])
    }
    disabled = torch.autocast("cpu", enabled=False)
    known = cached_features.compute(vlm, sizes, device=torch.device("cpu"), autocast=disabled, limit=2**30)
    with torch.no_grad():
        for some in (rows, [rows[0], rows[3]]):
            found, expected = WAYS[way](vlm, some, known), WAYS[way](vlm, some)
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("chosen", [(0, 3), (0, 1, 2)], ids=["text", "both"])
def test_every_weight_of_the_vision_tower_has_a_gradient_and_nothing_else_changes(case, way, chosen):
    vlm, rows = case
    some = [rows[i] for i in chosen]
    vlm.model.zero_grad(set_to_none=True)
    vlm.model.train()
    expected = WAYS[way](vlm, some)
    expected.sum().backward()
    before = {name: p.grad for name, p in vlm.model.named_parameters()}
    assert any(grad is None for name, grad in before.items() if ".visual." in name) == (chosen == (0, 3))
    hooked = (vlm.model.model, vlm.model.model.language_model)
    hooks = [dict(module._forward_pre_hooks) for module in hooked]
    try:
        vision_pass.prepare(vlm.model, vlm.processor)
        vlm.model.zero_grad(set_to_none=True)
        found = WAYS[way](vlm, some)
        found.sum().backward()
    finally:
        for module, kept in zip(hooked, hooks, strict=True):
            for key in module._forward_pre_hooks.keys() - kept.keys():
                del module._forward_pre_hooks[key]
        vlm.model.eval()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    for name, parameter in vlm.model.named_parameters():
        assert parameter.grad is not None, name
        one = torch.zeros_like(parameter) if before[name] is None else before[name]
        torch.testing.assert_close(parameter.grad, one, rtol=1e-4, atol=1e-5)


def test_each_image_token_is_repeated_by_the_tokens_of_its_image():
    assert expand_images([1, 9, 2, 9, 9, 3], 9, [2, 1, 3]) == [1, 9, 9, 2, 9, 9, 9, 9, 3]
    assert expand_images([1, 2], 9, []) == [1, 2]
