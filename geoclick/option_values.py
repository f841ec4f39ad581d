"""The values of options: what an annotation allows, text to values, and the ranges of numbers."""

import re
import types
import typing
from typing import Any, NamedTuple

from geoclick import plain_text
from geoclick.errors import UsageError
from geoclick.yaml_file import Scalar, Yaml, quoted

MAX_BITS = 64
"""Bits of the largest integer of a file."""
LARGEST_INTEGER = 2**31 - 1
LARGEST_NUMBER = 1e9
"""Largest values of integers and of other numbers, of either sign, where an option has no `maximum`."""
LONGEST_TEXT = 100_000
"""Largest number of characters of a value."""

NUMBER = re.compile(
    r"\s*[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?\s*|\s*[-+]?(inf|infinity|nan)\s*", re.IGNORECASE
)
"""A number in text; Python also reads digits of other scripts, and `_` between digits."""

Value = Scalar | tuple["Value", ...] | None
"""The value of an option."""


class Kind(NamedTuple):
    """What an annotation allows.

    Attributes:
        plain: type of a single value.
        many: whether several values are allowed (`tuple[T, ...]`).
        optional: whether None is allowed.
    """

    plain: type
    many: bool
    optional: bool


def kind_of(annotation: Any) -> Kind:
    """The kind of an annotation such as `int`, `str | None` or `tuple[float, ...]`."""
    optional = typing.get_origin(annotation) in (types.UnionType, typing.Union)
    if optional:
        annotation = next(a for a in typing.get_args(annotation) if a is not type(None))
    if typing.get_origin(annotation) is tuple:
        return Kind(typing.get_args(annotation)[0], True, optional)
    return Kind(annotation, False, optional)


def convert(value: Yaml, kind: Kind, key: str) -> Value:
    """A value of a YAML file or flag in the right type; raises UsageError if it does not fit."""
    if value is None:
        if kind.optional:
            return None
        raise UsageError(f"{key} needs a value of type {kind.plain.__name__}, not an empty one.")
    if not kind.many:
        return _convert_scalar(value, kind.plain, key)
    values = value if isinstance(value, list) else [value]
    return tuple(convert(one, Kind(kind.plain, False, False), key) for one in values)


def _convert_scalar(value: Yaml, plain: type, key: str) -> Scalar:
    wrong = UsageError(f"{key} must be of type {plain.__name__}, not {quoted(value)}.")
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        raise wrong
    if plain is bool:
        if str(value).lower() in ("true", "yes", "1", "false", "no", "0"):
            return str(value).lower() in ("true", "yes", "1")
        raise UsageError(f"{key} must be true or false, not {quoted(value)}.")
    # int() would truncate 1.5 and take true for 1, and str() would accept a list.
    if isinstance(value, list | dict) or (plain is int and isinstance(value, float) and value % 1):
        raise wrong
    if plain is not str and (
        isinstance(value, bool) or (isinstance(value, str) and not NUMBER.fullmatch(value))
    ):
        raise wrong
    try:
        converted = plain(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise wrong from error
    if isinstance(converted, str) and (reason := plain_text.fault(converted, LONGEST_TEXT)):
        raise UsageError(f"{key} {reason}; give another value.")
    return converted


def check_range(value: float, flag: str, minimum: float | None, maximum: float | None) -> None:
    """Raise UsageError for a number out of the range of its option.

    Args:
        value: the number.
        flag: the option's flag.
        minimum: smallest allowed number; None for the negative of the largest.
        maximum: largest allowed number; None for LARGEST_INTEGER or LARGEST_NUMBER.
    """
    largest = (
        maximum if maximum is not None else LARGEST_INTEGER if isinstance(value, int) else LARGEST_NUMBER
    )
    smallest = minimum if minimum is not None else -largest
    if smallest <= value <= largest:
        return
    # `not >=` rejects NaN too.
    if maximum is None and minimum is not None and not value >= minimum:
        raise UsageError(f"{flag} must be {minimum} or more, not {quoted(value)}.")
    raise UsageError(f"{flag} must be from {smallest:.10g} to {largest:.10g}, not {quoted(value)}.")
