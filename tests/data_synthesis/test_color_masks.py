"""Click stores of color masks: one sample for each class or component, and records of older stores."""

import json
from dataclasses import replace

import numpy as np
import pytest

from geoclick import images, store
from geoclick.data_synthesis import quality_report
from geoclick.data_synthesis import run as synth
from geoclick.data_synthesis.run import run
from geoclick.errors import GeoClickError, UsageError
from geoclick.geo import reading
from geoclick.inference import compare, evaluate
from tests.data_synthesis import test_run
from tests.data_synthesis.disc_segmenter import DiscSegmenter
from tests.data_synthesis.test_run import settings
from tests.geoclick.datasets import test_coco


def color_masks(root):
    """A root with one image that has two components of water; other pixels are ignored."""
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    mask = np.zeros((40, 50, 3), np.uint8)
    mask[5:20, 5:20] = mask[25:35, 30:45] = (9, 9, 200)
    images.write_png(root / "images/a.png", mask)
    images.write_png(root / "masks/a.png", mask)
    (root / "classes.json").write_text('{"classes": {"Water": [9, 9, 200]}, "ignore": [[0, 0, 0]]}')
    return root


def test_color_masks_end_in_the_same_store(tmp_path):
    root = color_masks(tmp_path / "data")
    run(settings(root, tmp_path / "out", min_area=160, components=True), DiscSegmenter())
    (row,) = store.read(tmp_path / "out")
    assert (row.query, row.image, row.category) == ("water", "images/a.png", "Water")
    # All that is not the water beyond it is ignored: one disc inside is as good as the whole.
    assert row.clicks[0] == (12, 12, True)


def test_a_store_of_an_older_version_continues_with_equal_samples_only(tmp_path):
    root = color_masks(tmp_path / "data")
    for name, components in (("equal", False), ("other", True)):
        options = settings(root, tmp_path / name, min_area=160, components=components)
        run(options, DiscSegmenter())
        manifest = json.loads((tmp_path / name / "manifest.json").read_text())
        for key in ("components", "crowds", "empty_images"):
            del manifest[key]
        (tmp_path / name / "manifest.json").write_text(json.dumps(manifest))
    run(settings(root, tmp_path / "equal", min_area=160), DiscSegmenter())
    # Made of components by an older version, whose record does not say so.
    with pytest.raises(GeoClickError, match="The dataset has changed"):
        run(settings(root, tmp_path / "other", min_area=160), DiscSegmenter())


def test_images_are_cut_on_request_and_the_record_says_so(tmp_path):
    root = color_masks(tmp_path / "data")
    options = settings(root, tmp_path / "out", tile=24, overlap=4)
    run(options, DiscSegmenter())
    rows = list(store.read(tmp_path / "out"))
    assert {(row.height, row.width) for row in rows} == {(24, 24)}
    assert all((root / row.image).is_file() and "/.tiles/" in row.image for row in rows)
    manifest = store.read_manifest(tmp_path / "out")
    assert (manifest["tile"], manifest["overlap"], manifest["windows"]) == (24, 4, True)
    with pytest.raises(UsageError, match="name another --output"):
        run(replace(options, tile=None), DiscSegmenter())
    run(settings(root, tmp_path / "complete"), DiscSegmenter())
    manifest = store.read_manifest(tmp_path / "complete")
    # As before images could be cut.
    assert (manifest["tile"], manifest["overlap"], manifest.get("windows")) == (1024, 128, None)


def test_targets_too_small_for_the_segmenter_are_counted(tmp_path, capsys):
    root = tmp_path / "data"
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    for name, side in (("a", 3), ("b", 300)):
        mask = np.zeros((1100, 1100), np.uint8)
        mask[500 : 500 + side, 500 : 500 + side] = 255
        images.write_png(root / f"images/{name}.png", np.repeat(mask[..., None], 3, axis=2))
        images.write_png(root / f"masks/{name}.png", mask)
    run(settings(root, tmp_path / "out", sheet=0), DiscSegmenter())
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    assert (metrics["small_targets"]["targets"], metrics["small_targets"]["too_small"]) == (2, 1)
    line = "1 of 2 targets (50.0 %) are too small for the segmenter"
    assert f"warning: {line}" in capsys.readouterr().out
    assert (
        quality_report.main([str(tmp_path / "out"), "--root", str(root), "--output", str(tmp_path / "q")])
        == 0
    )
    assert line in capsys.readouterr().out
    assert json.loads((tmp_path / "q/quality.json").read_text())["small_targets"]["too_small"] == 1
    words = ["--root", root, "--split", "train", "--predictor", "center-point", "--output", tmp_path / "run"]
    assert evaluate.main([str(word) for word in words]) == 0
    assert line in capsys.readouterr().out
    assert json.loads((tmp_path / "run/metrics.json").read_text())["small_targets"]["too_small"] == 1


def test_every_picture_shows_the_recorded_bands(tmp_path, monkeypatch):
    root = color_masks(tmp_path / "data")
    rules, read_image = [], reading.read_image
    monkeypatch.setattr(
        reading,
        "read_image",
        lambda path, **options: rules.append(options["pixels"].bands) or read_image(path, **options),
    )
    words = ["--root", str(root), "--bands", "3"]
    run(settings(root, tmp_path / "out", bands=(3,)), DiscSegmenter())
    assert (
        quality_report.main([str(tmp_path / "out"), "--root", str(root), "--output", str(tmp_path / "q")])
        == 0
    )
    runs = [str(tmp_path / name) for name in ("run", "second")]
    for folder in runs:
        assert evaluate.main([*words, "--predictor", "center-point", "--output", folder]) == 0
    assert json.loads((tmp_path / "run/protocol.json").read_text())["bands"] == [3]
    assert compare.main([*runs, "--output", str(tmp_path / "compared")]) == 0
    # Synthesis and its sheet, the gallery of quality, answers and report of each evaluation, and the comparison.
    assert set(rules) == {(3,)}
    assert len(rules) >= 7


def test_tiles_are_shown_as_they_are(tmp_path):
    root = color_masks(tmp_path / "data")
    words = ["--root", str(root), "--bands", "3", "--tile", "24", "--overlap", "4", "--split", "train"]
    assert synth.main([*words, "--output", str(tmp_path / "out"), "--sheet", "2"]) == 0
    for image in (root / "train/.tiles").rglob("*.png"):
        shown = reading.read_image(image)
        np.testing.assert_array_equal(shown[..., 0], shown[..., 2])
    assert (
        quality_report.main([str(tmp_path / "out"), "--root", str(root), "--output", str(tmp_path / "q")])
        == 0
    )


def test_contradictions_of_coco_name_the_option_and_by_class_has_none(tmp_path, capsys):
    root = test_coco.make(
        tmp_path / "data",
        *(
            test_coco.annotation(n, segmentation=[[x, 2, x + 6, 2, x + 6, 9, x, 9]])
            for n, x in ((1, 2), (2, 15))
        ),
    )
    words = ["--dataset", "coco", "--root", str(root), "--split", "val", "--sheet", "0"]
    assert synth.main([*words, "--output", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert "2 of 2 rows (100.0 %) contradict others" in error
    assert (
        "Add --by-class, which makes each class of an image one sample, or add --allow-contradictions."
        in error
    )
    assert synth.main([*words, "--output", str(tmp_path / "out"), "--by-class"]) == 0
    assert [row.sample_id for row in store.read(tmp_path / "out")] == ["image-5-category-1"]


def test_limit_is_a_random_pick_and_an_older_store_took_the_first(tmp_path):
    root = test_run.make_root(tmp_path / "data", 24)

    def ids(name, **changes):
        run(settings(root, tmp_path / name, sheet=0, **changes), DiscSegmenter())
        return [row.sample_id for row in store.read(tmp_path / name)]

    assert ids("first", first=3) == ["s00", "s01", "s02"]
    picks = {seed: ids(f"seed{seed}", limit=3, seed=seed) for seed in range(3)}
    assert len({tuple(pick) for pick in picks.values()}) == 3
    assert all(pick == sorted(pick) and len(pick) == 3 for pick in picks.values())
    path = tmp_path / "first/manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["first"]
    path.write_text(json.dumps(manifest | {"limit": 3}))
    with pytest.raises(UsageError, match="--first takes the first samples"):
        run(settings(root, tmp_path / "first", limit=3), DiscSegmenter())
    run(settings(root, tmp_path / "first", first=3), DiscSegmenter())
