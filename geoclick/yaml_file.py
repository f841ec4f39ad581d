"""Reading a flat YAML file: bounded in size, without aliases, and every fault is one sentence."""

import re
import reprlib
from pathlib import Path

import yaml

from geoclick import files, recipes
from geoclick.errors import UsageError, first_line

Scalar = bool | int | float | str
Yaml = Scalar | list["Yaml"] | dict[str, "Yaml"] | None
"""A value of a YAML file."""

MAX_FILE = 1 << 20
"""Largest size of a config file in characters."""
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_OTHER_BASE = re.compile(r"[-+]?0[0-9_]+|.*:.*")
"""Numbers that mean another one than they look like: 010 is 8, and 1:30 is 90."""
MAX_SHOWN = 80
"""Characters of a wrong value that an error shows."""


class _PlainLoader(yaml.SafeLoader):
    """YAML without aliases: a few of them, nested, stand for billions of values."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.YAMLError(f"line {mark.line + 1} has an alias, write its value instead")
        node: yaml.Node | None = super().compose_node(parent, index)
        if isinstance(node, yaml.ScalarNode) and node.tag in _NUMBERS and _OTHER_BASE.fullmatch(node.value):
            mark = node.start_mark
            raise yaml.YAMLError(
                f"line {mark.line + 1}: YAML takes {node.value[:40]} for a number in base 8 or 60, write it in decimal "
                "digits, or in quotes if it is a text"
            )
        if isinstance(node, yaml.MappingNode):
            keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            if twice := [key for number, key in enumerate(keys) if key in keys[:number]]:
                raise yaml.YAMLError(f"the key {twice[0][:40]} occurs twice, remove one")
        return node


def quoted(value: object) -> str:
    """A value for an error message, at most MAX_SHOWN characters of it."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = MAX_SHOWN
    try:
        text = short.repr(value)
    except ValueError:  # an integer of more digits than Python writes
        return "a huge number"
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def read_yaml(path: str | Path) -> dict[str, Yaml]:
    """The flat mapping in a YAML file or installed recipe; raises UsageError if it is missing or broken."""
    file = recipes.locate(path, recipes.recipes(), "Config file")
    files.refuse_special(file)
    try:
        with file.open(encoding="utf-8") as stream:
            text = stream.read(MAX_FILE + 1)
        if len(text) > MAX_FILE:
            raise UsageError(f"Config file {path} is larger than {MAX_FILE} characters; give another file.")
        loader = _PlainLoader(text)
        try:
            content = loader.get_single_data()
        finally:
            loader.dispose()
    except (OSError, ValueError, OverflowError, RecursionError, yaml.YAMLError) as error:
        raise UsageError(
            f"Config file {path} cannot be read as YAML ({first_line(error)}); fix it."
        ) from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UsageError(f"Config file {path} must consist of 'key: value' lines.")
    return {str(key): value for key, value in content.items()}
