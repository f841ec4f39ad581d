"""Clicks and the options to write them, for the tests of the codec."""

from hypothesis import strategies as st

from geoclick import codec
from geoclick.clicks import Click

RELATIVE = {"family": "qwen3_vl", "image_size": (480, 640)}
JSON = {**RELATIVE, "answer_format": "json"}
COMPACT = {**RELATIVE, "answer_format": "compact"}
sides = st.integers(1, 6000)
options = st.fixed_dictionaries(
    {
        "family": st.sampled_from(codec.FAMILIES),
        "answer_format": st.sampled_from(codec.FORMATS),
        "image_size": st.tuples(sides, sides),
        "resized_size": st.tuples(sides, sides),
    }
)


@st.composite
def answers(draw, max_clicks=16):
    """Clicks anywhere in an image, with the options to write them."""
    kwargs = draw(options)
    height, width = kwargs["image_size"]
    x = st.integers(0, width - 1) | st.floats(0, width - 1)
    y = st.integers(0, height - 1) | st.floats(0, height - 1)
    clicks = draw(st.lists(st.builds(Click, x, y, st.booleans()), max_size=max_clicks))
    return clicks, kwargs


def quanta(family, image_size, resized_size, **_):
    text = resized_size if family == "qwen2_5_vl" else (1000, 1000)
    return [side / other for side, other in zip(image_size, text, strict=True)]
