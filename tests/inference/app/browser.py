"""The app in a process of its own, and a headless Chromium that uses it."""

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PATIENCE = 240_000
"""Milliseconds that a step may take on a busy machine."""


def missing():
    """Why the browser tests cannot run; empty if they can."""
    for name in ("gradio", "playwright"):
        if importlib.util.find_spec(name) is None:
            return f"{name} is not installed"
    return "" if CHROMIUM else "there is no Chromium"


@contextmanager
def app(folder, *words, log=None):
    """The address of an app with the embedded models, whose output folder is `folder`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "geoclick.cli", "app", "--output", folder, "--port", port, *words]
    log = log or folder.with_name(f"{folder.name}.log")
    with log.open("w") as written:
        process = subprocess.Popen(
            list(map(str, command)),
            stdout=written,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
    address = f"http://127.0.0.1:{port}"
    try:
        _wait(address, process, log)
        yield address
    finally:
        process.terminate()
        process.wait(60)


def _wait(address, process, log):
    deadline = time.monotonic() + PATIENCE / 1000
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(address, timeout=60).close()
            return
        except OSError:
            time.sleep(0.5)
    raise TimeoutError(log.read_text())


@contextmanager
def chromium():
    """A headless Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class User:
    """One user with a page of their own."""

    def __init__(self, browser, address, size=(1280, 900)):
        self.context = browser.new_context(viewport={"width": size[0], "height": size[1]})
        self.context.set_default_timeout(PATIENCE)
        self.page = self.context.new_page()
        self.requests = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(address)
        self.page.locator("#editor .stage").wait_for()

    def status(self, words=None):
        """The status line; with words, once it holds them."""
        line = self.page.locator("#status .status")
        if words:
            line.filter(has_text=words).wait_for()
        return line.inner_text()

    def upload(self, path, words="pixels. Ask a query"):
        self.page.locator("input[type=file]").first.set_input_files(path)
        return self.status(words)

    def ask(self, query, words=None):
        self.page.locator("#query textarea").fill(query)
        self.page.locator("#ask").click()
        return self.status(words or query)

    def clicks(self):
        """(sign, left, top) of the markers."""
        return [
            ("+" if "positive" in marker.get_attribute("class") else "-", marker.get_attribute("transform"))
            for marker in self.page.locator("#editor [data-number]").all()
        ]

    def mask(self):
        """The data URI of the mask."""
        return self.page.locator("#editor .mask").get_attribute("src")

    def edits(self):
        return int(self.page.locator("#editor .stage").get_attribute("data-edits"))

    def tool(self, name):
        self.page.locator(f"#editor [data-do={name}]").click()

    def place(self, x, y):
        """A place of the stage, given as shares of its width and height, on the screen."""
        box = self.page.locator("#editor svg").bounding_box()
        return box["x"] + x * box["width"], box["y"] + y * box["height"]

    def after_edit(self, action):
        """Do something that edits, and wait until its mask is drawn."""
        count = self.edits()
        action()
        self.page.locator(f"#editor .stage[data-edits='{count + 1}']").wait_for()

    def click(self, x, y):
        self.after_edit(lambda: self.page.mouse.click(*self.place(x, y)))

    def drag(self, number, x, y):
        box = self.page.locator(f"#editor [data-number='{number}']").bounding_box()

        def dragging():
            self.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
            self.page.mouse.down()
            self.page.mouse.move(*self.place(x, y), steps=4)
            self.page.mouse.up()

        self.after_edit(dragging)

    def save(self, words="To train on them"):
        self.page.locator("#save").click()
        return self.status(words)


def status_of(address):
    """The HTTP status of an address."""
    try:
        with urllib.request.urlopen(address, timeout=60) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
