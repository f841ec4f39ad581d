import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from geoclick.prepare import JOBS
from geoclick.prepare.tiling import cut, windows
from geoclick.scenes.copies.raw import VAIHINGEN_SIZES

VAIHINGEN_TRAIN_SIZES = {
    **dict.fromkeys(("area5", "area7"), (2557, 1887)),
    **dict.fromkeys(("area21", "area23"), (2546, 1903)),
    "area1": (2569, 1919),
    "area3": (3007, 2006),
    "area11": (2566, 1893),
    "area13": (2558, 2818),
    "area15": (2565, 1919),
    "area17": (1281, 2336),
    "area26": (1783, 2995),
    "area28": (2567, 1917),
    "area30": (2563, 1934),
    "area32": (2555, 1980),
    "area34": (2555, 1388),
    "area37": (1995, 1996),
}


def count(job, size):
    return len(windows(size, JOBS[job].tile, JOBS[job].overlap))


def test_the_published_counts_come_out_of_the_true_sizes():
    assert count("potsdam", (6000, 6000)) == 144
    assert count("inria", (5000, 5000)) == 25
    for job, side in (("potsdam", 6000), ("inria", 5000)):
        for split in JOBS[job].splits.values():
            assert len(set(split.names)) == split.images
            assert split.images * count(job, (side, side)) == split.tiles
    for name, sizes in (("val", VAIHINGEN_SIZES), ("train", VAIHINGEN_TRAIN_SIZES)):
        split = JOBS["vaihingen"].splits[name]
        assert set(sizes) == set(split.names)
        assert sum(count("vaihingen", size) for size in sizes.values()) == split.tiles


def test_frames_of_uavid_are_cut_by_1080_rows_and_1280_columns():
    assert count("uavid", (2160, 3840)) == 6
    assert count("uavid", (2160, 4096)) == 8
    assert {w[2:] for w in windows((2160, 4096), JOBS["uavid"].tile)} == {(1080, 1280)}


def shifted(length, side, step):
    """Every multiple of the step, moved back until the tile ends inside: the rule of mmsegmentation's converters."""
    return sorted({max(0, min(begin, length - side)) for begin in range(0, length, step)})


@given(st.integers(1, 4000), st.integers(1, 4000), st.sampled_from(list(JOBS)))
def test_windows_are_those_of_mmsegmentation(height, width, name):
    job = JOBS[name]
    tile = job.tile or (height, width)
    rows, columns = (
        shifted(length, side, side - job.overlap) for length, side in zip((height, width), tile, strict=True)
    )
    assert windows((height, width), job.tile, job.overlap) == [(r, c, *tile) for r in rows for c in columns]


def test_a_window_that_reaches_beyond_is_filled_up():
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    (window,) = windows((3, 4), (5, 6))
    tile = cut(pixels, window, 255)
    assert tile.shape == (5, 6)
    assert np.array_equal(tile[:3, :4], pixels)
    assert (tile[3:] == 255).all()
    assert (tile[:, 4:] == 255).all()
    assert cut(np.ones((3, 4, 3), np.uint8), window, 0).sum() == 36
