"""What an option of TRL does in a command, and the check of given options against such rules, without importing TRL."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from importlib.util import find_spec

from geoclick.errors import UsageError
from geoclick.yaml_file import Yaml

WORKS, DIFFERS, REFUSED = "works", "differs", "refused"


class Never(Enum):
    """The accepted value of options that are refused with any value."""

    NEVER = "never"


NEVER = Never.NEVER


@dataclass(frozen=True)
class Condition:
    """When an option, or one of its values, may be given.

    Attributes:
        needs: `NAME` of an option that must be set, or `NAME=VALUE`.
        without: `NAME` of an option that must not be set, or `NAME=VALUE`.
        package: that must be installed, by the name of its import.
        reason: why it may never be given.
    """

    needs: str = ""
    without: str = ""
    package: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Rule:
    """What an option of TRL does in a command.

    Attributes:
        status: WORKS as TRL documents it, DIFFERS in a way that the note states, or REFUSED.
        note: what it means here, or why it is refused: what follows its name in a sentence.
        instead: the option to use instead of a refused one.
        accepted: the value of a refused option that changes nothing.
        condition: when the option may be given.
        values: conditions of single values.
    """

    status: str
    note: str = ""
    instead: str = ""
    accepted: Yaml | Never = NEVER
    condition: Condition = Condition()
    values: Mapping[str, Condition] = field(default_factory=dict)


def works(
    *,
    needs: str = "",
    without: str = "",
    package: str = "",
    values: Mapping[str, Condition] | None = None,
) -> Rule:
    """An option that does what TRL documents."""
    return Rule(WORKS, condition=Condition(needs, without, package), values=values or {})


def differs(
    note: str,
    *,
    needs: str = "",
    without: str = "",
    package: str = "",
    values: Mapping[str, Condition] | None = None,
) -> Rule:
    """An option that means something else here."""
    return Rule(DIFFERS, note, condition=Condition(needs, without, package), values=values or {})


def refused(reason: str = "is set by GeoClick", *, instead: str = "", unless: Yaml | Never = NEVER) -> Rule:
    """An option that may not be given, unless with the value that changes nothing."""
    return Rule(REFUSED, reason, instead, unless)


def equals(value: Yaml, expected: Yaml) -> bool:
    """Whether a value, as it is in a file or as text of a flag, is an expected one."""
    text = str(value).strip().lower()
    if expected is None:
        return text in ("none", "null", "")
    if isinstance(expected, bool):
        return text in (("true", "yes", "y", "t", "1") if expected else ("false", "no", "n", "f", "0"))
    if isinstance(expected, int | float):
        try:
            return float(text) == expected
        except ValueError:
            return False
    return text == str(expected).lower()


def is_unset(value: Yaml) -> bool:
    """Whether a value turns an option off."""
    return any(equals(value, one) for one in (None, False, 0, "()"))


def of_flags(words: Iterable[str]) -> dict[str, str]:
    """The values of flags by name, as text; a flag without a value is `true`."""
    values: dict[str, str] = {}
    name = ""
    for word in words:
        if word.startswith("--"):
            name, equal, value = word.removeprefix("--").partition("=")
            name = name.replace("-", "_")
            values[name] = value if equal else "true"
        elif name:
            values[name] = word
            name = ""
    return values


def check(
    rules: Mapping[str, Rule], given: Mapping[str, Yaml], others: Mapping[str, Yaml], where: str
) -> None:
    """Refuse options that may not be given.

    Args:
        rules: by the option's name; names without a rule are left to the parser.
        given: values by name, from one source.
        others: values of all options, the command's own included.
        where: the source, for the message.

    Raises:
        UsageError: with the option, the reason and the fix.
    """
    for name, value in given.items():
        if name not in rules:
            continue
        rule = rules[name]
        if rule.status == REFUSED:
            if rule.accepted is NEVER or not equals(value, rule.accepted):
                fix = f"use {rule.instead} instead" if rule.instead else "remove it"
                raise UsageError(f"{name} in {where} {rule.note}; {fix}.")
            continue
        if not is_unset(value):
            _check_condition(rule.condition, name, others, where)
        for one, condition in rule.values.items():
            if equals(value, one):
                _check_condition(condition, f"{name} {value}", others, where)


def _check_condition(condition: Condition, what: str, others: Mapping[str, Yaml], where: str) -> None:
    if condition.reason:
        raise UsageError(f"{what} in {where} {condition.reason}; give another value.")
    if condition.package and find_spec(condition.package) is None:
        raise UsageError(
            f"{what} in {where} needs the package {condition.package}, which is not installed; install it, or remove "
            "the option."
        )
    if condition.needs and not _holds(condition.needs, others):
        raise UsageError(f"{what} in {where} has no effect without {_flag(condition.needs)}; give that, too.")
    if condition.without and _holds(condition.without, others):
        raise UsageError(
            f"{what} in {where} does not go with {_flag(condition.without)}; remove one of them."
        )


def _flag(expression: str) -> str:
    return expression.replace("=", " ")


def _holds(expression: str, others: Mapping[str, Yaml]) -> bool:
    """Whether an option is set, for `NAME`, or has a value, for `NAME=VALUE`."""
    name, has_value, value = expression.partition("=")
    return equals(others.get(name), value) if has_value else not is_unset(others.get(name))
