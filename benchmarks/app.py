"""Click to new mask in the app, in Chromium over loopback: from the press to the drawn mask.

python -m benchmarks.app --clicks 60

Needs the extra `app`, playwright and a Chromium. Prints medians and the 95th percentile in milliseconds.
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path

from PIL import Image

from geoclick.cli import main as geoclick
from tests.inference.app import browser

DRAWN = """([x, y]) => new Promise(resolve => {
  const stage = document.querySelector("#editor .stage");
  const svg = stage.querySelector("svg");
  const begin = performance.now();
  new MutationObserver((_, observer) => {
    observer.disconnect();
    requestAnimationFrame(() => resolve(performance.now() - begin));
  }).observe(stage, { attributes: true, attributeFilter: ["data-edits"] });
  const at = { clientX: x, clientY: y, bubbles: true, pointerId: 1, button: 0 };
  svg.dispatchEvent(new PointerEvent("pointerdown", at));
  svg.dispatchEvent(new PointerEvent("pointerup", at));
})"""
"""Presses a place of the editor and waits until the mask of the new edit is drawn."""


def measure(user: browser.User, clicks: int) -> list[float]:
    """Milliseconds of each click, which is deleted again after it, so that all have the same number before them."""
    times = []
    for number in range(clicks):
        x, y = user.place(0.1 + 0.8 * (number % 9) / 9, 0.1 + 0.8 * (number % 7) / 7)
        times.append(float(user.page.evaluate(DRAWN, [x, y])))
        user.page.locator("#editor [data-number]").last.click()
        user.after_edit(lambda: user.tool("delete"))
    return times


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clicks", type=int, default=60)
    parser.add_argument("--side", type=int, default=512, help="side of the image in pixels")
    parser.add_argument(
        "--screenshots", type=Path, help="folder for pictures of the page at 1280 and 420 pixels"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        geoclick(["scenes", str(folder / "scenes"), "--split", "test", "--count", "1"])
        image = folder / "image.png"
        scene = Image.open(next((folder / "scenes/test/images").iterdir())).convert("RGB")
        scene.resize((options.side, options.side), Image.Resampling.BICUBIC).save(image)
        with browser.app(folder / "out") as address, browser.chromium() as chromium:
            user = browser.User(chromium, address)
            user.upload(image)
            user.ask("the building")
            user.tool("positive")
            measure(user, 3)
            times = sorted(measure(user, options.clicks))
            if options.screenshots:
                screenshots(chromium, address, image, options.screenshots)
    figures = {
        "clicks": len(times),
        "side": options.side,
        "median_ms": round(statistics.median(times), 1),
        "p95_ms": round(times[int(0.95 * len(times))], 1),
    }
    print(json.dumps(figures))


def screenshots(chromium: object, address: str, image: Path, folder: Path) -> None:
    """Pictures of the page at two widths."""
    folder.mkdir(parents=True, exist_ok=True)
    for width, height in ((1280, 900), (420, 900)):
        user = browser.User(chromium, address, (width, height))
        user.upload(image)
        user.ask("the building")
        user.page.screenshot(path=folder / f"app-{width}.png", full_page=True)
        user.context.close()


if __name__ == "__main__":
    main()
