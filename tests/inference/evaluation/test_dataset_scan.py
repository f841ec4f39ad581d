import dataclasses

import pytest

from geoclick.datasets import LeftOut
from geoclick.errors import GeoClickError
from geoclick.inference.evaluation.dataset_scan import scan
from tests.inference.evaluation.test_run_folder import samples


def test_images_are_counted_and_every_change_alters_a_hash():
    given = samples(7, images=3)
    result = scan(iter(given))
    assert result.ids == [f"s{i}" for i in range(7)]
    assert (result.images, result.sizes) == (3, ((2, 2), (2, 2)))
    for change in ({"query": "other"}, {"image": "9.png"}, {"valid_rle": given[0].rle}, {"sample_id": "x"}):
        other = scan([dataclasses.replace(given[0], **change), *given[1:]])
        assert other.samples_sha256 != result.samples_sha256
        assert (other.images_sha256 != result.images_sha256) == ("image" in change)
    assert scan(given[::-1]).images_sha256 != result.images_sha256


def test_the_smallest_and_the_largest_image_are_by_area():
    given = [
        dataclasses.replace(s, size=size)
        for s, size in zip(samples(3), [(9, 1), (2, 3), (5, 5)], strict=True)
    ]
    assert scan(given).sizes == ((2, 3), (5, 5))


def test_no_samples_and_duplicate_ids_are_errors():
    with pytest.raises(GeoClickError, match="no sample to score"):
        scan([])
    with pytest.raises(GeoClickError, match="id s0"):
        scan(samples(1) * 2)


def test_left_out_samples_are_counted_by_reason():
    left_out = []

    def reading():
        for i, sample in enumerate(samples(4)):
            left_out.append(
                LeftOut(f"{i}.png", "broken image", "Fix the file.")
                if i % 2
                else LeftOut("x", "small", count=3)
            )
            yield sample

    result = scan(reading(), left_out)
    assert result.broken == {"broken image": 2}
    assert result.left_out == {"small": 6}
