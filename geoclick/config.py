"""One typed dataclass per command is its YAML file and its flags at once.

A command declares a frozen dataclass with `option(...)` fields; `parse` turns `--config FILE.yaml` plus
flags into an instance. Files are flat; flags override the file; an unknown key is an error that names the
nearest known one.
"""

import argparse
import dataclasses
import difflib
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from geoclick import files, recipes
from geoclick.errors import UsageError, first_line

T = TypeVar("T")


def option(
    default: Any = dataclasses.MISSING,
    *,
    help: str,
    choices: Sequence[str] | None = None,
    positional: bool = False,
    minimum: float | None = None,
) -> Any:
    """A dataclass field that is also a flag (a bare word when `positional`), required when without default.

    A number below `minimum` is refused. Sequence defaults must be tuples. A field of type `tuple[str, ...]`
    takes several values on the command line.
    """
    return dataclasses.field(
        default=default,
        metadata={"help": help, "choices": choices, "positional": positional, "minimum": minimum},
    )


def _plain_type(annotation: Any) -> tuple[type, bool]:
    """The scalar type of an annotation, and whether several values are taken (`tuple[T, ...]`)."""
    if typing.get_origin(annotation) in (types.UnionType, typing.Union):
        annotation = next(a for a in typing.get_args(annotation) if a is not type(None))
    if typing.get_origin(annotation) is tuple:
        return typing.get_args(annotation)[0], True
    return annotation, False


def _convert(value: Any, annotation: Any, key: str) -> Any:
    """`value` of a YAML file or flag as the annotated type; raises UsageError when it does not fit."""
    plain, many = _plain_type(annotation)
    if value is None:
        if "None" in str(annotation):
            return None
        raise UsageError(f"{key} needs a value of type {plain.__name__}, not an empty one.")
    if many:
        return tuple(_convert(v, plain, key) for v in (value if isinstance(value, list | tuple) else [value]))
    if plain is bool:
        if isinstance(value, bool):
            return value
        if str(value).lower() in ("true", "yes", "1", "false", "no", "0"):
            return str(value).lower() in ("true", "yes", "1")
        raise UsageError(f"{key} must be true or false, not {value!r}.")
    wrong = UsageError(f"{key} must be of type {plain.__name__}, not {value!r}.")
    # int() would cut 1.5 and str() would take a whole list.
    if isinstance(value, list | dict) or (plain is int and isinstance(value, float) and value % 1):
        raise wrong
    try:
        return plain(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise wrong from error


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The flat mapping in a YAML file or installed recipe; raises UsageError when it is missing, broken or nested."""
    file = recipes.locate(path, recipes.recipes(), "Config file")
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(
            f"Config file {path} cannot be read as YAML ({first_line(error)}); fix it."
        ) from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UsageError(f"Config file {path} must hold 'key: value' lines.")
    return {str(key): value for key, value in content.items()}


def unknown_key(key: str, known: Sequence[str], where: str) -> UsageError:
    """The error for a key that no option has, with the nearest known one."""
    near = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(known))}."
    return UsageError(f"Unknown key {key!r} in {where}; {hint}")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> typing.NoReturn:
        raise UsageError(f"{message[0].upper()}{message[1:]}; see '{self.prog} --help'.")


Field = dataclasses.Field[Any]


def parse(
    options_class: type[T], argv: Sequence[str] | None, *, prog: str, description: str, example: str
) -> T:
    """An instance of `options_class` from `--config` and flags.

    Args:
        options_class: a dataclass made of `option` fields.
        argv: arguments without the program's name; None takes them from the command line.
        prog: the command as the user types it.
        description: one or two sentences for `--help`.
        example: a command line that works, shown at the end of `--help`.

    Raises:
        UsageError: an unknown flag or key, a missing required option, a value of the wrong type.
    """
    hints = typing.get_type_hints(options_class)
    fields = {field.name: field for field in dataclasses.fields(options_class)}  # type: ignore[arg-type]
    parser = make_parser(prog, description, example)
    for name, field in sorted(fields.items(), key=lambda item: item[1].default is not dataclasses.MISSING):
        _add_argument(parser, field, hints[name])
    flags = vars(parser.parse_args(argv))
    values = _from_file(flags.pop("config"), fields)
    del flags["debug"]
    values |= {key: value for key, value in flags.items() if value is not None and value != []}
    _check_required(values, fields, prog)
    return options_class(**{key: _checked(value, fields[key], hints[key]) for key, value in values.items()})


def make_parser(prog: str, description: str, example: str) -> argparse.ArgumentParser:
    """A parser with `--config` and `--debug` that raises UsageError instead of exiting; arguments as in `parse`."""
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
        help="flat YAML file with these options, or a recipe's name (see 'geoclick configs'); flags override it",
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def flag_of(name: str) -> str:
    """The flag of an option: `batch_size` is `--batch-size`."""
    return f"--{name.replace('_', '-')}"


def _add_argument(parser: argparse.ArgumentParser, field: Field, annotation: Any) -> None:
    """Add the flag or positional argument of one field."""
    plain, many = _plain_type(annotation)
    required = field.default is dataclasses.MISSING
    text = field.metadata["help"] + (" (required)" if required else f" (default: {_shown(field.default)})")
    text = text.replace("%", "%%")
    if field.metadata["positional"]:
        parser.add_argument(field.name, nargs="*" if many else "?", metavar=field.name.upper(), help=text)
    elif plain is bool:
        parser.add_argument(
            flag_of(field.name), action=argparse.BooleanOptionalAction, default=None, help=text
        )
    else:
        choices = field.metadata["choices"]
        parser.add_argument(
            flag_of(field.name),
            dest=field.name,
            default=None,
            nargs="+" if many else None,
            help=text,
            # argparse shows the choices where there is no metavar.
            metavar=None if choices else plain.__name__.upper(),
            choices=choices,
        )


def _from_file(path: str | None, fields: dict[str, Field]) -> dict[str, Any]:
    """The values of a config file; raises UsageError for an unknown key."""
    values = read_yaml(path) if path else {}
    for key in values:
        if key not in fields:
            raise unknown_key(key, list(fields), str(path))
    return values


def _check_required(values: dict[str, Any], fields: dict[str, Field], prog: str) -> None:
    missing = [
        name.upper() if field.metadata["positional"] else flag_of(name)
        for name, field in fields.items()
        if field.default is dataclasses.MISSING and name not in values
    ]
    if missing:
        raise UsageError(
            f"Missing {', '.join(missing)}; give it on the command line or in --config (see '{prog} --help')."
        )


def _checked(value: Any, field: Field, annotation: Any) -> Any:
    """A value in the type of its field; raises UsageError where type, minimum or choices do not fit."""
    choices, minimum = field.metadata["choices"], field.metadata["minimum"]
    converted = _convert(value, annotation, field.name)
    for one in converted if isinstance(converted, tuple) else (converted,):
        if one is None:
            continue
        # `not >=` refuses NaN too.
        if minimum is not None and not one >= minimum:
            raise UsageError(f"{flag_of(field.name)} must be {minimum} or more, not {one}.")
        if choices and one not in choices:
            raise UsageError(f"{field.name} must be one of {', '.join(choices)}, not {one!r}.")
    return converted


def _shown(default: Any) -> str:
    if default is None or default == ():
        return "none"
    return " ".join(map(str, default)) if isinstance(default, tuple) else str(default)


def write_config(options: Any, folder: Path) -> None:
    """Write the resolved options as `config.yaml` in a run folder."""
    values = {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(options).items()}
    files.write_whole(folder / "config.yaml", yaml.safe_dump(values, sort_keys=False))
