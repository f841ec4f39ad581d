"""The names of the files of `geoclick predict`."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from geoclick.inference.predictions import output_files


@given(st.lists(st.sampled_from(["a.png", "d/a.png", "a.jpg", "A.png", "a-2.png", "b.png"]), max_size=8))
def test_stems_are_unique(names):
    paths = [Path(name) for name in names]
    stems = output_files.output_stems(paths)
    assert len({stem.lower() for stem in stems}) == len(names)
    assert stems == output_files.output_stems(paths)
    assert all(stem.startswith(path.stem) for stem, path in zip(stems, paths, strict=True))
