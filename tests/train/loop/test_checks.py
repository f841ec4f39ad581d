import shutil
from dataclasses import replace

import numpy as np
import pytest

from geoclick import images, masks, store
from geoclick.errors import GeoClickError, UsageError
from geoclick.train.loop import checks
from geoclick.train.options.mixture import Source
from tests import tiny


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


def test_images_of_the_expected_size_pass_and_others_do_not(pictures):
    checks.check_images(pictures)
    path = list(pictures)[17]
    with pytest.raises(GeoClickError, match=r"17\.png is 47x20 pixels"):
        checks.check_images(pictures | {path: (20, 46)})


def test_a_broken_header_is_found_in_any_image_and_truncation_in_decoded_ones(pictures, tmp_path):
    last, first = tmp_path / "39.png", tmp_path / "00.png"
    content = last.read_bytes()
    last.write_bytes(content[:10])
    with pytest.raises(GeoClickError, match=r"39\.png cannot be read"):
        checks.check_images(pictures)
    last.write_bytes(content)
    first.write_bytes(first.read_bytes()[:200])
    with pytest.raises(GeoClickError, match=r"00\.png cannot be read"):
        checks.check_images(pictures)


@pytest.mark.parametrize(
    "manifest",
    [{}, {"dataset": "folder", "bands": [], "stretch": [2, 98]}, {"dataset": "raster", "bands": [3, 2, 1]}],
)
def test_images_read_by_the_default_rule_are_trained_on(tmp_path, manifest):
    store.write_manifest(tmp_path, manifest)
    checks.check_pixels(tmp_path)


@pytest.mark.parametrize("rule", [{"bands": [3, 2, 1]}, {"stretch": [0, 100]}, {"stretch": []}])
def test_images_read_by_another_rule_are_refused(tmp_path, rule):
    store.write_manifest(tmp_path, {"dataset": "folder", "bands": [], "stretch": [2, 98]} | rule)
    with pytest.raises(GeoClickError, match="training reads them with the defaults"):
        checks.check_pixels(tmp_path)


def test_a_new_folder_is_writable_and_one_below_a_file_is_not(tmp_path):
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


def test_a_missing_tracker_is_reported_with_the_available_ones(monkeypatch):
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


def asked_again(folder, rows, times):
    """A click store whose first `times` rows are about one image and query, with another target each."""
    clicks, _ = tiny.click_store(folder, rows=rows)
    found = list(store.read(clicks))
    first = found[0]
    for index in range(times):
        mask = np.zeros((first.height, first.width), bool)
        mask[: 5 + index, 2:9] = True
        same = {"image": first.image, "query": first.query, "mask": masks.encode_rle(mask)}
        found[index] = replace(
            found[index], task="referring", clicks=first.clicks, ious=(0.6 + index / 100,), parts=(), **same
        )
    store.write_shard(clicks, 0, 1, found)
    return clicks


def check_contradictions(clicks, **changes):
    source = Source("clicks", str(clicks), str(clicks.parent), "compact", None)
    checks.check_contradictions(
        [source, source],
        **{"max_clicks": 6, "min_iou": 0.0, "answer_end": "best", "allowed": False} | changes,
    )


def test_contradicting_rows_are_an_error_unless_they_are_allowed_or_few(tmp_path, capsys):
    many = asked_again(tmp_path / "many", 20, 3)
    with pytest.raises(
        GeoClickError, match=r"^3 of 20 rows \(15\.0 %\) contradict others.*--allow-contradictions"
    ):
        check_contradictions(many)
    check_contradictions(many, allowed=True)
    assert capsys.readouterr().out == (
        "warning: 3 of 20 rows (15.0 %) contradict others: 1 question about an image with several targets\n"
    )
    check_contradictions(asked_again(tmp_path / "few", 40, 2))
    assert "warning: 2 of 40 rows (5.0 %)" in capsys.readouterr().out
    check_contradictions(asked_again(tmp_path / "none", 20, 0))
    assert capsys.readouterr().out == ""


def test_rows_that_are_left_out_contradict_nothing(tmp_path, capsys):
    clicks = asked_again(tmp_path, 20, 3)
    # Of the three only the last remains.
    check_contradictions(clicks, min_iou=0.615)
    assert capsys.readouterr().out == ""


def test_the_pixel_rule_is_that_of_the_manifest(tmp_path):
    assert checks.pixel_rule([tmp_path]) == {}
    store.write_manifest(tmp_path, {"bands": [4, 3, 2], "stretch": [2.0, 98.0], "dataset": "raster"})
    rule = {"bands": [4, 3, 2], "stretch": [2.0, 98.0]}
    assert checks.pixel_rule([tmp_path]) == checks.pixel_rule([tmp_path, tmp_path]) == rule
    assert checks.pixel_rule([tmp_path, tmp_path / "other"]) == {}
