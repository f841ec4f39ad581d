"""Make the pictures of `geoclick app`: app_answer.png, app_layers.png, app_map.png and app_narrow.png.

PYTHONPATH=. python docs/pictures/app.py

Runs the app with the models that ship with the package and uses it in Chromium, on a scene written as GeoTIFF. Needs
the extras `app` and `geo`, playwright and a Chromium. Pages are 1280 pixels wide, app_narrow.png 420.
"""

import tempfile
from pathlib import Path

from geoclick.scenes import drawing
from tests import geotiffs
from tests.inference.app import browser

FOLDER = Path(__file__).parent

SCENE = 46
"""Number of a test scene of version 2."""

CLASSES = "building, roof; road; water; grass; bare soil; tree; field"


def answer(user: browser.User) -> None:
    """An answer of one part with a negative click; the column of the image only."""
    user.ask("the pond")
    user.tool("negative")
    # The island.
    user.click(0.46, 0.31)
    user.page.locator("#columns > .column").last.screenshot(path=FOLDER / "app_answer.png")


def layers(user: browser.User) -> None:
    """Two answers as layers, the second one of several parts."""
    user.ask("the pond")
    user.ask("all the vehicles")
    user.page.screenshot(path=FOLDER / "app_layers.png", full_page=True)


def class_map(user: browser.User) -> None:
    """A map of classes with its legend, and downloads."""
    user.map(CLASSES)
    user.page.locator("#download").click()
    user.page.locator("#files a").first.wait_for()
    user.page.screenshot(path=FOLDER / "app_map.png", full_page=True)


def narrow(user: browser.User) -> None:
    """The page on a narrow screen."""
    user.ask("all the trees")
    user.page.screenshot(path=FOLDER / "app_narrow.png", full_page=True)


def main() -> None:
    """Take the pictures, each on a page of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scene, _, _ = drawing.sample_scene(0, "test", SCENE, drawing.VARIED_TASKS, version=2)
        geotiffs.write_raster(folder / "images/city.tif", scene.transpose(2, 0, 1))
        with (
            browser.app(folder / "out", "--images", folder / "images") as address,
            browser.chromium() as chromium,
        ):
            for take, width in ((answer, 1280), (layers, 1280), (class_map, 1280), (narrow, 420)):
                user = browser.User(chromium, address, (width, 900))
                user.choose("city.tif")
                take(user)
                user.context.close()


if __name__ == "__main__":
    main()
