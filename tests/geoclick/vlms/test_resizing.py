from hypothesis import given
from hypothesis import strategies as st
from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

from geoclick.vlms import loading
from geoclick.vlms.resizing import FACTOR, FAMILY, LIMITS, resized_size
from tests import tiny


def test_the_factor_is_the_side_of_a_visual_token(tmp_path):
    images = loading.load_processor(tiny.FOLDERS[FAMILY](tmp_path)).image_processor
    assert images.patch_size * images.merge_size == FACTOR


@given(st.integers(1, 9000), st.integers(1, 9000))
def test_sizes_are_multiples_within_the_limits_and_only_narrow_images_are_refused(height, width):
    resized = resized_size((height, width))
    if max(height, width) > 200 * min(height, width):
        assert resized is None
        return
    assert resized[0] % FACTOR == resized[1] % FACTOR == 0
    assert LIMITS[0] <= resized[0] * resized[1] <= LIMITS[1]


@given(
    st.integers(1, 9000), st.integers(1, 9000), st.sampled_from([LIMITS, (3136, 589824), (200704, 401408)])
)
def test_the_size_is_that_of_transformers(height, width, limits):
    if max(height, width) <= 200 * min(height, width):
        expected = smart_resize(height, width, factor=FACTOR, min_pixels=limits[0], max_pixels=limits[1])
        assert resized_size((height, width), limits) == expected


def test_limits_may_be_given():
    assert resized_size((1000, 1000)) == (1008, 1008)
    assert resized_size((1000, 1000), (3136, 589824)) == (756, 756)
