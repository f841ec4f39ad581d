import shutil

import numpy as np
import pytest

from geoclick import images
from geoclick.errors import GeoClickError, UsageError
from geoclick.train.loop import checks


@pytest.fixture
def pictures(tmp_path):
    """Forty images and their sizes."""
    random = np.random.default_rng(0)
    sizes = {}
    for index in range(40):
        path = tmp_path / f"{index:02d}.png"
        images.write_png(path, random.integers(0, 255, (20, 30 + index, 3), dtype=np.uint8))
        sizes[str(path)] = (20, 30 + index)
    return sizes


def test_whole_images_pass_and_one_of_another_size_does_not(pictures):
    checks.check_images(pictures)
    path = list(pictures)[17]
    with pytest.raises(GeoClickError, match=r"17\.png is 47x20 pixels"):
        checks.check_images(pictures | {path: (20, 46)})


def test_a_broken_header_is_found_anywhere_and_a_cut_end_in_those_decoded(pictures, tmp_path):
    last, first = tmp_path / "39.png", tmp_path / "00.png"
    content = last.read_bytes()
    last.write_bytes(content[:10])
    with pytest.raises(GeoClickError, match=r"39\.png cannot be read"):
        checks.check_images(pictures)
    last.write_bytes(content)
    first.write_bytes(first.read_bytes()[:200])
    with pytest.raises(GeoClickError, match=r"00\.png cannot be read"):
        checks.check_images(pictures)


def test_a_folder_to_be_made_is_writable_and_one_below_a_file_is_not(tmp_path):
    checks.check_writable(tmp_path / "a" / "b")
    (tmp_path / "file").write_text("")
    with pytest.raises(GeoClickError, match="give another --output"):
        checks.check_writable(tmp_path / "file" / "run")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def test_checkpoints_must_fit_on_the_disk(tmp_path):
    free = shutil.disk_usage(tmp_path).free
    needed, found = checks.check_space(tmp_path / "run", weights=1000, checkpoints=3)
    assert needed == 3 * 16_000 + 4_000
    assert abs(found - free) < free / 2
    with pytest.raises(GeoClickError, match="lower save_total_limit"):
        checks.check_space(tmp_path / "run", weights=free // 16, checkpoints=2)


def test_a_tracker_that_is_missing_is_named_with_those_that_are_not(monkeypatch):
    from transformers.integrations import integration_utils

    monkeypatch.setattr(
        integration_utils, "get_available_reporting_integrations", lambda: ["tensorboard", "wandb"]
    )
    checks.check_reporting([])
    checks.check_reporting(["wandb"])
    with pytest.raises(
        UsageError, match="mlflow is not installed; install it, or use one of: tensorboard, wandb, none"
    ):
        checks.check_reporting(["mlflow"])
    with pytest.raises(UsageError, match="report_to wanb is unknown"):
        checks.check_reporting(["wanb"])
