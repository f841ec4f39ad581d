"""The page of the app in Gradio: components, and which handler each event calls."""

import json
from importlib.resources import files

import gradio as gr

from geoclick.images import SUFFIXES
from geoclick.inference.app import sources
from geoclick.inference.app.handlers import Handlers, Shown, status
from geoclick.inference.app.pictures import Drawn
from geoclick.inference.app.session import Layer, Session

STATE_SECONDS = 12 * 3600
"""Seconds after the last query or map after which the state of a page is deleted; a closed one has an hour."""

CACHE_SECONDS = 3600
"""Seconds after which Gradio's copies of uploads and downloads are deleted."""

WORKING = status("The models are working.")

SYSTEM_FONTS = ("system-ui", "sans-serif")

Update = (
    Session
    | Drawn
    | dict[str, str | float | bool | list[str] | list[int] | list[tuple[str, int]] | None]
    | str
    | None
)
"""What Gradio takes for a component: its value, a skip, or new properties."""


def text_of(name: str) -> str:
    """A file of this package."""
    return files("geoclick.inference.app").joinpath(name).read_text(encoding="utf-8")


def theme() -> "gr.themes.Base":
    """Gradio's plain theme with fonts of the system, so that none is downloaded."""
    return gr.themes.Base(font=list(SYSTEM_FONTS), font_mono=["ui-monospace", "monospace"])


SHOW_STATUS = """document.addEventListener("geoclick-status", (event) => { props.value = event.detail; });"""
"""The editor writes the status line after an edit."""

AFTER_EDITS = "async (...values) => { await window.geoclickEdits; return values; }"
"""Before an event that reads the clicks: waits for the answers to the edits so far; the inputs stay as they are."""


class Page:
    """The page. One queue runs the models, another one what is quick, so that it does not wait for a query.

    Edits of clicks have no queue of Gradio: the editor sends them by itself, see editor.js and server.py.

    Args:
        handlers: what events do.
        max_waiting: requests that wait in each queue at most.
    """

    def __init__(self, handlers: Handlers, max_waiting: int) -> None:
        self.handlers = handlers
        with gr.Blocks(
            title="GeoClick", analytics_enabled=False, delete_cache=(600, CACHE_SECONDS), fill_width=True
        ) as self.blocks:
            self.state = gr.State(None, time_to_live=STATE_SECONDS)
            gr.HTML("<h1>GeoClick</h1>")
            with gr.Row(elem_id="columns"):
                with gr.Column(scale=1, min_width=300):
                    self._inputs()
                    with gr.Column(elem_id="answers"):
                        self._answers()
                with gr.Column(scale=2, min_width=300):
                    self._outputs()
            self._events()
        self.blocks.queue(max_size=max_waiting, default_concurrency_limit=1, api_open=False)

    def _inputs(self) -> None:
        folder = self.handlers.folder
        self.file = gr.File(
            label="Upload an image", file_types=list(SUFFIXES), type="filepath", height=150, elem_id="upload"
        )
        self.name = gr.Dropdown(
            self._names(),
            value=None,
            label="Or choose an image of the folder",
            elem_id="names",
            visible=folder is not None,
            interactive=True,
        )
        self.query = gr.Textbox(
            label="What to segment", placeholder="the largest building", max_lines=3, elem_id="query"
        )
        self.compare = gr.Checkbox(
            False,
            label="Compare with the base model",
            visible=self.handlers.models.can_compare,
            elem_id="compare",
        )
        self.ask = gr.Button("Segment", variant="primary", elem_id="ask")
        with gr.Accordion("Map of classes", open=False):
            self.classes = gr.Textbox(
                label="Classes", placeholder="building, roof; road; water", max_lines=4, elem_id="classes"
            )
            self.make_map = gr.Button("Make the map", elem_id="map")

    def _names(self) -> list[str]:
        """The images of the folder, which are listed anew for each page."""
        folder = self.handlers.folder
        return [] if folder is None else sources.listed(folder)

    def _answers(self) -> None:
        self.layer = gr.Radio([], label="Answer that is edited and saved", visible=False, elem_id="layers")
        self.shown = gr.CheckboxGroup([], label="Answers that are shown", visible=False, elem_id="shown")
        self.parts = gr.CheckboxGroup([], label="Parts that are shown", visible=False, elem_id="parts")

    def _outputs(self) -> None:
        self.status = gr.HTML(
            status("Upload an image or choose one."), elem_id="status", js_on_load=SHOW_STATUS
        )
        self.editor = gr.HTML(
            None,
            html_template=text_of("editor.html"),
            css_template=text_of("editor.css"),
            js_on_load=text_of("editor.js"),
            elem_id="editor",
            elem_classes=["empty"],
        )
        self.legend = gr.HTML("", elem_id="legend")
        with gr.Row(elem_id="actions"):
            self.save = gr.Button("Save the correction", variant="primary", elem_id="save")
            self.remove = gr.Button("Remove the answer", elem_id="remove")
            self.download = gr.Button("Prepare downloads", elem_id="download")
        self.files = gr.File(
            label="Downloads", file_count="multiple", visible=False, interactive=False, elem_id="files"
        )
        self.pair = gr.Gallery(
            label="Base model and adapter", columns=2, visible=False, elem_id="pair", object_fit="contain"
        )

    def _events(self) -> None:
        do = self.handlers
        # What is quick changes the session in place. Only what runs in the queue of the models replaces it, so that a
        # late answer does not bring back the session of an earlier image.
        lists = [self.layer, self.shown, self.parts]
        edited = [self.editor, *lists, self.status, self.files]
        every = [self.state, *edited]
        models = {"concurrency_id": "models", "concurrency_limit": 1}
        quick = {"concurrency_id": "quick", "concurrency_limit": 1, "trigger_mode": "multiple"}
        after = {"js": AFTER_EDITS}
        hide = gr.update(value=None, visible=False)
        hidden = {"api_visibility": "private", "show_progress": "hidden"}

        def upload(path: str | None, session: Session | None) -> tuple[Update, ...]:
            # An empty file field takes the next upload.
            return (*_updates(do.upload(path, session)), "", hide, None)

        def choose(name: str | None, session: Session | None) -> tuple[Update, ...]:
            return (*_updates(do.choose(name, session)), "", hide)

        def ask(query: str, compare: bool, session: Session | None) -> tuple[Update, ...]:
            shown = do.ask(query, compare, session)
            pair = do.pair(shown.session)
            return (*_updates(shown), gr.update(value=pair, visible=bool(pair)))

        def make_map(text: str, session: Session | None) -> tuple[Update, ...]:
            shown, legend = do.map(text, session)
            return (*_updates(shown), legend)

        def list_again(session: Session | None) -> tuple[Update, ...]:
            _, _, *listed, _, files = _updates(do.lists(session))
            return (*listed, files)

        def layer(number: int | None, session: Session | None) -> tuple[Update, ...]:
            return _updates(do.layer(number, session))[1:]

        def show(numbers: list[int], session: Session | None) -> tuple[Update, ...]:
            return _updates(do.show(numbers, session))[1:]

        def parts(numbers: list[int], session: Session | None) -> tuple[Update, ...]:
            return _updates(do.parts(numbers, session))[1:]

        def download(session: Session | None) -> tuple[Update, str]:
            paths, line = do.download(session)
            return gr.update(value=paths or None, visible=bool(paths)), line

        opened = [*every, self.legend, self.pair]
        if do.folder is not None:
            self.blocks.load(lambda: gr.update(choices=self._names()), None, [self.name], **hidden)
        self.file.upload(upload, [self.file, self.state], [*opened, self.file], **models, **hidden)
        self.name.input(choose, [self.name, self.state], opened, **models, **hidden)
        asking = {"fn": ask, "inputs": [self.query, self.compare, self.state], "outputs": [*every, self.pair]}
        # Gradio's own progress is drawn anew in each frame, which takes the time of the models on a small machine.
        for event in (self.ask.click, self.query.submit, self.make_map.click):
            event(None, None, [self.status], js=f"() => {json.dumps(WORKING)}", **hidden)
        self.ask.click(**asking, **models, **hidden, **after)
        self.query.submit(**asking, **models, **hidden, **after)
        self.make_map.click(make_map, [self.classes, self.state], [*every, self.legend], **models, **hidden)
        self.editor.select(list_again, [self.state], [*lists, self.files], **quick, **hidden)
        quick |= hidden | after
        self.layer.input(layer, [self.layer, self.state], edited, **quick)
        self.shown.input(show, [self.shown, self.state], edited, **quick)
        self.parts.input(parts, [self.parts, self.state], edited, **quick)
        self.save.click(lambda s: _updates(do.save(s))[1:], [self.state], edited, **quick)
        self.remove.click(lambda s: _updates(do.remove(s))[1:], [self.state], edited, **quick)
        self.download.click(download, [self.state], [self.files, self.status], **quick)


def _updates(shown: Shown) -> "tuple[Update, ...]":
    """What Gradio receives for the state, the editor, the lists of layers and parts, the status, and the downloads."""
    drawn = gr.skip() if shown.drawn is None else shown.drawn
    lists = (gr.skip(),) * 3 if shown.layers is None else _lists(shown.session, shown.layers)
    files = gr.update(value=None, visible=False) if shown.is_stale else gr.skip()
    return (shown.session, drawn, *lists, shown.status, files)


def _lists(session: Session | None, layers: list[Layer]) -> "tuple[Update, ...]":
    """The list of the layer that is edited, of those that are shown, and of the parts of the first one."""
    chosen = session.chosen if session else 0
    choices = [(one.label, one.number) for one in layers]
    drawn = [one.number for one in layers if one.shown]
    layer = next((one for one in layers if one.number == chosen), None)
    parts = range(len(layer.parts)) if layer else range(0)
    shown = [number for number in parts if layer and number not in layer.hidden]
    return (
        gr.update(choices=choices, value=chosen or None, visible=len(choices) > 1),
        gr.update(choices=choices, value=drawn, visible=len(choices) > 1),
        gr.update(choices=[(str(n + 1), n) for n in parts], value=shown, visible=len(parts) > 1),
    )
