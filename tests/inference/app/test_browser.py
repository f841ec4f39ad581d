"""The app in headless Chromium with real clicks, on the embedded models."""

from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from geoclick import masks, store
from tests.inference.app import browser

pytestmark = pytest.mark.skipif(
    bool(browser.missing()), reason=f"needs Gradio and a browser: {browser.missing()}"
)

QUERY = "the building"
USERS = 10


def row_of(output, query):
    (row,) = [row for row in store.read(output / "clicks") if row.query == query]
    return row


def test_from_a_query_to_a_row_that_trains(user, scenes, output):
    user.upload(scenes / "000000.png")
    user.ask(QUERY)
    first = user.mask()
    before = len(user.clicks())
    user.tool("positive")
    user.click(0.3, 0.3)
    user.tool("negative")
    with_positive = user.mask()
    user.click(0.7, 0.6)
    assert len(user.clicks()) == before + 2
    assert user.clicks()[-1][0] == "-"
    with_negative = user.mask()
    assert len({first, with_positive, with_negative}) >= 2
    user.drag(before, 0.4, 0.35)
    assert user.clicks()[before][1] != "translate(77.5 77.5)"
    user.page.locator(f"#editor [data-number='{before + 1}']").click()
    user.after_edit(lambda: user.tool("flip"))
    assert user.clicks()[-1][0] == "+"
    user.after_edit(lambda: user.tool("delete"))
    assert len(user.clicks()) == before + 1
    user.save()
    row = row_of(output, QUERY)
    assert len(row.clicks) == before + 1
    assert masks.decode_rle(row.mask).any()
    assert row.ious[-1] == 1.0
    browser.train(output / "clicks", output, output.with_name("lora"))


def test_the_page_asks_no_other_host(user, scenes, address):
    user.upload(scenes / "000000.png")
    user.ask(QUERY)
    hosts = {urlsplit(url).netloc for url in user.requests if not url.startswith(("data:", "blob:"))}
    assert hosts == {urlsplit(address).netloc}


def test_an_image_of_the_folder_is_chosen(user):
    box = user.page.get_by_label("Or choose an image of the folder")
    box.click()
    box.fill("000003")
    assert user.page.get_by_role("option", name="link.png").count() == 0
    user.page.get_by_role("option", name="000003.png").click()
    assert user.status("Ask a query").startswith("000003.png")


def test_no_file_outside_is_served(address, scenes):
    for path in (scenes.parents[2] / "secret.png", scenes / "000000.png", "/etc/passwd"):
        assert browser.status_of(f"{address}/gradio_api/file={path}") in (403, 404)


@pytest.mark.parametrize("name", ["../../../secret.png", "link.png", "/etc/passwd", "000000.png\0"])
def test_a_program_opens_no_other_path(address, name):
    """Without the list of the page, which offers no other name."""
    answer = browser.request(address, "names", "input", [name, None])
    assert "process_completed" in answer
    assert "Ask a query" not in answer
    assert "data:image" not in answer
    assert "Ask a query" in browser.request(address, "names", "input", ["000000.png", None])


def test_bad_inputs_are_refused_and_the_app_goes_on(user, scenes, tmp_path):
    broken = tmp_path / "broken.tif"
    broken.write_bytes(b"II*\0" + bytes(range(200)))
    assert str(tmp_path) not in user.upload(broken, "broken.tif")
    large = tmp_path / "large.png"
    Image.new("RGB", (1001, 1000)).save(large)
    assert "more than 1 million" in user.upload(large, "1001x1000")
    noise = np.random.default_rng(0).integers(0, 256, (900, 1000, 3), dtype=np.uint8)
    heavy = tmp_path / "heavy.bmp"
    Image.fromarray(noise).save(heavy)
    user.page.locator("#upload input[type=file]").set_input_files(heavy)
    user.page.get_by_text("maximum").first.wait_for()
    user.page.reload()
    user.page.locator("#editor .stage").wait_for()
    user.upload(scenes / "000001.png")
    script = '<img src=x onerror="document.title=\'hit\'"><script>document.title="hit"</script>'
    user.ask(script, "<script>")
    assert user.page.title() == "GeoClick"
    assert user.page.locator("img[src=x]").count() == 0
    user.ask("x" * 501, "501 characters")
    user.ask(QUERY)


@pytest.mark.slow
def test_each_of_ten_users_has_an_own_answer(chromium, address, scenes, output):
    users = [browser.User(chromium, address, (900, 700)) for _ in range(USERS)]
    for number, one in enumerate(users):
        one.upload(scenes / f"{number:06d}.png")
    queries = [f"object of user {number}" for number in range(USERS)]
    for one, query in zip(users, queries, strict=True):
        one.page.locator("#query textarea").fill(query)
    for one in users:
        one.page.locator("#ask").click()
    for one, query in zip(users, queries, strict=True):
        one.status(query)
        one.remove_clicks()
        one.tool("positive")
    for step in range(3):
        for number, one in enumerate(users):
            one.page.mouse.click(*one.place(0.1 + 0.08 * number, 0.2 + 0.2 * step))
    for one in users:
        one.page.locator("#editor [data-number='2']").wait_for()
        one.save()
    for number, query in enumerate(queries):
        row = row_of(output, query)
        xs = [click.x for click in row.clicks]
        assert len(xs) == 3
        assert np.allclose(xs, (0.1 + 0.08 * number) * row.width, atol=2)
        source = Image.open(scenes / f"{number:06d}.png").convert("RGB")
        assert (np.asarray(Image.open(output / row.image).convert("RGB")) == np.asarray(source)).all()
    for one in users:
        one.context.close()
