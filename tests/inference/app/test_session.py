"""The masks of edited clicks are those of `geoclick predict`, and the image is encoded once."""

import threading
from dataclasses import replace

import numpy as np
import pytest

from geoclick.clicks import Click
from geoclick.codec import Part
from geoclick.errors import GeoClickError
from geoclick.geo.georeference import Georeference
from geoclick.inference.app import editing
from geoclick.inference.app.session import MAX_LAYERS, EncodedImage, Session
from geoclick.inference.generative import mask_decoding
from tests.inference.app.conftest import POINTS, add

MORE = Click(30, 10)


def predicted(session, parts):
    return mask_decoding.decode_objects(session.segmenter._segmenter, [session.opened.pixels], [parts])[0]


def test_edits_give_the_masks_of_predict(answered):
    assert (answered.layer.decoded.mask == predicted(answered, (Part(POINTS),)).mask).all()
    for parts in ((Part((*POINTS, MORE)),), (Part(POINTS), Part((MORE,)))):
        layer = answered.edit(parts)
        want = predicted(answered, parts)
        assert (layer.decoded.mask == want.mask).all()
        assert layer.decoded.score == pytest.approx(want.score, abs=1e-5)
        assert len(layer.decoded.instances) == len(want.instances)
        assert layer.is_edited
    assert not answered.edit((Part(POINTS),)).is_edited
    assert answered.edits == 3


def test_no_clicks_give_an_empty_mask(answered):
    assert not answered.edit(()).decoded.mask.any()


def test_the_image_is_encoded_once(opened, segmenter, monkeypatch):
    calls = []
    embed = segmenter.embed
    monkeypatch.setattr(segmenter, "embed", lambda images: calls.append(len(images)) or embed(images))
    session = Session(opened, EncodedImage(segmenter, opened.pixels))
    add(session, (Part(POINTS),), "a")
    session.edit((Part((*POINTS, MORE)),))
    session.segmenter.embed([opened.pixels])
    assert calls == [1]


def test_pixels_without_data_are_in_no_mask(opened, segmenter):
    valid = np.zeros(opened.size, bool)
    place = Georeference("", None, valid, "it is not georeferenced")
    session = Session(replace(opened, place=place), EncodedImage(segmenter, opened.pixels))
    add(session, (Part(POINTS), Part((MORE,))), "a")
    assert not session.layer.decoded.mask.any()
    assert all(one.area == 0 for one in session.edit((Part(POINTS), Part((MORE,)))).decoded.instances)


def test_layers_are_chosen_shown_and_removed(answered):
    add(answered, (Part((MORE,)),), "the pond")
    assert [one.label for one in answered.layers] == ["1. the tank", "2. the pond"]
    assert answered.chosen == 2
    answered.show([1])
    assert [one.shown for one in answered.layers] == [True, False]
    answered.remove()
    assert answered.layer.query == "the tank"
    answered.remove()
    with pytest.raises(GeoClickError, match="no answer yet"):
        answered.remove()


def test_edited_answers_stay_when_there_are_too_many(answered):
    answered.edit((Part((MORE,)),))
    removed = []
    for number in range(MAX_LAYERS):
        removed += answered.make_room(1)
        add(answered, (Part(POINTS),), f"q{number}")
    assert removed == ["2. q0"]
    assert len(answered.layers) == MAX_LAYERS
    assert answered.layers[0].query == "the tank"


def test_no_edited_answer_is_removed_for_a_new_one(answered):
    for number in range(MAX_LAYERS - 1):
        add(answered, (Part(POINTS),), f"q{number}")
    for layer in answered.layers:
        answered.choose(layer.number)
        answered.edit((Part((MORE,)),))
    with pytest.raises(GeoClickError, match=f"at most {MAX_LAYERS} answers"):
        answered.make_room(1)
    assert len(answered.layers) == MAX_LAYERS


def test_a_layer_that_is_gone_is_not_chosen(answered):
    with pytest.raises(GeoClickError, match="is gone"):
        answered.choose(7)
    assert answered.layer.query == "the tank"


def test_parts_are_hidden_until_they_change(answered):
    answered.edit((Part(POINTS), Part((MORE,))))
    answered.show_parts([1])
    assert answered.layer.hidden == {0}
    # An edit of the other part leaves the first one hidden, an edit of the first one shows it.
    answered.edit((Part(POINTS), Part((Click(31, 10),))))
    assert answered.layer.hidden == {0}
    answered.edit((Part(POINTS[:1]), Part((Click(31, 10),))))
    assert answered.layer.hidden == frozenset()
    answered.show_parts([])
    assert answered.edit((Part(POINTS),)).hidden == frozenset()


def test_edits_at_the_same_time_are_not_lost(answered):
    """Each thread adds clicks under the session's lock, as the page does."""

    def work(row):
        for column in range(5):
            with answered.lock:
                answered.edit(editing.add(answered.layer.parts, Click(column, row), 0))

    threads = [threading.Thread(target=work, args=(row,)) for row in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answered.layer.parts[0].clicks) == len(POINTS) + 20
