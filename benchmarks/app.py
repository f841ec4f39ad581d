"""The app in Chromium over loopback: from a click to its drawn mask, and many users who edit at the same time.

python -m benchmarks.app --clicks 60
python -m benchmarks.app --users 10 --edits 200
python -m benchmarks.app --clicks 30 --random sam_vit_b

Needs the extra `app`, playwright and a Chromium. Prints milliseconds, and with users the memory of the app in MB:
`click` from the press to the drawn mask, `decoding` of the same clicks in the app, `rest` their difference, and `alone`
the decoding and the drawing in a process without a browser next to it. The masks of random weights are noise with
thousands of runs, which no trained SAM makes: drawing and sending them takes longer.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from geoclick import segmenters, store
from geoclick.cli import main as geoclick
from geoclick.clicks import Click
from geoclick.codec import Part
from geoclick.geo.reading import DEFAULT, read_image
from geoclick.inference.app import pictures
from geoclick.inference.app.session import EncodedImage, Session
from geoclick.inference.app.sources import Opened
from geoclick.inference.generative.prediction import Prediction
from tests.inference.app import browser

DRAWN = """([x, y]) => new Promise(resolve => {
  const stage = document.querySelector("#editor .stage");
  const svg = stage.querySelector("svg");
  performance.clearResourceTimings();
  const begin = performance.now();
  new MutationObserver((_, observer) => {
    observer.disconnect();
    requestAnimationFrame(() => {
      const click = performance.now() - begin;
      const edit = performance.getEntriesByType("resource").find((one) => one.name.endsWith("/edit"));
      resolve([click, edit.serverTiming[0].duration]);
    });
  }).observe(stage, { attributes: true, attributeFilter: ["data-edits"] });
  const at = { clientX: x, clientY: y, bubbles: true, pointerId: 1, button: 0 };
  svg.dispatchEvent(new PointerEvent("pointerdown", at));
  svg.dispatchEvent(new PointerEvent("pointerup", at));
})"""
"""Presses a place of the editor and waits until the mask is drawn: milliseconds in all and those of the decoding."""


def measure(user: browser.User, clicks: int) -> dict[str, list[float]]:
    """Milliseconds of each click, which is deleted again after it, so that all have the same number before them."""
    times: dict[str, list[float]] = {"click": [], "decoding": [], "rest": []}
    for number in range(clicks):
        x, y = user.place(0.1 + 0.8 * (number % 9) / 9, 0.1 + 0.8 * (number % 7) / 7)
        click, decoding = user.page.evaluate(DRAWN, [x, y])
        for name, value in zip(times, (click, decoding, click - decoding), strict=True):
            times[name].append(float(value))
        user.page.locator("#editor [data-number]").last.click()
        user.after_edit(lambda: user.tool("delete"))
    return times


def in_process(
    image: Path, segmenter: segmenters.Segmenter, clicks: int, count: int
) -> dict[str, list[float]]:
    """Milliseconds of a click after `clicks` others in this process: decoding it, and drawing the mask for the page."""
    pixels = read_image(image, pixels=DEFAULT)
    session = Session(Opened(image, image.name, pixels, None, ""), EncodedImage(segmenter, pixels))
    session.add("", "", Prediction(np.zeros(pixels.shape[:2], bool), (), "", "ok", ()))
    before = tuple(Click(20 + 9 * n, 30.0, True) for n in range(clicks))
    session.edit((Part(before),) if before else ())
    times: dict[str, list[float]] = {"decoding": [], "drawing": []}
    for number in range(count):
        begin = time.perf_counter()
        session.edit((Part((*before, Click(20 + number, 60.0, True))),))
        decoded = time.perf_counter()
        json.dumps(pictures.overlay(session, complete=False))
        times["decoding"].append(1000 * (decoded - begin))
        times["drawing"].append(1000 * (time.perf_counter() - decoded))
    return times


def figures(times: list[float]) -> dict[str, float]:
    """The median and the 95th percentile."""
    ordered = sorted(times)
    return {
        "median_ms": round(statistics.median(ordered), 1),
        "p95_ms": round(ordered[int(0.95 * len(ordered))], 1),
    }


def one_user(options: argparse.Namespace, folder: Path, image: Path, words: list[str]) -> dict[str, object]:
    """Click to mask of one user."""
    with browser.started(folder / "out", *words) as (process, address), browser.chromium() as chromium:
        user = browser.User(chromium, address)
        user.upload(image)
        user.ask("the building")
        user.tool("positive")
        before = len(user.clicks())
        measure(user, 3)
        begin = cpu_of(process.pid)
        times = {name: figures(found) for name, found in measure(user, options.clicks).items()}
        # Each click is deleted again.
        cpu = 1000 * (cpu_of(process.pid) - begin) / (2 * options.clicks)
    torch.set_num_threads(1)
    segmenter = segmenters.load(options.random or "embedded", checkpoint=words[-1] if words else None)
    alone = {name: figures(times) for name, times in in_process(image, segmenter, before, 20).items()}
    return {
        "clicks": options.clicks,
        "side": options.side,
        **times,
        "cpu_ms_of_the_app": round(cpu, 1),
        "alone": alone,
        "threads": 1,
    }


def many_users(options: argparse.Namespace, folder: Path, image: Path) -> dict[str, object]:
    """Users who edit at the same time; raises AssertionError if a click is lost or that of another user."""
    output, log = folder / "out", folder / "app.log"
    with ExitStack() as stack:
        process, address = stack.enter_context(browser.started(output, log=log))
        chromium = stack.enter_context(browser.chromium())
        users = [browser.User(chromium, address, (900, 700)) for _ in range(options.users)]
        for number, user in enumerate(users):
            own = folder / f"user{number}.png"
            Image.fromarray(np.roll(np.asarray(Image.open(image)), 7 * number, axis=0)).save(own)
            user.upload(own)
            user.ask(f"object of user {number}")
            user.remove_clicks()
            user.tool("positive")
        begin = [user.edits() for user in users]
        expected: list[list[tuple[float, float]]] = [[] for _ in users]
        memory, started = [memory_of(process.pid)], time.monotonic()
        for step in range(options.edits):
            for number, user in enumerate(users):
                expected[number] = edit(user, expected[number], number, step, options)
            for user, first in zip(users, begin, strict=True):
                user.wait_for_edits(first + step + 1)
            if (step + 1) % max(1, options.edits // 10) == 0:
                memory.append(memory_of(process.pid))
                print(f"{step + 1} edits of each user, {memory[-1]} MB", file=sys.stderr, flush=True)
        seconds = time.monotonic() - started
        for user in users:
            user.save()
    rows = {row.query: row for row in store.read(output / "clicks")}
    for number, points in enumerate(expected):
        row = rows[f"object of user {number}"]
        found = [(click.x, click.y) for click in row.clicks]
        assert np.allclose(found, points, atol=1.5), (number, found, points)
    total = options.users * options.edits
    return {
        "users": options.users,
        "edits_each": options.edits,
        "edits_per_s": round(total / seconds, 1),
        "lost_or_mixed": 0,
        "memory_mb": memory,
    }


def edit(
    user: browser.User,
    points: list[tuple[float, float]],
    number: int,
    step: int,
    options: argparse.Namespace,
) -> list[tuple[float, float]]:
    """Add a click of the user, or delete the first one where there are five; returns the clicks that are left."""
    if len(points) == 5:
        user.page.locator("#editor [data-number='0']").click()
        user.tool("delete")
        return points[1:]
    x, y = 0.05 + 0.9 * number / options.users, 0.05 + 0.9 * (step % 23) / 23
    user.page.mouse.click(*user.place(x, y))
    return [*points, (x * options.side - 0.5, y * options.side - 0.5)]


def cpu_of(process: int) -> float:
    """The seconds of CPU time of a process so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_of(process: int) -> int:
    """The resident memory of a process in MB."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) // 1024


def random_weights(name: str, folder: Path) -> list[str]:
    """Options of an app with an untrained segmenter of segment-anything's shapes, whose weights are written here."""
    from segment_anything import sam_model_registry

    torch.manual_seed(0)
    path = folder / f"{name}.pth"
    torch.save(sam_model_registry[name.removeprefix("sam_")]().state_dict(), path)
    return ["--segmenter", name, "--segmenter-checkpoint", str(path)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clicks", type=int, default=60)
    parser.add_argument("--side", type=int, default=512, help="side of the image in pixels")
    parser.add_argument(
        "--users", type=int, default=0, help="users at the same time; 0 measures a click of one user"
    )
    parser.add_argument("--edits", type=int, default=200, help="edits of each user")
    parser.add_argument("--random", help="an untrained segmenter of these shapes, such as sam_vit_b")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        geoclick(["scenes", str(folder / "scenes"), "--split", "test", "--count", "1"])
        image = folder / "image.png"
        scene = Image.open(next((folder / "scenes/test/images").iterdir())).convert("RGB")
        scene.resize((options.side, options.side), Image.Resampling.BICUBIC).save(image)
        words = random_weights(options.random, folder) if options.random else []
        found = (
            many_users(options, folder, image) if options.users else one_user(options, folder, image, words)
        )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
