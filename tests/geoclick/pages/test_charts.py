import base64
import io
import re
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from geoclick.data_synthesis.quality.figures import spread
from geoclick.pages.charts import HEIGHT, WIDTH, bar_chart, data_uri, heat_map, iou_chart


def shapes(svg, tag):
    return [s for s in ElementTree.fromstring(svg).iter() if s.tag == tag]


def decoded(element):
    return Image.open(io.BytesIO(base64.b64decode(re.search(r'base64,([^"]+)"', element)[1])))


def test_a_better_iou_is_drawn_higher_and_each_box_between_its_quantiles():
    values = [np.array([0.1, 0.3, 0.5]), np.array([0.6, 0.8, 0.9])]
    after = [{"clicks": k, **spread(v)} for k, v in enumerate(values, start=1)]
    svg = iou_chart(after)
    low, high = (float(dot.get("cy")) for dot in shapes(svg, "circle"))
    assert 0 < high < low < HEIGHT
    for box, block in zip(shapes(svg, "rect"), after, strict=True):
        top, tall = float(box.get("y")), float(box.get("height"))
        # A tenth of IoU is as tall everywhere.
        assert abs(tall / (block["q75"] - block["q25"]) - (low - high) / (values[1].mean() - 0.3)) < 1
        assert top >= 0


def test_bars_are_as_tall_as_their_values_and_stay_in_the_picture():
    svg = bar_chart(
        "bars", ["a", "b", "c"], [("x", "#000000", [0, 2, 4]), ("y", "#ffffff", [1, 3, 0])], "axis"
    )
    tall = [float(bar.get("height")) for bar in shapes(svg, "rect")]
    assert tall[0] == tall[5] == 0
    assert tall[4] == max(tall)
    assert tall[2] / tall[4] == 0.5
    for bar in shapes(svg, "rect"):
        assert 0 <= float(bar.get("x")) <= WIDTH - float(bar.get("width"))
        assert 0 <= float(bar.get("y")) <= HEIGHT - float(bar.get("height"))


def test_words_of_a_chart_are_text():
    svg = bar_chart('"><script>', ["<b>"], [("</title><script>", "#000000", [1])], "<i>")
    assert {tag.tag for tag in ElementTree.fromstring(svg).iter()} <= {
        "svg",
        "path",
        "g",
        "title",
        "rect",
        "text",
    }
    assert "<script>" not in svg


def test_a_map_is_white_where_nothing_is_and_full_where_most_is():
    counts = np.zeros((4, 4), int)
    counts[1, 2], counts[3, 0] = 8, 4
    element = heat_map(counts.tolist(), "#dc2626")
    pixels = np.asarray(decoded(element))
    assert pixels.shape == (4, 4, 3)
    assert pixels[1, 2].tolist() == [0xDC, 0x26, 0x26]
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert 0x26 < pixels[3, 0, 1] < 255
    assert "66.7 %" in element
    assert (np.asarray(decoded(heat_map([[0, 0], [0, 0]], "#dc2626"))) == 255).all()


def test_a_picture_comes_back_from_its_address():
    picture = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))
    found = decoded(f'"{data_uri(picture, "PNG")}"')
    assert np.array_equal(np.asarray(found), np.asarray(picture))
