"""Options of a command: one typed dataclass defines its flags and the keys of its YAML file.

A command declares a frozen dataclass with `option(...)` fields; `parse` creates an instance from `--config FILE.yaml`
and flags. Files are flat; flags override the file; an unknown key is an error that suggests the nearest known one.
Names of flags and keys may be written with `-` or `_`.
"""

import argparse
import dataclasses
import difflib
import sys
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import yaml

from geoclick import files
from geoclick.errors import UsageError
from geoclick.option_values import Kind, Value, check_range, convert, kind_of
from geoclick.yaml_file import Yaml, quoted, read_yaml

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T")


def option(
    default: Any = dataclasses.MISSING,
    *,
    help: str,
    choices: Sequence[str] | None = None,
    positional: bool = False,
    minimum: float | None = None,
    maximum: float | None = None,
    repeated: bool = False,
    name: str | None = None,
    aliases: tuple[str, ...] = (),
    deprecated: tuple[str, ...] = (),
    named: Mapping[str, tuple["Value", ...]] | None = None,
    bare: str | None = None,
) -> Any:
    """A dataclass field that is also a flag; it is required if it has no default.

    Args:
        default: default value; that of a sequence must be a tuple. A field of type `tuple[str, ...]` takes several
            values on the command line.
        help: text for `--help`; the default is added to it.
        choices: allowed values; None allows all.
        positional: whether it is a positional argument, not a flag.
        minimum: smallest allowed number.
        maximum: largest allowed number; None for LARGEST_INTEGER or LARGEST_NUMBER.
        repeated: whether each value of a sequence has a flag of its own; otherwise a flag may take several values.
        name: name of the flag and key, with `_`, if it is not that of the field, which is then an alias: config.yaml
            and other records keep the field's name.
        aliases: further names that are accepted.
        deprecated: those aliases that print a warning.
        named: sequences by a name that may be given instead.
        bare: value of a flag without a value; a file may then have true or false, too.
    """
    metadata = {
        **{"help": help, "choices": choices, "positional": positional, "minimum": minimum},
        **{"maximum": maximum, "repeated": repeated},
        **{"name": name, "aliases": aliases, "deprecated": deprecated, "named": named or {}, "bare": bare},
    }
    return dataclasses.field(default=default, metadata=metadata)


def unknown_key(key: str, known: Sequence[str], where: str) -> UsageError:
    """The error for an unknown key, with the nearest known one."""
    near = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(known))}."
    return UsageError(f"Unknown key {key!r} in {where}; {hint}")


class _Parser(argparse.ArgumentParser):
    """A parser that raises UsageError instead of exiting."""

    def error(self, message: str) -> typing.NoReturn:
        raise UsageError(f"{message[0].upper()}{message[1:]}; see '{self.prog} --help'.")


Field = dataclasses.Field[Value]


def parse(
    options_class: type[T], argv: Sequence[str] | None, *, prog: str, description: str, example: str
) -> T:
    """An instance of `options_class` from `--config` and flags.

    Args:
        options_class: a dataclass made of `option` fields.
        argv: arguments without the program's name; None uses those of the process.
        prog: the command as the user types it.
        description: one or two sentences for `--help`.
        example: a valid command line, shown at the end of `--help`.

    Raises:
        UsageError: an unknown flag or key, a missing required option, a value of the wrong type.
    """
    parser = _parser_of(options_class, prog, description, example)
    # Positional arguments may stand before, between and after the flags.
    flags = vars(parser.parse_intermixed_args(_with_dashes(argv)))
    path = flags.pop("config")
    fields = _fields_of(options_class)
    values = _by_field(read_yaml(path), fields, str(path)) if path else {}
    for key in values:
        if key not in fields:
            raise unknown_key(key, [_name(field) for field in fields.values()], str(path))
    return _build(options_class, values, flags, prog)


class Remainder(NamedTuple):
    """Arguments and keys that are no options of the command.

    Attributes:
        flags: arguments of the command line, in order.
        values: values of the config file, by key.
        path: path of the config file, or None.
    """

    flags: list[str]
    values: dict[str, Yaml]
    path: str | None


def parse_known(
    options_class: type[T], argv: Sequence[str] | None, *, prog: str, description: str, example: str
) -> tuple[T, Remainder]:
    """As `parse`, but unknown flags and keys are returned for another parser instead of raising an error."""
    parser = _parser_of(options_class, prog, description, example)
    namespace, rest = parser.parse_known_args(_with_dashes(argv))
    flags = vars(namespace)
    path = flags.pop("config")
    values = _by_field(read_yaml(path), _fields_of(options_class), str(path)) if path else {}
    known = {key: values.pop(key) for key in _fields_of(options_class) if key in values}
    return _build(options_class, known, flags, prog), Remainder(rest, values, path)


def _fields_of(options_class: type) -> dict[str, Field]:
    return {field.name: field for field in dataclasses.fields(options_class)}


def _name(field: Field) -> str:
    """The name that messages and `--help` show."""
    name: str | None = field.metadata["name"]
    return name or field.name


def _with_dashes(argv: Sequence[str] | None) -> list[str]:
    """The arguments with the names of flags written with `-`."""
    words = list(sys.argv[1:] if argv is None else argv)
    end = words.index("--") if "--" in words else len(words)
    for index, word in enumerate(words[:end]):
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            words[index] = f"{name.replace('_', '-')}{equals}{value}"
    return words


def _by_field(values: Mapping[str, Yaml], fields: Mapping[str, Field], where: str) -> dict[str, Yaml]:
    """The values of a file by the names of the fields; raises UsageError if one has two names."""
    field_of = {alias: field for field in fields.values() for alias in _accepted(field)}
    by_field: dict[str, Yaml] = {}
    for key, value in values.items():
        name = key.replace("-", "_")
        field = field_of.get(name)
        if field is not None:
            if name in field.metadata["deprecated"]:
                _warn(f"{key} in {where}", _name(field))
            name = field.name
        if name in by_field:
            raise UsageError(f"{where} has {key} twice, under two names; remove one.")
        by_field[name] = value
    return by_field


def _accepted(field: Field) -> tuple[str, ...]:
    """All names of a field, the shown one first."""
    names = (_name(field), field.name, *field.metadata["aliases"], *field.metadata["deprecated"])
    return tuple(dict.fromkeys(names))


def _warn(old: str, new: str) -> None:
    print(f"warning: {old} is deprecated; use {new} instead.", file=sys.stderr)


class _Deprecated(argparse.Action):
    """Stores a value as its option does, after a warning."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        flag: str | None = None,
    ) -> None:
        _warn(str(flag), str(self.const))
        setattr(namespace, self.dest, values)


def _parser_of(options_class: type, prog: str, description: str, example: str) -> argparse.ArgumentParser:
    """The parser of a dataclass of options; required ones come first in its help."""
    hints, fields = typing.get_type_hints(options_class), _fields_of(options_class)
    parser = _Parser(
        prog=prog,
        description=description,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="flat YAML file with these options, or the name of a recipe ('geoclick configs' lists them)",
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    for name, field in sorted(fields.items(), key=lambda item: item[1].default is not dataclasses.MISSING):
        _add_argument(parser, field, kind_of(hints[name]))
    return parser


def _build(options_class: type[T], values: dict[str, Yaml], flags: dict[str, Yaml], prog: str) -> T:
    """The options from the values of a config file and from the parsed flags, which override them."""
    hints, fields = typing.get_type_hints(options_class), _fields_of(options_class)
    given = {key: value for key, value in flags.items() if value not in (None, []) and key != "debug"}
    values = {**values, **given}
    _check_required(values, fields, prog)
    return options_class(
        **{key: _checked(value, fields[key], kind_of(hints[key])) for key, value in values.items()}
    )


def _flag(name: str) -> str:
    """The flag of an option: `batch_size` is `--batch-size`."""
    return f"--{name.replace('_', '-')}"


def _add_argument(parser: argparse.ArgumentParser, field: Field, kind: Kind) -> None:
    """Add the flag or positional argument of one field."""
    text = _help(field).replace("%", "%%")
    if field.metadata["positional"]:
        parser.add_argument(
            field.name, nargs="*" if kind.many else "?", metavar=field.name.upper(), help=text
        )
    elif kind.plain is bool:
        parser.add_argument(_flag(field.name), action=argparse.BooleanOptionalAction, default=None, help=text)
    else:
        choices = field.metadata["choices"]
        # Without a metavar argparse shows the choices.
        metavar = None if choices else kind.plain.__name__.upper()
        common: dict[str, Any] = {
            "dest": field.name,
            "default": None,
            "nargs": "+" if kind.many and not field.metadata["repeated"] else None,
            "choices": choices,
        }
        if field.metadata["bare"]:
            common |= {"nargs": "?", "const": field.metadata["bare"]}
        # A flag that is given twice adds to its values.
        several: dict[str, Any] = (
            {"action": "append" if field.metadata["repeated"] else "extend"} if kind.many else {}
        )
        deprecated = field.metadata["deprecated"]
        flags = [_flag(name) for name in _accepted(field) if name not in deprecated]
        parser.add_argument(flags[0], help=text, metavar=metavar, **common, **several)
        for flag in flags[1:]:
            parser.add_argument(flag, help=argparse.SUPPRESS, **common, **several)
        for name in deprecated:
            parser.add_argument(
                _flag(name), action=_Deprecated, const=flags[0], help=argparse.SUPPRESS, **common
            )


def _help(field: Field) -> str:
    """The help text of a field, with its default unless the text itself names one."""
    text: str = field.metadata["help"]
    if field.default is dataclasses.MISSING:
        return f"{text} (required)"
    return text if "(default: " in text else f"{text} (default: {_shown(field.default)})"


def _check_required(values: dict[str, Yaml], fields: dict[str, Field], prog: str) -> None:
    missing = [
        name.upper() if field.metadata["positional"] else _flag(_name(field))
        for name, field in fields.items()
        if field.default is dataclasses.MISSING and name not in values
    ]
    if missing:
        raise UsageError(
            f"Missing {', '.join(missing)}; give it on the command line or in --config (see '{prog} --help')."
        )


def _checked(value: Yaml, field: Field, kind: Kind) -> Value:
    """A value in the type of its field; raises UsageError if type, range or choices do not fit."""
    choices = field.metadata["choices"]
    for name, meaning in field.metadata["named"].items():
        if value in (name, [name]):
            value = list(meaning)
    if field.metadata["bare"] and isinstance(value, bool):
        value = field.metadata["bare"] if value else None
    converted = convert(value, kind, _name(field))
    for one in converted if isinstance(converted, tuple) else (converted,):
        if one is None:
            continue
        if isinstance(one, str) and not one.strip() and one != field.default:
            raise UsageError(f"{_flag(_name(field))} is empty; give a value, or remove it.")
        if isinstance(one, int | float) and not isinstance(one, bool):
            check_range(one, _flag(_name(field)), field.metadata["minimum"], field.metadata["maximum"])
        if choices and one not in choices:
            raise UsageError(f"{_name(field)} must be one of {', '.join(choices)}, not {quoted(one)}.")
    return converted


def _shown(default: Value) -> str:
    if default is None or default == ():
        return "none"
    return " ".join(map(str, default)) if isinstance(default, tuple) else str(default)


def write_config(options: "DataclassInstance", folder: Path, header: str = "") -> None:
    """Write the resolved options as `config.yaml` in a run folder, after a header of comments."""
    values = {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(options).items()}
    files.write_whole(folder / "config.yaml", header + yaml.safe_dump(values, sort_keys=False))
