"""Options of GeoClick and options of one of TRL's config classes, together in one flat file or on one command line."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Generic, NoReturn, TypeVar

from geoclick import config
from geoclick.config import unknown_key
from geoclick.errors import UsageError
from geoclick.train.options import ranges

T = TypeVar("T")

_NOT_GIVEN = object()


@dataclass(frozen=True)
class TrlCommand(Generic[T]):
    """A command that takes the options of one of TRL's config classes besides its own.

    Attributes:
        options: dataclass of its own options, made of `config.option` fields.
        trl_class: name of TRL's class.
        prog: the command as the user types it.
        description: for `--help`.
        example: a command line that works, for `--help`.
        set_by_geoclick: TRL's options that the command sets itself, and the option to use instead, or None.
    """

    options: type[T]
    trl_class: str
    prog: str
    description: str
    example: str
    set_by_geoclick: Mapping[str, str | None]

    def parse(
        self, argv: Sequence[str] | None, check: Callable[[T], None] | None = None
    ) -> tuple[T, dict[str, Any]]:
        """The command's own options, and the given options of TRL's class, from `--config` and flags.

        Args:
            argv: arguments of the command line; None uses those of the process.
            check: refuses the command's own options, before TRL is imported for the others.

        Raises:
            UsageError: an unknown key, with the nearest known one, or a value of the wrong type.
        """
        options, rest = config.parse_known(
            self.options, argv, prog=self.prog, description=self.description, example=self.example
        )
        if check:
            check(options)
        # Empty and nested values of a file have their types already; the parser takes text.
        typed = {k: v for k, v in rest.values.items() if v is None or isinstance(v, dict | list)}
        words = [f"--{key}={value}" for key, value in rest.values.items() if key not in typed]
        from_file = self._trl_values(words, typed, str(rest.path))
        given = from_file | self._trl_values(rest.flags, {}, "the command line")
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
        for key in [*given, *(flag.partition("=")[0].replace("-", "_") for flag in flags)]:
            if key in self.set_by_geoclick:
                instead = self.set_by_geoclick[key]
                fix = f"use {instead} instead" if instead else "remove it"
                raise UsageError(f"{key} in {where} is set by GeoClick; {fix}.")
            if key not in names:
                own = [field.name for field in fields(self.options)]  # type: ignore[arg-type]
                raise unknown_key(key, [*own, *(names - set(self.set_by_geoclick))], where)
        if rest:
            raise UsageError(
                f"{rest[0]!r} is one value too many: a flag takes one value; see '{self.prog} --help'."
            )
        return given
