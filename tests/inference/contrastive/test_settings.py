import pytest

from geoclick.errors import UsageError
from geoclick.inference.contrastive.classes import parse
from geoclick.inference.contrastive.settings import ContrastiveSettings, completed


def test_defaults_depend_on_the_models():
    def complete(name, method="contrastive", *, siglip=False, embedded_segmenter=False, **given):
        class Named:
            is_siglip = siglip

        Named.name = name
        settings = ContrastiveSettings(**given)
        result = completed(settings, method, Named(), embedded_segmenter=embedded_segmenter)
        return result.features, result.class_bias, result.templates, result.predicted_iou, result.stability

    own = ("segearth-ov", -0.3, "imagenet", 0.88, 0.95)
    assert complete("ViT-B-32") == own
    assert complete("embedded", embedded_segmenter=True) == ("clearclip", 0.0, "aerial", 0.2, 0.8)
    assert complete("ViT-B-32", "sclip")[:2] == ("sclip", 0.0)
    assert complete("siglip", siglip=True)[:2] == ("segearth-ov", 0.0)
    given = {"class_bias": 0.1, "templates": "single", "predicted_iou": 0.0, "stability": 0.5}
    assert complete("embedded", features="gem", **given) == ("gem", 0.1, "single", 0.0, 0.5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"threshold": 0.3}, "lacks; add it"),
        ({"threshold": 1.5}, "from 0 to 1, not 1.5"),
        ({"tile": 100}, "below the tile of 100, not 128"),
        ({"select": "crops"}, "Unknown selection 'crops'; use one of vote"),
        ({"scale": 0.0}, "scale of the cosines must be a number above 0, not 0"),
        ({"features": "dino"}, "Unknown features 'dino'"),
        ({"points_per_side": 0}, "A grid of 0"),
        ({"stability": 1.5}, "stability must be from 0 to 1"),
        ({"class_bias": float("nan")}, "must be a finite number, not nan"),
    ],
)
def test_wrong_settings_are_one_sentence(settings, message):
    with pytest.raises(UsageError, match=message):
        ContrastiveSettings(**settings).check(parse("building; road"), "contrastive")
