"""Maps by windows against those of the complete image, by the same models and tiles."""

from dataclasses import replace

import numpy as np
import pytest

from geoclick.errors import GeoClickError
from geoclick.geo import tiles
from geoclick.geo.writing import NO_DATA
from geoclick.inference.contrastive import sam3
from geoclick.inference.contrastive.pipeline import load
from geoclick.inference.contrastive.settings import ContrastiveSettings
from geoclick.scenes.copies.semantic import paint
from tests import tiny_sam3

CLASSES = "background; building, roof; road; water; field; tree, forest"
SETTINGS = ContrastiveSettings(points_per_side=6, tile=100, overlap=24)


class Array:
    """An image in memory as a source of windows."""

    def __init__(self, image, valid=None):
        self.image, self.valid = image, valid
        self.size = image.shape[:2]
        self.shown = []

    def read(self, window):
        self.shown.append(window)
        valid = None if self.valid is None else tiles.crop(self.valid, window)
        return tiles.crop(self.image, window), None if valid is None or valid.all() else valid


@pytest.fixture(scope="module")
def scene():
    return np.ascontiguousarray(np.asarray(paint("loveda", 0, 1)[0])[:430:2, :480:2])


@pytest.fixture(scope="module")
def loaded():
    return load(CLASSES, settings=SETTINGS)


@pytest.fixture(scope="module")
def whole(loaded, scene):
    """The map of the complete image."""
    return loaded.predict(scene)


def joined(pipeline, source):
    """Labels and confidence of all windows, their covered pixels and proposals."""
    labels, confidence = np.full(source.size, -1, np.int32), np.full(source.size, np.nan, np.float32)
    covered = proposals = 0
    for window, found in pipeline.windows(source):
        place = (
            slice(window.row, window.row + window.height),
            slice(window.column, window.column + window.width),
        )
        assert (labels[place] == -1).all()
        labels[place], confidence[place] = found.labels, found.confidence
        covered += round((found.coverage or 0) * found.labels.size)
        proposals += found.proposals or 0
    return labels, confidence, covered, proposals


@pytest.mark.parametrize(
    "select", ["vote", *(pytest.param(name, marks=pytest.mark.slow) for name in ("soft-vote", "crop"))]
)
def test_windows_give_the_map_of_the_complete_image(loaded, scene, whole, select):
    pipeline = replace(loaded, settings=replace(loaded.settings, select=select))
    if select != loaded.settings.select:
        whole = pipeline.predict(scene)
    labels, confidence, covered, proposals = joined(pipeline, Array(scene))
    np.testing.assert_array_equal(labels, whole.labels)
    np.testing.assert_array_equal(confidence, whole.confidence)
    assert (proposals, covered / labels.size) == (whole.proposals, whole.coverage)
    assert len(np.unique(labels)) > 3


@pytest.mark.parametrize(
    ("method", "threshold"),
    [
        ("clip", 0.0),
        ("clearclip", 0.3),
        pytest.param("clip", 0.3, marks=pytest.mark.slow),
        pytest.param("clearclip", 0.0, marks=pytest.mark.slow),
    ],
)
def test_windows_of_clip_alone(scene, method, threshold):
    settings = ContrastiveSettings(tile=100, overlap=24, threshold=threshold)
    pipeline = load(CLASSES, method, settings=settings)
    whole = pipeline.predict(scene)
    labels, confidence, _, proposals = joined(pipeline, Array(scene))
    np.testing.assert_array_equal(labels, whole.labels)
    np.testing.assert_array_equal(confidence, whole.confidence)
    assert proposals == 0


def test_windows_of_one_class(scene):
    pipeline, part = load("water", settings=SETTINGS), scene[:, :170]
    labels, _, _, _ = joined(pipeline, Array(part))
    np.testing.assert_array_equal(labels, pipeline.predict(part).labels)
    assert set(np.unique(labels)) == {0, 1}


def test_an_image_that_fits_a_window_is_one(scene):
    pipeline = load(CLASSES, settings=replace(SETTINGS, tile=300))
    source = Array(scene)
    labels, confidence, _, _ = joined(pipeline, source)
    whole = pipeline.predict(scene)
    np.testing.assert_array_equal(labels, whole.labels)
    np.testing.assert_array_equal(confidence, whole.confidence)
    assert set(source.shown) == {(0, 0, *scene.shape[:2])}


def test_windows_of_sam3(scene, tmp_path):
    folder = str(tiny_sam3.folder(tmp_path / "sam3"))
    pipeline = sam3.load_pipeline("background; x; water", folder, device="cpu", tile=100, overlap=24)
    whole = pipeline.predict(scene)
    labels, confidence, _, _ = joined(pipeline, Array(scene))
    np.testing.assert_array_equal(labels, whole.labels)
    np.testing.assert_array_equal(confidence, whole.confidence)
    assert len(np.unique(labels)) > 1


def test_pixels_without_data_have_no_class_and_empty_windows_are_not_shown(loaded, scene, whole):
    valid = np.ones(scene.shape[:2], bool)
    valid[:, 150:] = False
    valid[:40, 100:] = False
    labels, _, _, proposals = joined(loaded, Array(scene, valid))
    np.testing.assert_array_equal(labels[valid], whole.labels[valid])
    assert (labels[~valid] == NO_DATA).all()
    assert 0 < proposals < whole.proposals


def test_pool_takes_one_window(loaded, scene):
    pipeline = replace(loaded, settings=replace(loaded.settings, select="pool"))
    with pytest.raises(GeoClickError, match="'pool' takes images of at most 100 pixels a side, not 240x215"):
        joined(pipeline, Array(scene))
    small = Array(scene[:90, :80])
    np.testing.assert_array_equal(joined(pipeline, small)[0], pipeline.predict(small.image).labels)
