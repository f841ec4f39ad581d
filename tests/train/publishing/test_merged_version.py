import pytest

from geoclick.train.publishing.merged_config import OLDEST, oldest
from geoclick.vlms.families import FAMILIES
from geoclick.vlms.loading import OLDEST_TRANSFORMERS


@pytest.mark.parametrize("family", FAMILIES)
def test_the_oldest_version_is_one_that_has_loaded_the_family(family):
    early = family in ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
    assert oldest(family) == (OLDEST if early else OLDEST_TRANSFORMERS)
