import dataclasses
import re

import pytest

from geoclick.datasets import NAMES, ReadOptions
from geoclick.errors import UsageError
from geoclick.options import DatasetOptions


def test_the_defaults_are_those_of_the_readers():
    assert DatasetOptions().reading() == ReadOptions()


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_area_fraction": 0.0},
        {"max_area_fraction": 1.5},
        {"bands": (1, 2)},
        {"stretch": (2.0,)},
        {"stretch": (98.0, 2.0)},
        {"stretch": (2.0, 101.0)},
    ],
)
def test_what_no_reader_can_use_is_refused(wrong):
    name = next(iter(wrong))
    with pytest.raises(UsageError, match=f"--{name.replace('_', '-')}"):
        DatasetOptions(**wrong).reading()


def test_the_help_names_every_dataset():
    (dataset,) = (field for field in dataclasses.fields(DatasetOptions) if field.name == "dataset")
    named = set(re.findall(r"[a-z][a-z0-9-]+", dataset.metadata["help"]))
    assert named >= set(NAMES)
