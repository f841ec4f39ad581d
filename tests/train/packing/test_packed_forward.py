import pytest
import torch
from transformers import AttentionInterface
from transformers.integrations import sdpa_attention

from geoclick import vlms
from geoclick.train.data import cached_features, rows
from geoclick.train.data.collator import ClickCollator
from geoclick.train.packing import packed_forward
from geoclick.train.packing.packed_collator import PackedCollator
from geoclick.vlms.families import FAMILIES
from tests import tiny, tiny_families


@pytest.fixture(scope="module", params=tiny_families.PARAMETERS)
def case(request, tmp_path_factory):
    """A prepared tiny VLM, and a pack of five rows over three images: two queries of two of them, apart."""
    folder = tmp_path_factory.mktemp(request.param)
    vlm = vlms.load(
        str(tiny_families.FOLDERS[request.param](folder / "vlm")), device="cpu", dtype=torch.float32
    )
    packed_forward.prepare(vlm.model)
    data = tiny.click_store(folder, rows=6)
    dataset, _ = rows.build(*data, vlm, answer_format="compact", max_clicks=6, min_iou=0.0)
    return vlm, [dataset[i] for i in (0, 3, 1, 4, 2)]


def check_gradients(vlm, found, expected):
    """Equal up to rounding, which is larger in a recurrence over tokens; a leak changes whole gradients."""
    atol = 1e-4 if FAMILIES[vlm.family].recurrent else 1e-5
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=atol)


def gradients(model, loss):
    """Of every weight, those of the vision tower and the projector included."""
    model.zero_grad()
    loss.backward()
    return [p.grad.clone() for p in model.parameters()]


def logits_of(model, batch):
    """The logits that a model gives for a batch, asked without its labels."""
    batch = {key: value for key, value in batch.items() if key not in ("labels", "shift_labels")} | {
        "use_cache": False
    }
    return model(**batch).logits


def padded_losses(vlm, pack):
    """Summed loss of each row, alone in its batch: nothing to pad, nothing to see but itself."""
    losses = []
    for row in pack:
        batch = ClickCollator(vlm.processor)([row])
        labels = batch["labels"][0, 1:]
        kept = labels != -100
        logits = logits_of(vlm.model, batch)[0, :-1][kept]
        losses.append(torch.nn.functional.cross_entropy(logits, labels[kept], reduction="sum"))
    return torch.stack(losses)


def packed_losses(vlm, pack, known=None):
    batch = PackedCollator(vlm.processor, known)([pack])
    logits = logits_of(vlm.model, batch)[0]
    assert len(logits) == batch["shift_labels"].shape[1] == (batch["labels"] != -100).sum()
    each = torch.nn.functional.cross_entropy(logits, batch["shift_labels"][0], reduction="none")
    sample = torch.bucketize(batch["logits_to_keep"], batch["cu_seq_lens"][1:], right=True)
    return each.new_zeros(len(pack)).index_add(0, sample, each)


def test_each_sample_has_the_loss_and_gradient_that_it_has_alone(case):
    vlm, pack = case
    expected, found = padded_losses(vlm, pack), packed_losses(vlm, pack)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert expected.min() > 1
    # One sample's gradient: it would differ if a neighbor were seen, even one whose loss does not count.
    for index in (0, 2):
        one = gradients(vlm.model, padded_losses(vlm, pack)[index])
        two = gradients(vlm.model, packed_losses(vlm, pack)[index])
        check_gradients(vlm, two, one)


def test_a_pack_has_the_loss_and_gradient_of_the_padded_batch(case):
    vlm, pack = case
    one = vlm.model(**ClickCollator(vlm.processor)(pack), use_cache=False).loss
    expected = gradients(vlm.model, one)
    two = vlm.model(**PackedCollator(vlm.processor)([pack])).loss
    torch.testing.assert_close(two, one, rtol=1e-5, atol=1e-5)
    check_gradients(vlm, gradients(vlm.model, two), expected)


def test_the_order_of_a_pack_does_not_matter(case):
    vlm, pack = case
    torch.testing.assert_close(
        packed_losses(vlm, pack[::-1]).flip(0), packed_losses(vlm, pack), rtol=1e-5, atol=1e-5
    )


def test_queries_of_one_image_share_one_pass_of_the_vision_tower(case):
    vlm, pack = case
    seen = []
    hook = vlm.model.model.visual.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["grid_thw"]), with_kwargs=True
    )
    try:
        packed_losses(vlm, pack)
    finally:
        hook.remove()
    assert [len(grids) for grids in seen] == [len({row["images"][0] for row in pack})] == [3]


def test_known_features_give_the_same_and_leave_the_tower_alone(case):
    vlm, pack = case
    expected = packed_losses(vlm, pack)
    known = cached_features.compute(
        vlm,
        {row["images"][0]: tuple(row["size"]) for row in pack},
        device=torch.device("cpu"),
        autocast=torch.autocast("cpu", enabled=False),
        limit=2**30,
    )

    def refuse(*args):
        raise AssertionError("the vision tower ran")

    hook = vlm.model.model.visual.register_forward_pre_hook(refuse)
    try:
        found = packed_losses(vlm, pack, known)
    finally:
        hook.remove()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("implementation", ["sdpa", "eager", "flash_stand_in"])
def test_every_kind_of_attention_keeps_samples_apart(case, implementation, monkeypatch):
    """Against attention by sample. For flash attention stands one that reads the bounds of samples as it does."""
    vlm, pack = case
    assert vlm.model.model.language_model.config._attn_implementation == packed_forward.BY_SAMPLE
    expected = packed_losses(vlm, pack).detach()
    calls = []

    def flash_stand_in(module, query, key, value, attention_mask, **kwargs):
        assert attention_mask is None
        bounds = kwargs["cu_seq_lens_q"]
        assert torch.equal(bounds, kwargs["cu_seq_lens_k"])
        lengths = bounds.diff().tolist()
        assert kwargs["max_length_q"] == kwargs["max_length_k"] == max(lengths)
        calls.append(lengths)
        parts = zip(*(tensor.split(lengths, dim=2) for tensor in (query, key, value)), strict=True)
        done = [
            sdpa_attention.sdpa_attention_forward(
                module, *part, None, scaling=kwargs["scaling"], is_causal=True
            )
            for part in parts
        ]
        return torch.cat([output for output, _ in done], dim=1), None

    config = vlm.model.model.language_model.config
    before = config._attn_implementation
    if implementation == "flash_stand_in":
        AttentionInterface.register("flash_stand_in", flash_stand_in)
    config._attn_implementation = implementation
    try:
        found = packed_losses(vlm, pack)
    finally:
        config._attn_implementation = before
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    attention = sum(name.endswith(".self_attn") for name, _ in vlm.model.model.language_model.named_modules())
    assert len(calls) == (attention if implementation == "flash_stand_in" else 0)
