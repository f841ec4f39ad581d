import re
from xml.etree import ElementTree

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from geoclick.data_synthesis.quality.figures import spread
from geoclick.pages.charts import HEIGHT, WIDTH, Series, bar_chart, box_plot, heat_map, iou_histogram
from tests.geoclick.pages.decoding import decoded


def shapes(svg, tag):
    return [s for s in ElementTree.fromstring(svg).iter() if s.tag == tag]


def test_boxes_are_drawn_between_their_quantiles():
    values = [np.array([0.1, 0.3, 0.5]), np.array([0.6, 0.8, 0.9])]
    boxes = {str(k): spread(v) for k, v in enumerate(values, start=1)}
    svg = box_plot("IoU after each number of clicks", "clicks", boxes)
    low, high = (float(dot.get("cy")) for dot in shapes(svg, "circle"))
    assert 0 < high < low < HEIGHT
    for box, block in zip(shapes(svg, "rect"), boxes.values(), strict=True):
        top, tall = float(box.get("y")), float(box.get("height"))
        # A tenth of IoU is as tall everywhere.
        assert abs(tall / (block["q75"] - block["q25"]) - (low - high) / (values[1].mean() - 0.3)) < 1
        assert top >= 0


def test_bars_are_as_high_as_their_values_and_inside_the_picture():
    series = [Series("x", "#000000", [0, 2, 4]), Series("y", "#ffffff", [1, 3, 0])]
    svg = bar_chart("bars", ["a", "b", "c"], series, "axis")
    tall = [float(bar.get("height")) for bar in shapes(svg, "rect")]
    assert tall[0] == tall[5] == 0
    assert tall[4] == max(tall)
    assert tall[2] / tall[4] == 0.5
    for bar in shapes(svg, "rect"):
        assert 0 <= float(bar.get("x")) <= WIDTH - float(bar.get("width"))
        assert 0 <= float(bar.get("y")) <= HEIGHT - float(bar.get("height"))


def test_texts_of_a_chart_are_escaped():
    svg = bar_chart('"><script>', ["<b>"], [Series("</title><script>", "#000000", [1])], "<i>")
    assert {tag.tag for tag in ElementTree.fromstring(svg).iter()} <= {
        "svg",
        "path",
        "g",
        "title",
        "rect",
        "text",
    }
    assert "<script>" not in svg


def test_a_heat_map_is_white_at_zero_and_saturated_at_the_maximum():
    counts = np.zeros((4, 4), int)
    counts[1, 2], counts[3, 0] = 8, 4
    picture = heat_map(counts.tolist(), "#dc2626")
    pixels = decoded(picture.source)
    assert pixels.shape == (4, 4, 3)
    assert pixels[1, 2].tolist() == [0xDC, 0x26, 0x26]
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert 0x26 < pixels[3, 0, 1] < 255
    assert "66.7 %" in picture.label
    assert (decoded(heat_map([[0, 0], [0, 0]], "#dc2626").source) == 255).all()


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60))
def test_the_histogram_counts_every_sample_once(ious):
    svg = iou_histogram(ious)
    counts = [int(re.search(r": (\d+)$", title.text)[1]) for title in shapes(svg, "title")]
    assert len(counts) == 10
    assert sum(counts) == len(ious)
    assert counts[9] >= sum(iou == 1 for iou in ious)
    heights = [float(bar.get("height")) for bar in shapes(svg, "rect")]
    assert np.argmax(heights) == np.argmax(counts)
    assert min(heights) >= 0
