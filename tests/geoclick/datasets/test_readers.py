from geoclick.datasets import NAMES
from geoclick.datasets.benchmarks import BENCHMARKS
from geoclick.datasets.readers import READERS


def test_every_name_has_a_reader():
    assert set(READERS) == set(NAMES)
    assert set(BENCHMARKS) <= set(NAMES)
    assert len(set(NAMES)) == len(NAMES)
