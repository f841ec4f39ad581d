"""Pickles of plain data, read without Python's unpickler: nothing is imported, nothing is called.

A pickle is a program for a small stack machine. Only those of its operations are carried out that build lists, tuples,
dicts, sets, texts, bytes, numbers, booleans and None; the first other one ends the reading. The format is documented in
the standard library's `pickletools`, which also cuts the file into operations.
"""

import pickletools
from pathlib import Path
from typing import Any

from geoclick.errors import GeoClickError

MAX_BYTES = 64 << 20
"""Larger files are not read; that of RRSIS-D has some 5 MB. A byte of pickle makes up to about 100 of memory."""

LITERALS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
}
"""Operations whose argument is the value. The byte texts of Python 2 are read as Latin-1, which reads any of them."""

CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
EMPTY = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": set}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
SCALARS = (str, bytes, int, float, bool, type(None))


class NotPlainError(ValueError):
    """A pickle wants something that is not plain; the message says what."""


def load(path: Path) -> Any:
    """The plain data in a pickle file of any protocol.

    Raises:
        GeoClickError: the file cannot be read, is no pickle, or holds something that is not plain: the message names
            what it wanted to load.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise GeoClickError(f"{path} cannot be read ({error}); check the path.") from error
    if len(data) > MAX_BYTES:
        raise GeoClickError(f"{path} is larger than {MAX_BYTES >> 20} MiB; give the dataset's own file.")
    try:
        return loads(data)
    except NotPlainError as error:
        raise GeoClickError(
            f"{path} is refused: it wants {error}, and only lists, tuples, dicts, sets, texts, bytes and numbers are "
            "read from a pickle; write the file with plain Python values."
        ) from error
    except (ValueError, LookupError, TypeError) as error:
        raise GeoClickError(f"{path} is no whole pickle ({error}); get the file anew.") from error


def loads(data: bytes) -> Any:
    """The plain data in a pickle.

    Raises:
        NotPlainError: something in it is not plain.
        ValueError, LookupError, TypeError: it is broken.
    """
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}
    for opcode, argument, _ in pickletools.genops(data):
        name = opcode.name
        if name in LITERALS:
            stack.append(argument)
        elif name in CONSTANTS:
            stack.append(CONSTANTS[name])
        elif name in EMPTY:
            stack.append(EMPTY[name]())
        elif name in TUPLES:
            stack.append(tuple(_cut(stack, len(stack) - TUPLES[name])))
        elif name == "MARK":
            marks.append(len(stack))
        elif name in ("LIST", "TUPLE", "DICT", "FROZENSET"):
            stack.append(_made(name, _cut(stack, marks.pop())))
        elif name in ("APPENDS", "SETITEMS", "ADDITEMS"):
            values = _cut(stack, marks.pop())
            _fill(name, stack[-1], values)
        elif name in ("APPEND", "SETITEM"):
            values = _cut(stack, len(stack) - (1 if name == "APPEND" else 2))
            _fill(f"{name}S", stack[-1], values)
        elif name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if name == "MEMOIZE" else argument] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name == "DUP":
            stack.append(stack[-1])
        elif name in ("POP", "POP_MARK"):
            _cut(stack, marks.pop() if name == "POP_MARK" else len(stack) - 1)
        elif name not in ("PROTO", "FRAME", "STOP"):
            raise NotPlainError(_wanted(name, argument, stack))
    if marks or len(stack) != 1:
        raise ValueError("it does not end with one value")
    return stack[0]


def _cut(stack: list[Any], start: int) -> list[Any]:
    """The values from `start` on, taken off the stack."""
    if not 0 <= start <= len(stack):
        raise ValueError("it takes more than there is")
    values = stack[start:]
    del stack[start:]
    return values


def _made(name: str, values: list[Any]) -> Any:
    """A list, tuple, dict or frozenset of values."""
    if name == "DICT":
        made: dict = {}
        _fill("SETITEMS", made, values)
        return made
    if name == "FROZENSET":
        return frozenset(_hashed(values))
    return values if name == "LIST" else tuple(values)


def _fill(name: str, container: Any, values: list[Any]) -> None:
    """Put values into the list, dict or set that an operation is for."""
    kind = {"APPENDS": list, "SETITEMS": dict, "ADDITEMS": set}[name]
    if type(container) is not kind:
        raise TypeError(f"it fills a {type(container).__name__} as a {kind.__name__}")
    if kind is list:
        container.extend(values)
    elif kind is set:
        container.update(_hashed(values))
    elif len(values) % 2:
        raise ValueError("it has a key without a value")
    else:
        container.update(zip(_hashed(values[::2]), values[1::2], strict=True))


def _hashed(keys: list[Any]) -> list[Any]:
    """Keys of a dict or members of a set: scalars only, as the hash of nested tuples may take forever."""
    for key in keys:
        if type(key) not in SCALARS:
            raise TypeError(f"it has a {type(key).__name__} as a key")
    return keys


def _wanted(name: str, argument: Any, stack: list[Any]) -> str:
    """What an operation that is not carried out would have done, in words."""
    if name in ("GLOBAL", "INST"):
        return f"to load {_printable(argument.replace(' ', '.', 1))}"
    if name == "STACK_GLOBAL":
        return f"to load {_printable('.'.join(part for part in stack[-2:] if isinstance(part, str)))}"
    return f"the operation {name}" + ("" if argument is None else f" {_printable(str(argument))}")


def _printable(text: str) -> str:
    return text.encode("unicode_escape").decode("ascii")[:80]
