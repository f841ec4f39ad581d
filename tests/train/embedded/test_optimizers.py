import pytest
import torch

from geoclick.train.embedded.optimizers import matrix_and_other
from geoclick.train.embedded.processor import SPECIAL
from geoclick.train.embedded.vlm_model import build_model


def test_every_parameter_has_exactly_one_optimizer():
    model, head = build_model(300, dict.fromkeys(SPECIAL, 1)), torch.nn.Linear(192, 2)
    parameters = [*model.parameters(), *head.parameters()]
    layers = [model.model.language_model.layers]
    muon, adam = matrix_and_other(layers, parameters, learning_rate=1e-3, weight_decay=0.01)
    owned = [[id(p) for group in o.param_groups for p in group["params"]] for o in (muon, adam)]
    assert len(owned[0]) + len(owned[1]) == len({*owned[0], *owned[1]})
    assert {*owned[0], *owned[1]} == {id(p) for p in parameters}
    assert {p.ndim for group in muon.param_groups for p in group["params"]} == {2}
    assert id(model.lm_head.weight) in owned[1]


def test_steps_of_both_have_about_the_size_of_the_learning_rate():
    torch.manual_seed(0)
    layer = torch.nn.Linear(64, 64)
    before = [p.detach().clone() for p in layer.parameters()]
    optimizers = matrix_and_other([layer], layer.parameters(), learning_rate=1e-2, weight_decay=0.0)
    layer(torch.randn(256, 64)).square().sum().backward()
    for optimizer in optimizers:
        optimizer.step()
    moved = [
        float((p.detach() - b).square().mean().sqrt())
        for p, b in zip(layer.parameters(), before, strict=True)
    ]
    assert moved[1] == pytest.approx(1e-2, rel=0.05)
    assert moved[0] == pytest.approx(2e-3, rel=0.3)
