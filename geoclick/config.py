"""One typed dataclass per command is its YAML file and its flags at once.

A command declares a frozen dataclass with `option(...)` fields; `parse` turns `--config FILE.yaml` plus
flags into an instance. Files are flat; flags override the file; an unknown key is an error that names the
nearest known one.
"""

import argparse
import dataclasses
import difflib
import sys
import traceback
import types
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from geoclick import files
from geoclick.errors import GeoClickError, UsageError

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
    """The flat mapping in a YAML file; raises UsageError when it is missing, broken or nested."""
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError(
            f"Config file {path} does not exist; give --config an existing YAML file."
        ) from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(
            f"Config file {path} cannot be read as YAML ({str(error).splitlines()[0]}); mend it."
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


def parse(
    config_class: type[T], argv: Sequence[str] | None, *, prog: str, description: str, example: str
) -> T:
    """An instance of `config_class` from `--config` and flags.

    Args:
        config_class: a dataclass made of `option` fields.
        argv: arguments without the program's name; None takes them from the command line.
        prog: the command as the user types it.
        description: one or two sentences for `--help`.
        example: a command line that works, shown at the end of `--help`.

    Raises:
        UsageError: an unknown flag or key, a missing required option, a value of the wrong type.
    """
    parser = _Parser(
        prog=prog,
        description=description,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config", metavar="FILE", help="flat YAML file with these options; flags override it"
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    hints = typing.get_type_hints(config_class)
    fields = {f.name: f for f in dataclasses.fields(config_class)}
    for name, field in sorted(fields.items(), key=lambda item: item[1].default is not dataclasses.MISSING):
        plain, many = _plain_type(hints[name])
        required = field.default is dataclasses.MISSING
        text = field.metadata["help"] + (
            " (required)" if required else f" (default: {_shown(field.default)})"
        )
        text = text.replace("%", "%%")
        flag = f"--{name.replace('_', '-')}"
        if field.metadata["positional"]:
            nargs = "*" if many else "?"
            parser.add_argument(name, nargs=nargs, metavar=name.upper(), help=text)
        elif plain is bool:
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=None, help=text)
        else:
            parser.add_argument(
                flag,
                dest=name,
                default=None,
                nargs="+" if many else None,
                help=text,
                # Without a word of its own an option with choices shows these.
                metavar=None if field.metadata["choices"] else plain.__name__.upper(),
                choices=field.metadata["choices"],
            )
    given = vars(parser.parse_args(argv))
    path = given.pop("config")
    given.pop("debug")
    values: dict[str, Any] = {}
    for key, value in (read_yaml(path) if path else {}).items():
        if key not in fields:
            raise unknown_key(key, list(fields), path)
        values[key] = value
    values |= {key: value for key, value in given.items() if value is not None and value != []}
    missing = [n for n, f in fields.items() if f.default is dataclasses.MISSING and n not in values]
    if missing:
        words = [
            n.upper() if fields[n].metadata["positional"] else f"--{n.replace('_', '-')}" for n in missing
        ]
        raise UsageError(
            f"Missing {', '.join(words)}; give it on the command line or in --config (see '{prog} --help')."
        )
    for key, value in values.items():
        choices, minimum = fields[key].metadata["choices"], fields[key].metadata["minimum"]
        values[key] = _convert(value, hints[key], key)
        for chosen in values[key] if isinstance(values[key], tuple) else (values[key],):
            # The comparison is turned round so that it refuses a NaN too.
            if minimum is not None and chosen is not None and not chosen >= minimum:
                raise UsageError(f"--{key.replace('_', '-')} must be {minimum} or more, not {chosen}.")
            if choices and chosen is not None and chosen not in choices:
                raise UsageError(f"{key} must be one of {', '.join(choices)}, not {chosen!r}.")
    return config_class(**values)


def _shown(default: Any) -> str:
    if default is None or default == ():
        return "none"
    return " ".join(map(str, default)) if isinstance(default, tuple) else str(default)


def write_config(config: Any, folder: Path) -> None:
    """Write the resolved options as `config.yaml` in a run folder."""
    values = {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(config).items()}
    files.write_whole(folder / "config.yaml", yaml.safe_dump(values, sort_keys=False))


def command(
    config_class: type[T],
    run: Callable[[T], None],
    argv: Sequence[str] | None,
    *,
    prog: str,
    description: str,
    example: str,
) -> int:
    """Parse the options, run the command with them, and return its exit code; arguments as in `parse`."""
    return run_command(
        lambda: run(parse(config_class, argv, prog=prog, description=description, example=example)), argv
    )


def run_command(body: Callable[[], None], argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; an error is one sentence, with `--debug` a traceback too."""
    debug = "--debug" in (sys.argv if argv is None else argv)
    try:
        body()
    except GeoClickError as error:
        if debug:
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("error: Interrupted; start the same command again to go on.", file=sys.stderr)
        return 1
    except OSError as error:
        if debug:
            traceback.print_exc()
        where = f": {error.filename}" if error.filename else ""
        print(
            f"error: {error.strerror or error}{where}; free space or mend the path, then start the same "
            "command again.",
            file=sys.stderr,
        )
        return 1
    return 0
