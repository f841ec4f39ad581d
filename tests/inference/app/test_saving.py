"""Saved corrections are rows that training reads, below a root that holds their images."""

from collections import Counter

import numpy as np
import pytest

from geoclick import chat_rows, images, masks, store
from geoclick.clicks import Click
from geoclick.codec import Part
from geoclick.errors import GeoClickError, UsageError
from geoclick.geo.reading import DEFAULT, PixelOptions, read_recorded
from geoclick.inference.app.saving import Corrections
from tests.inference.app.conftest import POINTS, add

MORE = Click(30, 10)


def rows_of(folder):
    return list(store.read(folder / "clicks"))


def test_a_correction_becomes_a_row(answered, tmp_path):
    layer = answered.edit((Part(POINTS), Part((MORE,))))
    folder = tmp_path / "out"
    assert not Corrections(folder, DEFAULT).save(answered, layer)
    (row,) = rows_of(folder)
    assert row.clicks == (*POINTS, MORE)
    assert row.parts == (2, 1)
    assert row.query == "the tank"
    assert row.task == "referring"
    assert (masks.decode_rle(row.mask) == layer.decoded.mask).all()
    assert len(row.ious) == 3
    assert row.ious[-1] == 1.0
    assert store.read_manifest(folder / "clicks")["samples"] == 1
    pixels = read_recorded(folder, row.image, (row.height, row.width))
    assert (pixels == answered.opened.pixels).all()


def test_training_uses_the_row(answered, tmp_path):
    Corrections(tmp_path / "out", DEFAULT).save(answered, answered.layer)
    left_out = Counter()
    used = list(chat_rows.usable(rows_of(tmp_path / "out"), max_clicks=6, min_iou=0.5, left_out=left_out))
    assert len(used) == 1
    assert not left_out
    image = chat_rows.ImagePaths(tmp_path / "out")[used[0].row.image]
    assert image.endswith(".png")


def test_no_clicks_are_an_answer_without_target(answered, tmp_path):
    answered.edit(())
    Corrections(tmp_path / "out", DEFAULT).save(answered, answered.layer)
    (row,) = rows_of(tmp_path / "out")
    assert row.task == "no_target"
    assert row.clicks == ()
    assert not masks.decode_rle(row.mask).any()
    assert not store.why_left_out(row, 0, 0.5)


def test_the_same_query_is_replaced_and_others_are_added(answered, tmp_path):
    folder = tmp_path / "out"
    corrections = Corrections(folder, DEFAULT)
    corrections.save(answered, answered.layer)
    layer = answered.edit((Part((MORE,)),))
    assert corrections.save(answered, layer)
    add(answered, (Part(POINTS),), "the pond")
    # Another process continues the store.
    assert not Corrections(folder, DEFAULT).save(answered, answered.layer)
    assert [(row.query, row.clicks) for row in rows_of(folder)] == [
        ("the tank", (MORE,)),
        ("the pond", POINTS),
    ]
    assert len(list((folder / "images").iterdir())) == 1


def test_what_cannot_be_taught_is_refused(answered, tmp_path):
    corrections = Corrections(tmp_path / "out", DEFAULT)
    with pytest.raises(GeoClickError, match="no positive click"):
        corrections.save(answered, answered.edit((Part((Click(1, 1, False),)),)))
    layer = answered.edit((Part((MORE,)),))
    empty = layer.decoded._replace(mask=np.zeros_like(layer.decoded.mask))
    object.__setattr__(layer, "decoded", empty)
    with pytest.raises(GeoClickError, match="mask is empty"):
        corrections.save(answered, layer)
    assert not (tmp_path / "out").exists()


def test_an_image_that_has_changed_is_refused(answered, tmp_path):
    images.write_png(answered.opened.path, 255 - answered.opened.pixels)
    with pytest.raises(GeoClickError, match="has changed since it was opened"):
        Corrections(tmp_path / "out", DEFAULT).save(answered, answered.layer)
    assert not (tmp_path / "out").exists()


def test_another_rule_for_pixels_is_refused(answered, tmp_path):
    Corrections(tmp_path / "out", DEFAULT).save(answered, answered.layer)
    with pytest.raises(UsageError, match="other --bands or --stretch"):
        Corrections(tmp_path / "out", PixelOptions((3, 2, 1)))
