import numpy as np

from geoclick import mask_overlay, masks

IMAGE = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
MASK = np.zeros((30, 40), bool)
MASK[5:20, 10:30] = True


def test_the_mask_is_tinted_and_has_a_border_of_one_pixel():
    before = IMAGE.copy()
    picture = mask_overlay.draw(IMAGE, MASK)
    assert (before == IMAGE).all()
    assert picture.dtype == np.uint8
    assert (picture[~MASK] == IMAGE[~MASK]).all()
    inner = np.zeros_like(MASK)
    inner[6:19, 11:29] = True
    assert (picture[MASK & ~inner] == mask_overlay.COLOR).all()
    share = mask_overlay.TINT / 256
    expected = (1 - share) * IMAGE[inner].astype(float) + share * np.array(mask_overlay.COLOR)
    assert np.abs(picture[inner] - expected).max() <= 0.5


def test_a_mask_at_the_border_of_the_image_has_none_there_and_an_empty_one_changes_nothing():
    full = mask_overlay.draw(IMAGE, np.ones_like(MASK))
    assert not (full[0] == mask_overlay.COLOR).all(-1).all()
    assert (mask_overlay.draw(IMAGE, np.zeros_like(MASK)) == IMAGE).all()


def test_a_reference_names_image_and_mask():
    text = mask_overlay.reference("/data/a b.png", masks.encode_rle(MASK))
    path, mask = mask_overlay.parse(text, (30, 40))
    assert path == "/data/a b.png"
    assert (mask == MASK).all()
    assert mask_overlay.reference("/data/a.png", None) == "/data/a.png"
    assert mask_overlay.parse("/data/a.png", (30, 40)) == ("/data/a.png", None)
