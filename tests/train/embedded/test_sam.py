"""The training run of the embedded SAM resumes from its checkpoint, and refuses tiles that it cannot read."""

import numpy as np
import pytest
import torch

from geoclick.errors import GeoClickError
from geoclick.train.embedded.sam import main
from geoclick.train.embedded.sam_frames import read_tiles
from geoclick.train.embedded.sam_options import EmbeddedSamOptions
from geoclick.train.embedded.sam_trainer import SamTrainer
from geoclick.train.embedded.scene_cache import SceneCache


def test_resumed_equals_uninterrupted(tmp_path):
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    ids = np.zeros((2, 256, 256), np.uint8)
    ids[:, ::2] = ids[:, 1::2] = np.arange(256, dtype=np.uint8) // 40
    cache = SceneCache(rng.integers(0, 256, (2, 256, 256, 3), dtype=np.uint8), ids, ())
    options = EmbeddedSamOptions(output=str(tmp_path), images=1, objects=2, clicks=(2,))
    uninterrupted = SamTrainer(options)
    uninterrupted.train_step([cache], [])
    uninterrupted.save()
    losses = [uninterrupted.train_step([cache], []) for _ in range(2)]

    resumed = SamTrainer(options)
    assert resumed.step == 1
    assert [resumed.train_step([cache], []) for _ in range(2)] == pytest.approx(losses, rel=1e-5)
    for mine, theirs in zip(resumed.average.parameters(), uninterrupted.average.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)
    assert (tmp_path / "model" / "model.safetensors").exists()


def test_a_folder_without_tiles_is_refused_in_one_sentence(tmp_path):
    with pytest.raises(GeoClickError, match=r"classes\.json cannot be read"):
        read_tiles(tmp_path, lambda stem: True)
    (tmp_path / "classes.json").write_text('{"classes": {"road": [1, 2, 3]}}')
    (tmp_path / "images").mkdir()
    with pytest.raises(GeoClickError, match="holds no tiles"):
        read_tiles(tmp_path, lambda stem: True)


def test_an_unknown_option_is_a_usage_error(capsys):
    assert main(["--patch", "4"]) == 2
    assert "error:" in capsys.readouterr().err
