"""The app in a process of its own, and a headless Chromium that uses it."""

import importlib.util
import json
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
PATIENCE = 600_000
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
    with started(folder, *words, log=log) as (_, address):
        yield address


@contextmanager
def started(folder, *words, log=None):
    """The process of such an app, and its address."""
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
        yield process, address
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
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
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
        self.page.locator("#upload input[type=file]").set_input_files(path)
        return self.status(words)

    def ask(self, query, words=None):
        self.page.locator("#query textarea").fill(query)
        self.page.locator("#ask").click()
        return self.status(words or query)

    def choose(self, name):
        box = self.page.get_by_label("Or choose an image of the folder")
        box.click()
        box.fill(name.partition(".")[0])
        self.page.get_by_role("option", name=name).click()
        return self.status(name)

    def map(self, classes, words="The map is made"):
        box = self.page.locator("#classes textarea")
        if not box.is_visible():
            self.page.get_by_role("button", name="Map of classes").click()
        box.fill(classes)
        self.page.locator("#map").click()
        return self.status(words)

    def downloads(self, folder):
        """Prepare and download all files; returns their paths by name."""
        self.page.locator("#download").click()
        self.page.locator("#files a[download]").first.wait_for()
        found = {}
        for link in self.page.locator("#files a[download]").all():
            with self.page.expect_download() as started:
                link.click()
            path = folder / started.value.suggested_filename
            started.value.save_as(path)
            found[path.name] = path
        return found

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
        self.wait_for_edits(count + 1)

    def wait_for_edits(self, count):
        """Wait until the mask of an edit is drawn."""
        self.page.locator(f"#editor .stage[data-edits='{count}']").wait_for()

    def remove_clicks(self):
        """Delete all clicks of the answer."""
        while self.clicks():
            self.page.locator("#editor [data-number='0']").click()
            self.after_edit(lambda: self.tool("delete"))

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


def request(address, component, event, data):
    """Send an event of a component as a program would, without the page; returns the messages of the answer."""
    with urllib.request.urlopen(f"{address}/config", timeout=60) as answer:
        config = json.load(answer)
    number = next(one["id"] for one in config["components"] if one["props"].get("elem_id") == component)
    (function,) = [one["id"] for one in config["dependencies"] if [number, event] in one["targets"]]
    body = {"data": data, "fn_index": function, "session_hash": "program"}
    sent = urllib.request.Request(
        f"{address}/gradio_api/queue/join",
        json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    urllib.request.urlopen(sent, timeout=60).close()
    with urllib.request.urlopen(
        f"{address}/gradio_api/queue/data?session_hash=program", timeout=60
    ) as answer:
        return answer.read().decode()


def train(clicks, root, output):
    """Train an adapter of the embedded model for one step."""
    words = ["--clicks", clicks, "--root", root, "--max-steps", 1, "--output", output]
    command = [sys.executable, "-m", "geoclick.cli", "train", "sft", "--config", "sft/embedded", *words]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def status_of(address):
    """The HTTP status of an address."""
    try:
        with urllib.request.urlopen(address, timeout=60) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
