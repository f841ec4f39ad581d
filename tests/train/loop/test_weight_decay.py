import pytest

from geoclick.train import sft
from geoclick.train.loop.trainer import ClickTrainer
from tests import tiny


@pytest.mark.parametrize("tower_rates", [[], ["--projector-lr", "0.001"]])
def test_only_matrices_have_weight_decay(tmp_path, monkeypatch, tower_rates):
    """Not the magnitudes of DoRA, whose decay would shrink every adapted layer of the base model."""
    seen = []
    create = ClickTrainer.create_optimizer

    def recorded(self, model=None):
        optimizer = create(self, model)
        names = {parameter: name for name, parameter in self.model.named_parameters()}
        for group in optimizer.param_groups:
            seen.extend((names[p], p.ndim, group["weight_decay"]) for p in group["params"])
        return optimizer

    monkeypatch.setattr(ClickTrainer, "create_optimizer", recorded)
    base = tiny.qwen3_vl_folder(tmp_path / "vlm")
    clicks, root = tiny.click_store(tmp_path, rows=4)
    flags = ["--vlm", base, "--clicks", clicks, "--root", root, "--output", tmp_path / "run", "--lora-r", 4]
    flags += ["--use-dora", "--weight_decay", 0.1, "--max_steps", 1, "--use_cpu", "true"]
    flags += ["--tune", "language_model", "projector", *tower_rates, "--save_strategy", "no"]
    assert sft.main([str(flag) for flag in flags]) == 0
    magnitudes = [decay for name, _, decay in seen if "lora_magnitude_vector" in name]
    assert len(magnitudes) == sum("lora_A" in name for name, _, _ in seen) > 0
    assert {(dimensions, decay) for _, dimensions, decay in seen} == {(1, 0.0), (2, 0.1)}
