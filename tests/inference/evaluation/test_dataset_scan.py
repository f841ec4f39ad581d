import dataclasses

import pytest

from geoclick.errors import GeoClickError
from geoclick.inference.evaluation.dataset_scan import survey
from tests.inference.evaluation.test_run_folder import samples


def test_it_counts_images_and_tells_every_change():
    given = samples(7, images=3)
    found = survey(iter(given))
    assert found.ids == [f"s{i}" for i in range(7)]
    assert (found.images, found.sizes) == (3, ((2, 2), (2, 2)))
    for change in ({"query": "other"}, {"image": "9.png"}, {"valid_rle": given[0].rle}, {"sample_id": "x"}):
        other = survey([dataclasses.replace(given[0], **change), *given[1:]])
        assert other.samples_sha256 != found.samples_sha256
        assert (other.images_sha256 != found.images_sha256) == ("image" in change)
    assert survey(given[::-1]).images_sha256 != found.images_sha256


def test_the_smallest_and_the_largest_image_are_by_area():
    given = [
        dataclasses.replace(s, size=size)
        for s, size in zip(samples(3), [(9, 1), (2, 3), (5, 5)], strict=True)
    ]
    assert survey(given).sizes == ((2, 3), (5, 5))


def test_nothing_and_twice_the_same_are_refused():
    with pytest.raises(GeoClickError, match="no sample to score"):
        survey([])
    with pytest.raises(GeoClickError, match="id s0"):
        survey(samples(1) * 2)
