"""Pickles of plain data, read by an unpickler that refuses everything that would import or call something."""

import io
import pickle
import pickletools
from pathlib import Path
from typing import Any, NoReturn

from geoclick.errors import GeoClickError

MAX_BYTES = 64 << 20
"""Larger files are not read; that of RRSIS-D has some 5 MB. A byte of pickle makes up to about 100 bytes of data."""

MAX_BITS = 10_000
"""Larger integers are refused; Python does not print them."""

_SHAREABLE = {
    *("EMPTY_LIST", "EMPTY_DICT", "EMPTY_SET", "LIST", "DICT", "FROZENSET"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    *("GLOBAL", "STACK_GLOBAL", "REDUCE"),
}
"""Opcodes whose values may be used several times: they are no tuples, or refused by the unpickler."""


class NotPlainError(pickle.UnpicklingError):
    """A pickle contains something else than plain data; the message says what."""


class PlainUnpickler(pickle.Unpickler):
    """Reads lists, tuples, dicts, sets, texts, bytes, numbers, booleans and None.

    Texts of Python 2 are decoded as Latin-1, which accepts any of them.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data), encoding="latin-1")

    def find_class(self, module: str, name: str) -> NoReturn:
        """Refuse every class and function."""
        path = f"{module}.{name}".encode("unicode_escape").decode("ascii")
        raise NotPlainError(f"loads {path[:80]}")

    def persistent_load(self, pid: Any) -> NoReturn:
        """Refuse every reference to an object outside the file."""
        raise NotPlainError("refers to an object outside the file")


def load(path: Path) -> Any:
    """The plain data in a pickle file of any protocol. Objects in it may be shared; print them with `reprlib` only.

    Raises:
        GeoClickError: the file cannot be read, is no pickle, or contains something else than plain data.
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
            f"{path} is refused: it {error}, and only lists, tuples, dicts, sets, texts, bytes and numbers are "
            "read from a pickle; write the file with plain Python values."
        ) from error
    # What a broken pickle raises depends on where it is broken.
    except Exception as error:
        raise GeoClickError(f"{path} is not a complete pickle ({error}); download the file again.") from error


def loads(data: bytes) -> Any:
    """The plain data in a pickle.

    Raises:
        NotPlainError: it contains something else.
        Exception: it is broken.
    """
    _check_cost(data)
    return PlainUnpickler(data).load()


def _check_cost(data: bytes) -> None:
    """Refuse a pickle that would take far more memory or time than its size suggests.

    The unpickler allocates memory for all memo indices up to the largest, and the hash of nested tuples that are used
    twice each takes exponential time.
    """
    memo: set[int] = set()
    shareable: set[int] = set()
    previous = ""
    for opcode, argument, _ in pickletools.genops(data):
        name = opcode.name
        if name == "MEMOIZE" or name.endswith("PUT"):
            index = len(memo) if name == "MEMOIZE" else int(argument or 0)
            if index >= len(data):
                raise NotPlainError(f"has the memo index {index}")
            memo.add(index)
            (shareable.add if previous in _SHAREABLE else shareable.discard)(index)
        elif name == "DUP" or (name.endswith("GET") and argument in memo and argument not in shareable):
            raise NotPlainError("uses a value twice that may be a tuple")
        elif type(argument) is int and argument.bit_length() > MAX_BITS:
            raise NotPlainError(f"has an integer of {argument.bit_length()} bits")
        if name not in ("PROTO", "FRAME"):
            previous = name
