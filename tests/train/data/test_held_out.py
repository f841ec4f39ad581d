from dataclasses import replace

import pytest

from geoclick import store
from geoclick.errors import GeoClickError
from geoclick.train.data import held_out
from tests import tiny


@pytest.fixture(scope="module")
def clicks(tmp_path_factory):
    folder, root = tiny.click_store(tmp_path_factory.mktemp("store"), rows=12)
    return list(store.read(folder)), root


def several_queries(rows):
    """The rows, with one image for every three of them."""
    return [replace(row, image=rows[i - i % 3].image, query=f"{row.query} {i}") for i, row in enumerate(rows)]


def test_all_samples_of_an_image_are_selected_in_any_order_of_the_rows(clicks):
    rows, root = several_queries(clicks[0]), clicks[1]
    chosen = held_out.select(rows, root, 4)
    images = {sample.image for sample in chosen}
    assert len(images) == 2
    assert len(chosen) == sum(row.image in images for row in rows) == 6
    backwards = held_out.select(rows[::-1], root, 4)
    assert {sample.sample_id for sample in backwards} == {sample.sample_id for sample in chosen}


def test_more_samples_add_images_and_keep_those_before(clicks):
    rows, root = clicks
    few, many = (held_out.select(rows, root, count) for count in (4, 9))
    assert (len(few), len(many)) == (4, 10)
    assert [sample.sample_id for sample in many][:4] == [sample.sample_id for sample in few]
    assert len(held_out.select(rows, root, 99)) == 12


def test_sequences_on_one_target_are_one_sample_with_its_mask(clicks):
    rows, root = clicks
    twice = [*rows, *(replace(row, sample_id=f"{row.sample_id}#2") for row in rows)]
    chosen = held_out.select(twice, root, 99)
    assert len(chosen) == 12
    by_id = {row.sample_id: row for row in rows}
    for sample in chosen:
        row = by_id[sample.sample_id]
        assert (sample.rle, sample.query, sample.size) == (row.mask, row.query, (row.height, row.width))
        assert sample.read_image().shape == (row.height, row.width, 3)


def test_a_missing_image_is_one_sentence(clicks, tmp_path):
    with pytest.raises(GeoClickError, match="does not exist though the click store names it"):
        held_out.select(clicks[0], tmp_path, 1)
