"""Serving the page: Gradio on uvicorn, without telemetry, links to other hosts, or a public address."""

import os
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

# Read by Gradio and its libraries when they are imported.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

import anyio
import anyio.to_thread
import fastapi
import gradio as gr
import uvicorn
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from geoclick.inference.app import page
from geoclick.inference.app.handlers import Handlers
from geoclick.inference.app.options import AppOptions

POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; font-src 'self' data:; "
    "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; worker-src 'self' blob:; connect-src 'self' data: blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
)
"""Content-Security-Policy: the browser asks no other host. Gradio's own components need inline scripts and eval."""

EDITS = "/edit"
"""The path to which the editor sends edits."""

MAX_EDIT = 4096
"""Bytes of an edit."""

CLOSING_SECONDS = 3
"""Seconds that open pages, whose connections do not end by themselves, delay the end of the app."""

HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


class Application:
    """The ASGI application: page and edits, whose answers have HEADERS.

    Args:
        page: answers everything but edits.
        edits: answers edits, which do not go through Gradio's application, since that takes 3 ms.
    """

    def __init__(self, page: ASGIApp, edits: ASGIApp) -> None:
        self.page, self.edits = page, edits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        is_edit = scope["type"] == "http" and scope["path"] == EDITS
        await (self.edits if is_edit else self.page)(scope, receive, with_headers)


def application(handlers: Handlers, options: AppOptions, folder: Path) -> ASGIApp:
    """The application of the page.

    Args:
        handlers: what events do.
        options: of the command.
        folder: for uploads and downloads.
    """
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    built = page.Page(handlers, options.max_waiting)
    app = fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    mounted = gr.mount_gradio_app(
        app,
        built.blocks,
        path="/",
        server_name=options.host,
        server_port=options.port,
        show_error=False,
        max_file_size=options.max_upload * 10**6,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        run_history=False,
        footer_links=[],
        theme=page.theme(),
        css=page.text_of("page.css"),
    )
    return Application(mounted, Route(EDITS, edits_of(handlers, options.max_waiting), methods=["POST"]))


def edits_of(handlers: Handlers, max_waiting: int) -> Callable[[Request], Awaitable[Response]]:
    """What answers edits, one after another. Gradio's queue is not used, since it takes longer than SAM's decoder.

    Args:
        handlers: what events do.
        max_waiting: edits that wait at most.
    """
    one_at_a_time = anyio.CapacityLimiter(1)

    async def edit(request: Request) -> Response:
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > MAX_EDIT:
                return Response(status_code=413)
        if one_at_a_time.statistics().tasks_waiting >= max_waiting:
            return Response(status_code=503)
        answer, decoding = await anyio.to_thread.run_sync(handlers.answer_edit, body, limiter=one_at_a_time)
        timing = {"Server-Timing": f"decoding;dur={1000 * decoding:.1f}"}
        return Response(answer, media_type="application/json", headers=timing)

    return edit


def serve(handlers: Handlers, options: AppOptions) -> None:
    """Serve until the process is interrupted."""
    # Uploads and downloads lie in a folder of this process, not among those of other users of the machine.
    with tempfile.TemporaryDirectory(prefix="geoclick-gradio-") as folder:
        app = application(handlers, options, Path(folder))
        shown = "127.0.0.1" if options.host == "0.0.0.0" else options.host
        print(f"GeoClick: http://{shown}:{options.port} (Ctrl+C ends it)")
        if options.host not in ("127.0.0.1", "localhost", "::1"):
            print("warning: everyone who reaches this address can use the app; there is no password.")
        print(f"Corrections: {Path(options.output) / 'clicks'}", flush=True)
        uvicorn.run(
            app,
            host=options.host,
            port=options.port,
            log_level="warning",
            timeout_graceful_shutdown=CLOSING_SECONDS,
        )
