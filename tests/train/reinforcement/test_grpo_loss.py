"""The formula in the docstring of grpo_trainer.py is the loss of the installed TRL."""

import pytest
import torch
from trl import GRPOTrainer

from geoclick.train import grpo
from geoclick.train.reinforcement.grpo_trainer import ClickGRPOTrainer
from tests.train import grpo_runs

EPSILON, BETA = 0.0005, 0.3


def formula(logps, inputs, *, corrected):
    """The sum of the loss of tokens over their number."""
    mask, advantages = inputs["completion_mask"], inputs["advantages"][:, None]
    old = inputs.get("old_per_token_logps", logps)
    ratio = (logps - old).exp()
    clipped = ratio.clamp(1 - EPSILON, 1 + EPSILON)
    policy = -torch.minimum(ratio * advantages, clipped * advantages)
    log_ratio = inputs["ref_per_token_logps"] - logps
    kl = (ratio if corrected else 1.0) * (log_ratio.exp() - log_ratio - 1)
    return ((policy + BETA * kl) * mask).sum() / mask.sum(), (ratio != clipped) & mask.bool()


@pytest.mark.slow
@pytest.mark.parametrize("corrected", [True, False])
def test_the_formula_is_that_of_trl(tmp_path, monkeypatch, corrected):
    """In the second pass over a batch the ratio is not 1, some tokens are clipped, and the KL is above 0."""
    found, clipped = [], []
    logps_of, loss_of = ClickGRPOTrainer._get_per_token_logps_and_entropies, GRPOTrainer._compute_loss
    last = []

    def logps(self, *args, **kwargs):
        result = logps_of(self, *args, **kwargs)
        last[:] = [result[0].detach()]
        return result

    def loss(self, model, inputs):
        value = loss_of(self, model, inputs)
        expected, outside = formula(last[0], inputs, corrected=corrected)
        found.append((float(value.detach()), float(expected)))
        clipped.append(int(outside.sum()))
        return value

    monkeypatch.setattr(ClickGRPOTrainer, "_get_per_token_logps_and_entropies", logps)
    monkeypatch.setattr(GRPOTrainer, "_compute_loss", loss)
    flags = ["--num_iterations", "2", "--beta", str(BETA), "--epsilon", str(EPSILON), "--warmup_steps", "0"]
    flags += ["--use_bias_correction_kl", str(corrected), "--learning_rate", "0.01"]
    assert grpo.main([*grpo_runs.setting(tmp_path), *flags, "--output", str(tmp_path / "run")]) == 0
    assert len(found) == 4
    for value, expected in found:
        assert value == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert clipped[0] == 0 < max(clipped)
    assert max(abs(value) for value, _ in found) > 1e-4
