"""HTML pages: `pages.render("demo.html", **values)` fills a template of this package and returns the page.

A page is one file. It loads nothing from elsewhere and has no script; autoescape keeps text from outside (queries,
answers, names) text.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import jinja2
from markupsafe import Markup

FOLDER = Path(__file__).parent
DASH = "\u2013"
"""Shown where there is no value."""


def number(value: float | None, digits: int = 3) -> str:
    """A number with `digits` digits after the point."""
    return DASH if value is None else _plain_zero(f"{value:.{digits}f}")


def signed(value: float | None, digits: int = 3) -> str:
    """A number with its sign, which a number that is rounded to zero has not."""
    return DASH if value is None else _plain_zero(f"{value:+.{digits}f}")


def percent(value: float | None) -> str:
    """A share of 1 in percent."""
    return DASH if value is None else f"{100 * value:.1f} %"


def interval(ends: Sequence[float] | None) -> str:
    """Both ends of an interval."""
    return DASH if ends is None else f"{number(ends[0])} to {number(ends[1])}"


def signed_interval(ends: Sequence[float] | None) -> str:
    """Both ends of an interval with their signs."""
    return DASH if ends is None else f"{signed(ends[0])} to {signed(ends[1])}"


def excludes_zero(ends: Sequence[float] | None) -> bool:
    """Whether zero lies outside an interval, so that a difference with it is significant."""
    return ends is not None and (ends[0] > 0 or ends[1] < 0)


def _plain_zero(text: str) -> str:
    """The text of a number, without its sign if all its digits are zeros."""
    return text if text.strip("+-0.") else text.lstrip("+-")


@cache
def environment() -> jinja2.Environment:
    """The templates, with the functions above as filters; an undefined name is an error."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {f.__name__: f for f in (number, signed, percent, interval, signed_interval)}
    made.tests["significant"] = excludes_zero
    made.globals["style"] = Markup((FOLDER / "style.css").read_text(encoding="utf-8"))
    return made


def render(template: str, **values: object) -> str:
    """A page, or an SVG, as text.

    Args:
        template: its file name, such as `demo.html`.
        values: the template's variables; strings are escaped, `Markup` is inserted as it is.
    """
    return environment().get_template(template).render(**values)
