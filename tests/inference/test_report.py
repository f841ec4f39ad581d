import re
from xml.etree import ElementTree

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from inference import report


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60))
def test_the_histogram_counts_every_sample_once(ious):
    svg = ElementTree.fromstring(report.histogram(ious))
    titles = [title.text for title in svg.iter("title")]
    counts = [int(re.search(r": (\d+)$", title)[1]) for title in titles]
    assert len(counts) == 10
    assert sum(counts) == len(ious)
    assert counts[9] >= sum(iou == 1 for iou in ious)
    heights = [float(bar.get("height")) for bar in svg.iter("rect")]
    assert np.argmax(heights) == np.argmax(counts)
    assert min(heights) >= 0


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans(), st.booleans()), max_size=40), st.integers(1, 6))
def test_the_gallery_is_sorted_and_keeps_to_its_groups(rows, count):
    ious = [iou for iou, _, _ in rows]
    tasks = ["no_target" if nothing else "referring" for _, nothing, _ in rows]
    groups = report.choose(ious, tasks, [predicted for _, _, predicted in rows], count)
    best, median, worst, alarms = groups.values()
    with_target = [i for i, task in enumerate(tasks) if task != "no_target"]
    assert set(best) | set(median) | set(worst) <= set(with_target)
    assert len(best) == len(median) == len(worst) == min(count, len(with_target))
    if with_target:
        assert ious[best[0]] == max(ious[i] for i in with_target)
        assert ious[worst[0]] == min(ious[i] for i in with_target)
        assert ious[best[-1]] >= ious[median[0]] >= ious[worst[-1]] or len(with_target) < 3 * count
    assert all(tasks[i] == "no_target" and rows[i][2] for i in alarms)
    assert len(alarms) <= count


def test_the_median_group_is_the_middle():
    groups = report.choose([i / 10 for i in range(11)], ["referring"] * 11, [True] * 11, 3)
    assert groups["Best"] == [10, 9, 8]
    assert groups["Median"] == [6, 5, 4]
    assert groups["Worst"] == [0, 1, 2]
