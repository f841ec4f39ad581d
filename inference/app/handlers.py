"""What the events of the page do, without Gradio: they change a session and return what the page shows."""

import html
import json
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from weakref import WeakValueDictionary

from PIL import Image

from geoclick.clicks import Click
from geoclick.errors import GeoClickError, single_line
from geoclick.inference.app import downloads, editing, pictures, sources
from geoclick.inference.app.models import AppModels
from geoclick.inference.app.pictures import Drawn
from geoclick.inference.app.saving import Corrections
from geoclick.inference.app.session import Layer, Session

Edit = dict[str, str | float | bool]
"""An edit as the editor sends it: `kind` (add, move, flip, delete, boxes) and its arguments; `layer` and `before`, the
layer and its number of clicks as the editor shows them; `key` of the session; `seq`, which the answer repeats."""

NUMBERS = ("x", "y", "number", "part", "layer", "before", "seq")
"""Keys of edits whose values must be numbers."""

LARGEST = 2**31
"""Largest number of an edit."""

UNREADABLE = "The edit is not readable; reload the page."

CLOSED = "The image is no longer open; open it again."


class Shown(NamedTuple):
    """What the page shows after an event; None leaves something as it is.

    Attributes:
        session: the state.
        drawn: of the editor.
        layers: the answers, with their parts.
        status: a line of HTML, escaped.
        is_stale: whether the downloads on the page are no longer what is shown.
        decoding: seconds in which the segmenter decoded an edit.
    """

    session: Session | None
    drawn: Drawn | None
    layers: list[Layer] | None
    status: str
    is_stale: bool = False
    decoding: float = 0.0


@dataclass
class Handlers:
    """The events.

    Attributes:
        models: shared by all users.
        corrections: the click store.
        folder: whose images can be chosen; None for none.
    """

    models: AppModels
    corrections: Corrections
    folder: Path | None

    def __post_init__(self) -> None:
        self._model = threading.Lock()
        self._sessions: WeakValueDictionary[str, Session] = WeakValueDictionary()

    def upload(self, path: str | None, session: Session | None) -> Shown:
        """Open an uploaded file."""
        if path is None:
            return Shown(session, None, None, status("Upload an image or choose one."))

        def opening() -> Session:
            self.models.limits.check_file(Path(path))
            # Gradio deletes uploads after a while; the session needs its image until it ends.
            folder = tempfile.TemporaryDirectory(prefix="geoclick-app-")
            copy = Path(shutil.copy(path, folder.name))
            session = self._opened(copy, copy.name)
            session.upload = folder
            return session

        return self._with_new(session, opening)

    def choose(self, name: str | None, session: Session | None) -> Shown:
        """Open an image of the folder."""
        if not name:
            return Shown(session, None, None, status("Upload an image or choose one."))
        return self._with_new(session, lambda: self._opened(sources.named(self.folder, name), name))

    def ask(self, query: str | None, compare: bool, session: Session | None) -> Shown:
        """Answer a query."""

        def answering(session: Session) -> str:
            with self._model:
                removed = self.models.ask(session, query or "", base=compare)
            made_room = f" Removed to make room: {', '.join(removed)}." if removed else ""
            return described(session.layer) + made_room

        return self._changed(session, answering)

    def map(self, classes: str | None, session: Session | None) -> tuple[Shown, str]:
        """Make a map of classes; also returns its legend as HTML."""

        def mapping(session: Session) -> str:
            with self._model:
                self.models.map(session, classes or "")
            return "The map is made; its opacity is above the image."

        shown = self._changed(session, mapping)
        return shown, "" if session is None or session.class_map is None else pictures.legend(
            session.class_map
        )

    def edit(self, edit: Edit, session: Session | None) -> Shown:
        """Change a click of the chosen layer."""
        before = after = None
        decoding = 0.0

        def editing_clicks(session: Session) -> str:
            nonlocal before, after, decoding
            with session.lock:
                before, parts = session.layer, edited(session, edit)
                begin = time.perf_counter()
                after = session.edit(parts)
                decoding = time.perf_counter() - begin
            return described(after)

        shown = self._changed(session, editing_clicks, complete=False)._replace(decoding=decoding)
        if before is not None and after is not None and listed(before) == listed(after):
            # The lists are as they were, so that the page need not draw them again.
            shown = shown._replace(layers=None)
        if shown.drawn is not None and isinstance(edit.get("seq"), int):
            shown.drawn["seq"] = int(edit["seq"])
        return shown

    def answer_edit(self, body: bytes) -> tuple[bytes, float]:
        """Change a click of a session, which the edit names by its key; the edit and the answer are JSON.

        The answer has `drawn` (null for none), `status` as HTML, and `lists`: whether the lists of the page, or its
        downloads, are no longer what is shown. Also returns the seconds of the decoding.
        """
        try:
            edit = json.loads(body)
        except (ValueError, RecursionError):
            edit = None
        if not isinstance(edit, dict) or not isinstance(edit.get("key"), str):
            answer = Shown(None, None, None, status(UNREADABLE, error=True))
        elif (session := self._sessions.get(edit["key"])) is None:
            answer = Shown(None, None, None, status(CLOSED, error=True))
        else:
            answer = self.edit(edit, session)
        lists = answer.layers is not None or answer.is_stale
        body = json.dumps({"drawn": answer.drawn, "status": answer.status, "lists": lists}).encode()
        return body, answer.decoding

    def lists(self, session: Session | None) -> Shown:
        """The lists of the page as they are now."""
        layers = [] if session is None else list(session.layers)
        return Shown(session, None, layers, "", is_stale=session is None or session.downloads is None)

    def layer(self, number: int | None, session: Session | None) -> Shown:
        """Choose the layer that is edited."""

        def choosing(session: Session) -> str:
            return described(session.choose(number or 0))

        return self._changed(session, choosing, complete=False)

    def show(self, numbers: Sequence[int], session: Session | None) -> Shown:
        """Draw these layers."""

        def showing(session: Session) -> str:
            session.show(numbers)
            return f"{len(numbers)} of {len(session.layers)} answers are shown."

        return self._changed(session, showing, complete=False)

    def parts(self, numbers: Sequence[int], session: Session | None) -> Shown:
        """Draw these parts of the chosen layer, by their indices."""

        def showing(session: Session) -> str:
            session.show_parts(numbers)
            return f"{len(numbers)} of {len(session.layer.parts)} parts are shown."

        return self._changed(session, showing, complete=False)

    def remove(self, session: Session | None) -> Shown:
        """Remove the chosen layer."""

        def removing(session: Session) -> str:
            label = session.layer.label
            session.remove()
            return f"{label} is removed."

        return self._changed(session, removing, complete=False)

    def save(self, session: Session | None) -> Shown:
        """Save the chosen layer as a row of the click store."""

        def saving(session: Session) -> str:
            with session.lock:
                layer = session.layer
            replaced = self.corrections.save(session, layer)
            how = "replaces the earlier one of this image and query" if replaced else "is saved"
            count = len(self.corrections)
            folder = self.corrections.folder
            return (
                f"The correction of '{layer.query}' {how}; {count} {'row' if count == 1 else 'rows'} in all. "
                f"To train on them: geoclick train sft --clicks {folder}/clicks --root {folder}"
            )

        return self._changed(session, saving, complete=False)

    def download(self, session: Session | None) -> tuple[list[str], str]:
        """The paths of the files of the session, and a status."""
        if session is None:
            return [], status("Open an image first.", error=True)
        try:
            paths, notes = downloads.write(session, self.models.describe())
        except GeoClickError as error:
            return [], status(str(error), error=True)
        return list(map(str, paths)), status("; ".join([f"{len(paths)} files", *notes]) + ".")

    def pair(self, session: Session | None) -> list[tuple[Image.Image, str]]:
        """The overlays of base and adapter side by side, for the last query that both answered; else empty."""
        layers = [] if session is None else session.layers
        query = next((one.query for one in reversed(layers) if one.source), None)
        by_source = {one.source: one for one in layers if one.source and one.query == query}
        if session is None or len(by_source) < 2:
            return []
        return [
            (Image.fromarray(pictures.answer_overlay(session.opened.pixels, by_source[source])), source)
            for source in ("base", "adapter")
        ]

    def _opened(self, path: Path, name: str) -> Session:
        with self._model:
            return self.models.open(path, name)

    def _with_new(self, session: Session | None, opening: Callable[[], Session]) -> Shown:
        """A new session; the old one stays if the image cannot be opened."""
        try:
            new = opening()
        except GeoClickError as error:
            return Shown(session, None, None, status(str(error), error=True))
        self._sessions[new.key] = new
        height, width = new.opened.size
        line = f"{new.opened.name}: {width}x{height} pixels. Ask a query."
        return Shown(new, pictures.overlay(new, complete=True), [], status(line), is_stale=True)

    def _changed(
        self, session: Session | None, change: Callable[[Session], str], *, complete: bool = True
    ) -> Shown:
        """What the page shows after a change; after one that is refused, the state as it was."""
        if session is None:
            return Shown(None, None, None, status("Open an image first.", error=True))
        had_downloads = session.downloads is not None
        try:
            line = status(change(session))
        except GeoClickError as error:
            line = status(str(error), error=True)
        drawn = pictures.overlay(session, complete=False)
        if complete and session.class_map is not None:
            drawn["classes"] = pictures.map_uri(session.class_map)
        is_stale = had_downloads and session.downloads is None
        return Shown(session, drawn, list(session.layers), line, is_stale)


def edited(session: Session, edit: Edit) -> editing.Parts:
    """The parts of the chosen layer after an edit; raises GeoClickError for one that is not possible."""
    parts, size = session.layer.parts, session.opened.size
    kind = edit.get("kind")
    values = {name: edit[name] for name in NUMBERS if name in edit}
    if not all(isinstance(value, int | float) and abs(value) <= LARGEST for value in values.values()):
        raise GeoClickError(UNREADABLE)
    if edit.get("key") != session.key:
        raise GeoClickError("The image has changed meanwhile; repeat the edit.")
    if values.get("layer") != session.chosen or values.get("before") != len(editing.clicks_of(parts)):
        raise GeoClickError("The clicks have changed meanwhile; look at them and repeat the edit.")
    number = int(values.get("number", -1))
    if kind in ("add", "move"):
        x, y = editing.place(float(values.get("x", -1)), float(values.get("y", -1)), size)
        if kind == "move":
            return editing.move(parts, number, x, y)
        return editing.add(parts, Click(x, y, bool(edit.get("positive"))), int(values.get("part", -1)))
    if kind == "boxes":
        return editing.without_boxes(parts)
    if kind not in ("flip", "delete"):
        raise GeoClickError(UNREADABLE)
    return (editing.flip if kind == "flip" else editing.delete)(parts, number)


def listed(layer: Layer) -> tuple[bool, int, frozenset[int]]:
    """What the lists of the page say about a layer."""
    return layer.shown, len(layer.parts), layer.hidden


def described(layer: Layer) -> str:
    """A line about an answer."""
    clicks, area = len(editing.clicks_of(layer.parts)), int(layer.decoded.mask.sum())
    if not layer.parts:
        found = (
            "no target" if layer.is_edited or layer.prediction.status == "empty" else layer.prediction.status
        )
    else:
        found = f"{clicks} {'click' if clicks == 1 else 'clicks'}, {area:,} pixels"
    score = layer.decoded.score
    notes = [f"predicted IoU {score:.2f}"] if score is not None else []
    if len(layer.parts) > 1:
        notes.append(f"{len(layer.parts)} parts")
    if layer.prediction.dropped and not layer.is_edited:
        notes.append(f"dropped from the answer: {', '.join(layer.prediction.dropped)}")
    return f"{layer.label}: {'; '.join([found, *notes])}" + (" (edited)" if layer.is_edited else "")


def status(line: str, *, error: bool = False) -> str:
    """A line as HTML, escaped; it comes from users and their files."""
    kind = "status error" if error else "status"
    return f'<div class="{kind}" role="status">{html.escape(single_line(line))}</div>'
