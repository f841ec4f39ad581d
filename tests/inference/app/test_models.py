import pytest

from geoclick.errors import GeoClickError
from geoclick.inference.app import models
from geoclick.inference.app.options import AppOptions


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ({"clip": "ViT-B-32", "clip_checkpoint": "none.pt"}, "none.pt"),
        ({"clip_checkpoint": "none.pt"}, "--clip-checkpoint"),
        ({"clip": "ViT-B-32"}, "--clip-checkpoint"),
        ({"clip": "no/such/folder"}, "no/such/folder"),
    ],
)
def test_a_wrong_clip_is_refused_before_the_models_are_loaded(words, named, monkeypatch):
    monkeypatch.setattr(models.pipelines, "from_options", None)
    with pytest.raises(GeoClickError, match=named):
        models.load(AppOptions(**words))


def test_the_embedded_clip_is_loaded_with_the_first_map():
    assert models.load(AppOptions(device="cpu"))._clip is None
