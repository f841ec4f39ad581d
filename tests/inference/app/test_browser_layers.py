"""Layers, parts, maps, downloads and the base model next to an adapter, in headless Chromium on the embedded models."""

import json

import numpy as np
import pytest
from PIL import Image

from tests import geotiffs, tiny
from tests.inference.app import browser

pytestmark = pytest.mark.skipif(
    bool(browser.missing()), reason=f"needs Gradio and a browser: {browser.missing()}"
)

QUERY = "the building"


@pytest.fixture(scope="module")
def field(scenes):
    """A georeferenced scene in the folder of images, whose last rows have no data."""
    pixels = np.asarray(Image.open(scenes / "000000.png").convert("RGB")).transpose(2, 0, 1).copy()
    pixels = np.maximum(pixels, 1)
    pixels[:, -20:] = 0
    return geotiffs.write_raster(scenes / "field.tif", pixels, nodata=0)


def test_several_queries_are_layers(user, scenes):
    user.upload(scenes / "000000.png")
    user.ask("the building")
    first, clicks = user.mask(), user.clicks()
    user.ask("the road", "2. the road")
    both = user.mask()
    assert both != first
    user.page.locator("#shown").get_by_label("1. the building").uncheck()
    user.status("1 of 2 answers are shown")
    assert user.mask() not in (first, both)
    user.page.locator("#layers").get_by_label("1. the building").check()
    user.status("1. the building")
    assert user.clicks() == clicks
    user.page.locator("#remove").click()
    user.status("1. the building is removed")
    assert user.page.locator("#layers").get_by_label("1. the building").count() == 0
    assert user.page.locator("#shown").is_hidden()


def test_parts_are_hidden_and_shown(user, scenes):
    user.upload(scenes / "000001.png")
    user.ask(QUERY)
    user.remove_clicks()
    assert user.page.locator("#parts").is_hidden()
    user.tool("positive")
    user.click(0.25, 0.25)
    user.tool("part")
    user.click(0.75, 0.75)
    both = user.mask()
    user.status("2 parts")
    parts = user.page.locator("#parts")
    parts.get_by_label("1").uncheck()
    user.status("1 of 2 parts are shown")
    assert user.mask() != both
    assert [sign for sign, _ in user.clicks()] == ["+"]
    parts.get_by_label("1").check()
    user.status("2 of 2 parts are shown")
    assert user.mask() == both
    assert len(user.clicks()) == 2


def test_a_map_has_a_legend_and_an_opacity(user, scenes):
    user.upload(scenes / "000000.png")
    assert user.page.locator("#editor .opacity").is_hidden()
    user.map("building; road: red; <b>water</b>; grass")
    legend = user.page.locator("#legend li").all_inner_texts()
    assert [entry.rpartition(" ")[0] for entry in legend] == ["building", "road", "<b>water</b>", "grass"]
    assert sum(float(entry.rpartition(" ")[2].rstrip("%")) for entry in legend) == pytest.approx(100, abs=0.3)
    layer = user.page.locator("#editor .classes")
    assert layer.get_attribute("src").startswith("data:image/png")
    for value in ("0", "80"):
        user.page.locator("#editor .opacity input").fill(value)
        assert float(layer.evaluate("one => getComputedStyle(one).opacity")) == int(value) / 100
    user.map("building; ; water", "The class list has a class without a name")
    assert len(user.page.locator("#legend li").all()) == 4


def test_downloads_of_a_geotiff(user, field, tmp_path):
    user.choose("field.tif")
    user.ask(QUERY)
    user.tool("positive")
    user.click(0.5, 0.5)
    user.map("building; road; water; grass")
    files = user.downloads(tmp_path / "files")
    names = (
        "mask.png",
        "overlay.png",
        "mask.tif",
        "json",
        "classes.png",
        "classes-overlay.png",
        "classes.tif",
    )
    assert set(files) == {
        *(f"field.{name}" for name in (*names, "classes.gpkg", "classes.json")),
        "field.gpkg",
    }
    mask = np.asarray(Image.open(files["field.mask.png"])) > 0
    with geotiffs.rasterio.open(field) as source, geotiffs.rasterio.open(files["field.mask.tif"]) as raster:
        assert (raster.crs, raster.transform, raster.shape) == (source.crs, source.transform, source.shape)
        assert ((raster.read(1) == 1) == mask).all()
        assert (raster.read(1)[-20:] == raster.nodata).all()
    with geotiffs.rasterio.open(files["field.classes.tif"]) as raster:
        assert raster.crs == geotiffs.UTM
        assert raster.tags(1)["class_1"] == "road"
    (crs, objects), (click_crs, clicks) = (
        geometries(files["field.gpkg"], one) for one in ("objects", "clicks")
    )
    assert crs == click_crs == geotiffs.UTM
    assert len(clicks) == len(user.clicks())
    assert sum(one.area for one in objects) / geotiffs.PIXEL**2 == pytest.approx(mask.sum(), rel=0.1)
    record = json.loads(files["field.json"].read_text(encoding="utf-8"))
    assert record["edited"]
    assert record["mask_area"] == mask.sum()
    assert len(record["clicks"]) == len(clicks)
    assert set(json.loads(files["field.classes.json"].read_text(encoding="utf-8"))["files"]) < set(files)
    # The files of an answer that has changed are no longer offered.
    user.click(0.3, 0.3)
    user.page.locator("#files").wait_for(state="hidden")


def geometries(path, layer):
    """The coordinate reference system and the geometries of a layer."""
    meta, _, found, _ = geotiffs.pyogrio.raw.read(path, layer=layer)
    return meta["crs"], geotiffs.shapely.from_wkb(found)


@pytest.mark.slow
def test_the_base_model_next_to_an_adapter(chromium, scenes, tmp_path):
    browser.train(*tiny.click_store(tmp_path / "rows"), tmp_path / "lora")
    with browser.started(tmp_path / "out", "--adapter", tmp_path / "lora") as (process, address):
        user = browser.User(chromium, address)
        user.upload(scenes / "000002.png")
        user.page.get_by_label("Compare with the base model").check()
        user.ask(QUERY, "(adapter)")
        user.page.locator("#layers label").nth(1).wait_for()
        labels = [one.inner_text() for one in user.page.locator("#layers label").all()]
        assert labels == [f"1. {QUERY} (base)", f"2. {QUERY} (adapter)"]
        captions = user.page.locator("#pair .caption-label").all_inner_texts()
        assert captions == ["base", "adapter"]
        boxes = [one.bounding_box() for one in user.page.locator("#pair img").all()]
        assert len(boxes) == 2
        assert boxes[0]["y"] == boxes[1]["y"]
        # Open pages do not delay the end of the app.
        process.terminate()
        process.wait(60)
        user.context.close()
