import pytest
import torch

from geoclick import datasets, vlms
from geoclick.train.reinforcement.epoch_samples import EpochSamples
from geoclick.train.reinforcement.grpo_prompts import GrpoPrompts
from geoclick.train.reinforcement.shared_prompts import first_of_each, separate, share
from geoclick.vlms.families import FAMILIES
from tests import tiny_families
from tests.train.samples import listed

COMPLETION = 7
OWNERS = [2, 0, 2, 1, 0, 2]


@pytest.fixture(scope="module", params=tiny_families.PARAMETERS)
def setting(request, tmp_path_factory):
    """A model, prompts of several lengths, and padded sequences of OWNERS, with their masks."""
    vlm = vlms.load(str(tiny_families.FOLDERS[request.param](tmp_path_factory.mktemp("vlm"))), device="cpu")
    root = listed(tmp_path_factory.mktemp("data"), ["a barn", "the longest barn of all", "barns"])
    prompts = GrpoPrompts(
        vlm,
        EpochSamples(list(datasets.read("folder", root, "train"))),
        answer_format="compact",
        device=torch.device("cpu"),
        autocast=torch.autocast("cpu", enabled=False),
        limit=1e9,
    )
    tokens = prompts.ids(OWNERS)
    longest = max(map(len, tokens))
    torch.manual_seed(0)
    ids, masks = [], []
    for i, prompt in enumerate(tokens):
        pad, length = longest - len(prompt), 1 + i % COMPLETION
        answer = torch.randint(10, 90, (length,)).tolist()
        ids.append([0] * pad + prompt + answer + [0] * (COMPLETION - length))
        masks.append([0] * pad + [1] * (len(prompt) + length) + [0] * (COMPLETION - length))
    return vlm.model, prompts, torch.tensor(ids), torch.tensor(masks)


def positions(model, prompts):
    def positions_of(owners, ids, mask):
        vision = prompts.vision_inputs(owners, ids)
        del vision["mm_encoder_outputs"]
        return model.model.get_rope_index(ids, attention_mask=mask, **vision)[0]

    return positions_of


def shared_values(model, prompts, owners, ids, mask):
    lay_out = separate if FAMILIES[model.config.model_type].recurrent else share
    shared = lay_out(owners, ids, mask, COMPLETION, positions(model, prompts))
    vision = prompts.vision_inputs(shared.owners, shared.input_ids)
    logits = model(
        input_ids=shared.input_ids,
        attention_mask=shared.visible,
        position_ids=shared.position_ids,
        mm_encoder_outputs=vision["mm_encoder_outputs"],
        use_cache=False,
    ).logits[:, :-1]
    labels = shared.labels[:, 1:]
    found = logits.log_softmax(-1).gather(2, labels.clamp(min=0)[:, :, None])[:, :, 0]
    return shared.of_completions(found.masked_fill(labels == -100, 0)), shared


def plain_values(model, prompts, owners, ids, mask):
    logits = model(
        input_ids=ids, attention_mask=mask, use_cache=False, **prompts.vision_inputs(owners, ids)
    ).logits
    found = logits[:, :-1].log_softmax(-1).gather(2, ids[:, 1:, None])[:, -COMPLETION:, 0]
    return found * mask[:, -COMPLETION:]


def test_log_probabilities_are_those_of_completions_one_by_one(setting):
    model, prompts, ids, mask = setting
    with torch.no_grad():
        found, shared = shared_values(model, prompts, OWNERS, ids, mask)
        for i, owner in enumerate(OWNERS):
            expected = plain_values(model, prompts, [owner], ids[i : i + 1], mask[i : i + 1])
            torch.testing.assert_close(found[i : i + 1], expected, rtol=1e-4, atol=1e-4)
    if FAMILIES[model.config.model_type].recurrent:
        assert torch.equal(shared.input_ids, ids)
    else:
        assert len(shared.input_ids) == 3
        assert shared.input_ids.numel() < ids.numel()
    assert found.std() > 0.1


def test_gradients_are_those_of_the_plain_batch(setting):
    model, prompts, ids, mask = setting
    weights = torch.randn(len(OWNERS), COMPLETION)
    gradients = []
    for values in (
        shared_values(model, prompts, OWNERS, ids, mask)[0],
        plain_values(model, prompts, OWNERS, ids, mask),
    ):
        model.zero_grad()
        (values * weights).sum().backward()
        layer = model.model.language_model.layers[0]
        gradients.append([p.grad.clone() for p in layer.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_prompts_of_one_completion_each_share_nothing(setting):
    model, prompts, ids, mask = setting
    rows = [3, 1, 0]
    owners = [OWNERS[i] for i in rows]
    with torch.no_grad():
        found, shared = shared_values(model, prompts, owners, ids[rows], mask[rows])
        assert shared.input_ids.shape == ids[rows].shape
        expected = plain_values(model, prompts, owners, ids[rows], mask[rows])
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_first_of_each_has_the_first_occurrences():
    assert first_of_each([7, 3, 7, 3, 5]) == ([0, 1, 4], [0, 1, 0, 1, 2])
