"""Options of GeoClick and options of one of TRL's config classes, together in one flat file or on one command line."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Generic, NoReturn, TypeVar

from geoclick import config
from geoclick.config import unknown_key
from geoclick.errors import UsageError
from geoclick.train.options import ranges, trl_rules
from geoclick.train.options.trl_table import RULES

T = TypeVar("T")

_NOT_GIVEN = object()

COMMAND_LINE = "the command line"

Check = Callable[[T, str], None]
"""Refuses a command's own options and prepares the process, given the name of the optimizer."""


@dataclass(frozen=True)
class TrlCommand(Generic[T]):
    """A command that takes the options of one of TRL's config classes besides its own.

    Attributes:
        options: dataclass of its own options, made of `config.option` fields.
        trl_class: name of TRL's class.
        prog: the command as the user types it.
        description: for `--help`.
        example: a command line that works, for `--help`.
        defaults: GeoClick's defaults of TRL's options.
    """

    options: type[T]
    trl_class: str
    prog: str
    description: str
    example: str
    defaults: Mapping[str, Any]

    def parse(self, argv: Sequence[str] | None, check: "Check[T] | None" = None) -> tuple[T, dict[str, Any]]:
        """The command's own options, and the given options of TRL's class, from `--config` and flags.

        Args:
            argv: arguments of the command line; None uses those of the process.
            check: what is done before TRL is imported for its options.

        Raises:
            UsageError: an unknown key, with the nearest known one, or a value of the wrong type.
        """
        options, rest = config.parse_known(
            self.options, argv, prog=self.prog, description=self.description, example=self.example
        )
        flags, rules = trl_rules.of_flags(rest.flags), RULES[self.trl_class]
        others = vars(options) | dict(self.defaults) | rest.values | flags
        if check:
            check(options, str(others.get("optim", "")))
        for values, where in ((rest.values, str(rest.path)), (flags, COMMAND_LINE)):
            trl_rules.check(rules, values, others, where)
        # Empty and nested values of a file have their types already; the parser takes text.
        typed = {k: v for k, v in rest.values.items() if v is None or isinstance(v, dict | list)}
        words = [f"--{key}={value}" for key, value in rest.values.items() if key not in typed]
        from_file = self._trl_values(words, typed, str(rest.path))
        given = from_file | self._trl_values(rest.flags, {}, COMMAND_LINE)
        # Again, because the parser knows more spellings, such as `--no_bf16`.
        trl_rules.check(rules, given, others | given, "the options")
        # A refused option has the value that changes nothing.
        given = {name: value for name, value in given.items() if rules[name].status != trl_rules.REFUSED}
        ranges.check_written(given, rest.values | flags)
        ranges.check(given | vars(options))
        return options, given

    def _trl_values(self, words: Sequence[str], typed: dict[str, Any], where: str) -> dict[str, Any]:
        """The options of TRL's class in flags and among typed values; raises UsageError for anything else."""
        if not words and not typed:
            return {}
        import trl
        from transformers import HfArgumentParser

        def refuse(message: str) -> NoReturn:
            raise UsageError(f"In {where}, {message}; see the documentation of TRL's {self.trl_class}.")

        parser = HfArgumentParser(getattr(trl, self.trl_class), allow_abbrev=False)
        parser.error = refuse
        names = {field.name for field in fields(getattr(trl, self.trl_class)) if field.init}
        parser.set_defaults(**dict.fromkeys(names, _NOT_GIVEN))
        namespace, rest = parser.parse_known_args(words)
        given = {key: value for key, value in vars(namespace).items() if value is not _NOT_GIVEN} | typed
        flags = [word.removeprefix("--") for word in rest if word.startswith("--")]
        rules = RULES[self.trl_class]
        for key in [*given, *(flag.partition("=")[0].replace("-", "_") for flag in flags)]:
            if key not in rules or key not in names:
                own = [field.name for field in fields(self.options)]  # type: ignore[arg-type]
                usable = [name for name, rule in rules.items() if rule.status != trl_rules.REFUSED]
                raise unknown_key(key, [*own, *usable], where)
        if rest:
            raise UsageError(
                f"{rest[0]!r} is one value too many: a flag takes one value; see '{self.prog} --help'."
            )
        return given
