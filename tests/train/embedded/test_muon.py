"""Muon in single precision makes the steps of PyTorch's, up to bfloat16's rounding."""

import pytest
import torch

from geoclick.train.embedded.muon import SinglePrecisionMuon, orthogonalized


@pytest.mark.parametrize("shape", [(24, 64), (64, 24), (32, 32)])
def test_steps_are_those_of_pytorch(shape):
    torch.manual_seed(0)
    start = torch.randn(shape)
    parameters = [torch.nn.Parameter(start.clone()) for _ in range(2)]
    ours = SinglePrecisionMuon(parameters[:1], lr=0.05, weight_decay=0.1)
    theirs = torch.optim.Muon(parameters[1:], lr=0.05, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(3):
        gradient = torch.randn(shape)
        for parameter, optimizer in zip(parameters, (ours, theirs), strict=True):
            parameter.grad = gradient.clone()
            optimizer.step()
    torch.testing.assert_close(parameters[0], parameters[1], rtol=0, atol=0.005)
    assert (parameters[0] - start).abs().mean() > 0.015


def test_singular_values_come_close_to_one():
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalized(torch.randn(3, 16, 40)))
    assert values.min() > 0.5
    assert values.max() < 1.3


def test_its_state_is_saved_and_loaded():
    torch.manual_seed(0)
    runs = []
    for reload in (False, True):
        parameter = torch.nn.Parameter(torch.ones(4, 6))
        optimizer = SinglePrecisionMuon([parameter], lr=0.1, weight_decay=0.0)
        for step in range(3):
            parameter.grad = torch.arange(24.0).view(4, 6) + step
            optimizer.step()
            if reload:
                state = optimizer.state_dict()
                optimizer = SinglePrecisionMuon([parameter], lr=0.1, weight_decay=0.0)
                optimizer.load_state_dict(state)
        runs.append(parameter.detach())
    assert torch.equal(*runs)
