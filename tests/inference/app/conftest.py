"""Sessions of the app on a small random SAM."""

import numpy as np
import pytest

from geoclick.clicks import Click
from geoclick.codec import Part
from geoclick.inference import generative
from geoclick.inference.app.session import EncodedImage, Session
from geoclick.inference.app.sources import Opened
from geoclick.inference.prediction import Prediction

SIZE = (48, 64)
POINTS = (Click(20, 20), Click(50, 40, False))


@pytest.fixture
def opened(tmp_path):
    from geoclick import images

    pixels = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    path = tmp_path / "tile.png"
    images.write_png(path, pixels)
    return Opened(path, "tile.png", pixels, None)


@pytest.fixture
def session(opened, segmenter):
    return Session(opened, EncodedImage(segmenter, opened.pixels))


@pytest.fixture
def answered(session):
    """A session with one answer of two clicks."""
    return add(session, (Part(POINTS),), "the tank")


def add(session, parts, query):
    """Add an answer with the clicks of parts, as `geoclick predict` decodes it."""
    decoded = generative.decode_objects(session.segmenter, [session.opened.pixels], [parts])[0]
    clicks = tuple(click for part in parts for click in part.clicks)
    session.add(
        query,
        "",
        Prediction(decoded.mask, clicks, "text", "ok", (), decoded.score, instances=decoded.instances),
    )
    return session
