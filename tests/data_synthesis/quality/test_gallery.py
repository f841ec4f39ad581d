import numpy as np
import pytest

from geoclick import pages
from geoclick.clicks import Click
from geoclick.data_synthesis.quality.flags import DUPLICATE, SLIVER, Duplicates
from geoclick.data_synthesis.quality.gallery import (
    ALL,
    MAX_GROUPS,
    GallerySizes,
    draw_galleries,
    duplicate_figure,
    largest_groups,
    required_rows,
    sample_figure,
    select,
)
from geoclick.errors import GeoClickError
from tests.data_synthesis.click_rows import make_row, measure, random_rows, write_images

SIZES = GallerySizes(worst=6, worst_per_group=2, seed=0)
SQUARE = np.ones((20, 30), bool)


def nothing_flagged(count):
    return {DUPLICATE: np.zeros(count, bool), SLIVER: np.zeros(count, bool)}


def test_the_worst_samples_come_first_in_the_order_of_the_store():
    ious = [0.9, 0.4, 0.7, 0.4, 0.8]
    rows = [make_row(SQUARE, [Click(4, 4)], [iou], sample_id=str(i)) for i, iou in enumerate(ious)]
    rows.insert(0, make_row(np.zeros((20, 30), bool), sample_id="no target"))
    chosen = select(measure(rows), nothing_flagged(6), GallerySizes(3, 2, 0))
    assert chosen[ALL] == [2, 4, 3]
    assert select(measure(rows), nothing_flagged(6), GallerySizes(0, 0, 0))[ALL] == []


def test_each_group_shows_its_own_worst():
    rows = random_rows(0, 80)
    measures = measure(rows)
    chosen = select(measures, nothing_flagged(80), SIZES)
    for name in ("one", "two"):
        mine = [i for i, row in enumerate(rows) if row.dataset == name and row.task != "no_target"]
        assert chosen["dataset", name] == sorted(mine, key=lambda i: (max(rows[i].ious, default=0), i))[:2]
    assert ("category", "") not in chosen
    assert chosen["task", "no_target"] == []


def test_only_the_largest_groups_are_shown_and_a_single_one_is_not():
    rows = [make_row(SQUARE, category=f"c{i % 40:02d}") for i in range(70)]
    shown = largest_groups(measure(rows), "category")
    assert shown == [f"c{i:02d}" for i in range(MAX_GROUPS)]
    assert largest_groups(measure(rows), "task") == []


def test_examples_of_flags_depend_on_the_seed_only():
    measures = measure(random_rows(0, 80))
    flags = {DUPLICATE: np.arange(80) % 2 == 0, SLIVER: np.arange(80) == 3}
    first, again, other = (select(measures, flags, GallerySizes(6, 2, seed)) for seed in (0, 0, 1))
    assert first == again
    assert first[DUPLICATE, ""] != other[DUPLICATE, ""]
    assert len(set(first[DUPLICATE, ""])) == 6
    assert all(place % 2 == 0 for place in first[DUPLICATE, ""])
    assert first[SLIVER, ""] == [3]


def test_texts_of_a_sample_are_escaped_on_the_page(tmp_path):
    hostile = "<script>alert('x')</script><img src=x onerror=\"y\">"
    row = make_row(SQUARE, [Click(4, 4)], [0.5], query=hostile, sample_id=hostile, category=hostile)
    write_images(tmp_path, [row])
    source = '{% from "macros.html" import figures %}{{ figures([figure]) }}'
    single, repeated = (
        pages.environment().from_string(source).render(figure=figure)
        for figure in (sample_figure(row, tmp_path), duplicate_figure(row, row, tmp_path, 0.97))
    )
    for html in (single, repeated):
        assert "<script" not in html
        assert "<img src=x" not in html
        assert "&lt;script&gt;" in html
        assert html.count("data:image/jpeg;base64,") == 2
    assert "IoU 0.50" in single
    assert "IoU 0.970" in repeated
    assert "the same query" in repeated


def test_a_gallery_draws_each_sample_once_and_the_earlier_one_of_a_duplicate(tmp_path):
    rows = [make_row(SQUARE, [Click(4, 4)], [0.5], sample_id=f"sample-{i}") for i in range(3)]
    write_images(tmp_path, rows)
    galleries = {ALL: [2, 0], ("category", "x"): [2], (DUPLICATE, ""): [2]}
    duplicates = Duplicates(np.array([-1, -1, 1]), np.array([0, 0, 0.96]))
    assert required_rows(galleries, duplicates) == {0, 1, 2}
    advanced = []
    drawn = draw_galleries(galleries, dict(enumerate(rows)), tmp_path, duplicates, lambda: advanced.append(1))
    assert len(advanced) == 4
    assert ["sample-2" in figure.notes[1] for figure in drawn[ALL]] == [True, False]
    assert "sample-0" in drawn[ALL][1].notes[1]
    assert drawn["category", "x"] == drawn[ALL][:1]
    assert "sample-1" in drawn[DUPLICATE, ""][0].notes[0]
    assert not any("sample-1" in note for figure in drawn[ALL] for note in figure.notes)


def test_no_picture_is_read_outside_the_root(tmp_path):
    row = make_row(SQUARE, image="../secret.png")
    write_images(tmp_path / "root", [row])
    with pytest.raises(GeoClickError, match="leads out of"):
        sample_figure(row, tmp_path / "root")
