"""Sessions of the app on a small random SAM, and for browser tests an app on the embedded models."""

import numpy as np
import pytest
from PIL import Image

from geoclick.cli import main
from geoclick.clicks import Click
from geoclick.codec import Part
from geoclick.inference.app.session import EncodedImage, Session
from geoclick.inference.app.sources import Opened
from geoclick.inference.generative import mask_decoding
from geoclick.inference.generative.prediction import Prediction
from tests.inference.app import browser

SCENES = 12
SIZE = (48, 64)
POINTS = (Click(20, 20), Click(50, 40, False))


@pytest.fixture
def opened(tmp_path):
    from geoclick import files, images

    pixels = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    path = tmp_path / "tile.png"
    images.write_png(path, pixels)
    return Opened(path, "tile.png", pixels, None, files.sha256(path))


@pytest.fixture
def session(opened, segmenter):
    return Session(opened, EncodedImage(segmenter, opened.pixels))


@pytest.fixture
def answered(session):
    """A session with one answer of two clicks."""
    return add(session, (Part(POINTS),), "the tank")


def add(session, parts, query):
    """Add an answer with the clicks of parts, as `geoclick predict` decodes it."""
    decoded = mask_decoding.decode_objects(session.segmenter, [session.opened.pixels], [parts])[0]
    clicks = tuple(click for part in parts for click in part.clicks)
    session.add(
        query,
        "",
        Prediction(decoded.mask, clicks, "text", "ok", (), decoded.score, instances=decoded.instances),
    )
    return session


@pytest.fixture(scope="session")
def scenes(tmp_path_factory):
    """A folder of images, with a link to a secret next to it."""
    root = tmp_path_factory.mktemp("app")
    assert main(["scenes", str(root / "scenes"), "--split", "test", "--count", str(4 * SCENES)]) == 0
    Image.new("RGB", (8, 8)).save(root / "secret.png")
    images = root / "scenes/test/images"
    (images / "link.png").symlink_to(root / "secret.png")
    return images


@pytest.fixture(scope="session")
def output(scenes):
    return scenes.parents[2] / "out"


@pytest.fixture(scope="session")
def address(scenes, output):
    words = ("--images", scenes, "--max-upload", 2, "--max-megapixels", 1)
    with browser.app(output, *words) as address:
        yield address


@pytest.fixture(scope="session")
def chromium():
    with browser.chromium() as started:
        yield started


@pytest.fixture
def user(chromium, address):
    one = browser.User(chromium, address)
    yield one
    one.context.close()
