"""The class list of a semantic prediction: names, synonyms and colors.

A list is text: classes separated by semicolons or lines, the synonyms of a class by commas, and an optional color after
a colon:

    building, roof: #d64545; road: 128 128 128; water: blue
"""

import colorsys
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from geoclick import files
from geoclick.errors import GeoClickError, UsageError

Color = tuple[int, int, int]

MAX_CLASSES = 255
"""An index mask has 8 bits."""

MAX_BYTES = 2**20
"""Size of the largest class file."""

BACKGROUND = "background"
SUFFIXES = (".txt", ".json")

PALETTE: tuple[Color, ...] = (
    (230, 75, 60),
    (66, 133, 214),
    (76, 165, 92),
    (240, 176, 46),
    (150, 92, 190),
    (60, 185, 185),
    (226, 120, 178),
    (140, 100, 66),
    (170, 195, 60),
    (40, 84, 130),
    (245, 140, 90),
    (120, 130, 140),
)
"""Colors of classes without one, in order."""


@dataclass(frozen=True)
class ClassList:
    """The classes of a semantic prediction.

    Attributes:
        synonyms: the names of each class; the first is the one that is shown.
        colors: RGB of each class.
        other: number of the class of what no class describes, where it has another name than `background`.
    """

    synonyms: tuple[tuple[str, ...], ...]
    colors: tuple[Color, ...]
    other: int | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The first name of each class."""
        return tuple(names[0] for names in self.synonyms)

    @property
    def queries(self) -> tuple[str, ...]:
        """All names, class by class: the queries of the text encoder."""
        return tuple(name for names in self.synonyms for name in names)

    @property
    def query_classes(self) -> tuple[int, ...]:
        """The class of each query."""
        return tuple(number for number, names in enumerate(self.synonyms) for _ in names)

    @property
    def background(self) -> int | None:
        """The number of the class `other`, or of that with the name `background`, or None."""
        if self.other is not None:
            return self.other
        numbers = (n for n, names in enumerate(self.synonyms) if BACKGROUND in map(_key, names))
        return next(numbers, None)


def from_option(value: str) -> ClassList:
    """The list of `--classes`: the path of a class file, or the list itself.

    Raises:
        UsageError: the list is empty, repeats a name or a color, or has an unknown color.
        GeoClickError: the file cannot be read or has such a list.
    """
    path = Path(value)
    if value.strip().endswith(SUFFIXES) or ("\n" not in value and len(value) < 256 and _is_path(path)):
        return read(path)
    return parse(value)


def _is_path(path: Path) -> bool:
    """Whether a file is named, or by a path with a parent a folder, link or device; `water` may be a class."""
    return path.is_file() or (path.name != str(path) and os.path.lexists(path))


def of_dataset(
    synonyms: Sequence[Sequence[str]],
    source: str,
    *,
    colors: Sequence[Color | None] = (),
    other: int | None = None,
) -> ClassList:
    """The list of a dataset's classes.

    Args:
        synonyms: the names of each class.
        source: what errors call the dataset.
        colors: RGB of each class, None for one of PALETTE; empty for all of PALETTE.
        other: see ClassList.

    Raises:
        UsageError: a name is repeated, or there are no classes or too many.
    """
    entries = [(list(names), None) for names in synonyms]
    listed = _build(entries, source, UsageError)
    written = list(colors) or [None] * len(entries)
    return ClassList(listed.synonyms, _complete(written, list(listed.synonyms)), other)


def parse(text: str) -> ClassList:
    """The list in a text such as `building, roof; road; water: #4285d6`; raises UsageError as `from_option`."""
    return _build(_entries(text, "--classes", UsageError), "--classes", UsageError)


def read(path: Path) -> ClassList:
    """The list in a class file.

    A text file has one class a line, in the form of `parse`; a `.json` file has the form of the datasets' legends,
    `{"classes": {"building, roof": [214, 69, 69], "road": null}}`.

    Raises:
        GeoClickError: the file cannot be read, or its list is empty, repeats a name or a color, or has an unknown
            color.
    """
    files.refuse_special(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise GeoClickError(f"{path} is larger than {MAX_BYTES} bytes and no class list; fix the path.")
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix == ".json":
            entries = [
                (str(names).split(","), None if color is None else _json_color(color))
                for names, color in json.loads(text)["classes"].items()
            ]
        else:
            entries = _entries(text, str(path), GeoClickError)
    except FileNotFoundError as error:
        raise GeoClickError(f"Class file {path} does not exist; fix the path.") from error
    except OSError as error:
        raise GeoClickError(f"Class file {path} cannot be read ({error.strerror}); fix the path.") from error
    except UnicodeDecodeError as error:
        raise GeoClickError(f"Class file {path} is no text in UTF-8; save it as UTF-8.") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise GeoClickError(f'{path} must hold {{"classes": {{name: [r, g, b]}}}}; fix it.') from error
    return _build(entries, str(path), GeoClickError)


def with_background(classes: ClassList) -> ClassList:
    """The list, with `background` as its first class if it has one class only.

    Raises:
        UsageError: that class is the background itself.
    """
    if len(classes.names) > 1:
        return classes
    if classes.background is not None:
        raise UsageError("The class list has no class besides the background; add one, such as 'building'.")
    synonyms = [(BACKGROUND,), *classes.synonyms]
    return ClassList(tuple(synonyms), _complete([None, *classes.colors], synonyms))


def _entries(text: str, source: str, error: type[GeoClickError]) -> list[tuple[list[str], str | None]]:
    """The names and the color of each class as they are written; empty lines and a last semicolon are left out."""
    entries = []
    for line in text.splitlines():
        parts = line.split(";")
        if not parts[-1].strip():
            parts.pop()
        for part in parts:
            names, colon, color = part.partition(":")
            if not names.strip(" ,\t"):
                raise error(f"{source} has a class without a name in {line.strip()!r}; name it or remove it.")
            entries.append((names.split(","), color.strip() if colon else None))
    return entries


def _json_color(value: list[int] | str) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _build(
    entries: Iterable[tuple[list[str], str | None]], source: str, error: type[GeoClickError]
) -> ClassList:
    synonyms = []
    written = []
    seen: set[str] = set()
    for raw, color in entries:
        names = tuple(" ".join(name.split()) for name in raw if name.strip())
        if not names:
            raise error(f"{source} has a class without a name; name it or remove it.")
        for name in names:
            if _key(name) in seen:
                raise error(f"{source} has the name {name!r} twice; remove one of them.")
            seen.add(_key(name))
        synonyms.append(names)
        written.append(None if color is None else _parse_color(color, names[0], source, error))
    if not synonyms:
        raise error(f"{source} is an empty class list; name classes, such as 'building, roof; road; water'.")
    if len(synonyms) > MAX_CLASSES:
        raise error(
            f"{source} has {len(synonyms)} classes, but an index mask holds {MAX_CLASSES}; use fewer."
        )
    for number, one in enumerate(written):
        if one is not None and one in written[:number]:
            first = synonyms[written.index(one)][0]
            raise error(
                f"{source} has one color for {first!r} and {synonyms[number][0]!r}; change one of them."
            )
    return ClassList(tuple(synonyms), _complete(written, synonyms))


def _key(name: str) -> str:
    return name.casefold()


def _parse_color(text: str, name: str, source: str, error: type[GeoClickError]) -> Color:
    """A color: `#rrggbb`, three numbers, or the name of a CSS color."""
    from PIL import ImageColor

    numbers = text.replace(",", " ").split()
    if len(numbers) == 3 and all(n.isascii() and n.isdigit() and int(n) <= 255 for n in numbers):
        red, green, blue = map(int, numbers)
        return red, green, blue
    try:
        rgb = ImageColor.getrgb(text)
        if len(rgb) != 3:
            raise ValueError("it has an alpha channel")
    except ValueError as reason:
        raise error(
            f"{source} has an unknown color {text!r} for {name!r}; write #rrggbb, three numbers from 0 to 255, or the "
            "name of a CSS color."
        ) from reason
    return rgb


def _complete(written: list[Color | None], synonyms: list[tuple[str, ...]]) -> tuple[Color, ...]:
    """The colors of all classes: black for the background, and the next free one of PALETTE for the others."""
    used = {color for color in written if color is not None}
    free = (color for color in _palette() if color not in used and color != (0, 0, 0))
    colors = []
    for color, names in zip(written, synonyms, strict=True):
        if color is None and BACKGROUND in map(_key, names) and (0, 0, 0) not in used:
            color = (0, 0, 0)
        colors.append(next(free) if color is None else color)
    return tuple(colors)


def _palette() -> Iterable[Color]:
    """PALETTE, then further colors at distant hues."""
    yield from PALETTE
    for number in range(4 * MAX_CLASSES):
        hue, lightness = number * 0.618034 % 1, (0.35, 0.55, 0.7)[number % 3]
        red, green, blue = colorsys.hls_to_rgb(hue, lightness, 0.6)
        yield round(255 * red), round(255 * green), round(255 * blue)
