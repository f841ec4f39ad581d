"""The app in headless Chromium with real clicks, on the embedded models."""

import subprocess
import sys
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from geoclick import masks, store
from geoclick.cli import main
from tests.inference.app import browser

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(browser.missing()), reason=f"needs Gradio and a browser: {browser.missing()}"),
]

QUERY = "the building"
USERS = 10


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images of scenes, and a secret next to them."""
    root = tmp_path_factory.mktemp("app")
    assert main(["scenes", str(root / "scenes"), "--split", "test", "--count", str(4 * USERS)]) == 0
    Image.new("RGB", (8, 8)).save(root / "secret.png")
    images = root / "scenes/test/images"
    (images / "link.png").symlink_to(root / "secret.png")
    return images


@pytest.fixture(scope="module")
def output(folder):
    return folder.parents[2] / "out"


@pytest.fixture(scope="module")
def address(folder, output):
    words = ("--images", folder, "--max-upload", 2, "--max-megapixels", 1)
    with browser.app(output, *words) as address:
        yield address


@pytest.fixture(scope="module")
def chromium():
    with browser.chromium() as started:
        yield started


@pytest.fixture
def user(chromium, address):
    one = browser.User(chromium, address)
    yield one
    one.context.close()


def row_of(output, query):
    (row,) = [row for row in store.read(output / "clicks") if row.query == query]
    return row


def test_from_a_query_to_a_row_that_trains(user, folder, output):
    user.upload(folder / "000000.png")
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
    words = [
        "--clicks",
        output / "clicks",
        "--root",
        output,
        "--max-steps",
        1,
        "--output",
        output.with_name("lora"),
    ]
    command = [
        sys.executable,
        "-m",
        "geoclick.cli",
        "train",
        "sft",
        "--config",
        "sft/embedded",
        *map(str, words),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_page_asks_no_other_host(user, folder, address):
    user.upload(folder / "000000.png")
    user.ask(QUERY)
    hosts = {urlsplit(url).netloc for url in user.requests if not url.startswith(("data:", "blob:"))}
    assert hosts == {urlsplit(address).netloc}


def test_an_image_of_the_folder_is_chosen(user):
    box = user.page.get_by_label("Or choose one of the folder")
    box.click()
    box.fill("000003")
    assert user.page.get_by_role("option", name="link.png").count() == 0
    user.page.get_by_role("option", name="000003.png").click()
    assert user.status("Ask a query").startswith("000003.png")


def test_no_file_outside_is_served(address, folder):
    for path in (folder.parents[2] / "secret.png", folder / "000000.png", "/etc/passwd"):
        assert browser.status_of(f"{address}/gradio_api/file={path}") in (403, 404)


def test_bad_inputs_are_refused_and_the_app_goes_on(user, folder, tmp_path):
    broken = tmp_path / "broken.tif"
    broken.write_bytes(b"II*\0" + bytes(range(200)))
    assert str(tmp_path) not in user.upload(broken, "broken.tif")
    large = tmp_path / "large.png"
    Image.new("RGB", (1001, 1000)).save(large)
    assert "more than 1 million" in user.upload(large, "1001x1000")
    noise = np.random.default_rng(0).integers(0, 256, (900, 1000, 3), dtype=np.uint8)
    heavy = tmp_path / "heavy.bmp"
    Image.fromarray(noise).save(heavy)
    user.page.locator("input[type=file]").first.set_input_files(heavy)
    user.page.get_by_text("maximum").first.wait_for()
    user.page.reload()
    user.page.locator("#editor .stage").wait_for()
    user.upload(folder / "000001.png")
    script = '<img src=x onerror="document.title=\'hit\'"><script>document.title="hit"</script>'
    user.ask(script, "<script>")
    assert user.page.title() == "GeoClick"
    assert user.page.locator("img[src=x]").count() == 0
    user.ask("x" * 501, "501 characters")
    user.ask(QUERY)


def test_each_of_ten_users_has_an_own_answer(chromium, address, folder, output):
    users = [browser.User(chromium, address, (900, 700)) for _ in range(USERS)]
    for number, one in enumerate(users):
        one.upload(folder / f"{number:06d}.png")
    queries = [f"object of user {number}" for number in range(USERS)]
    for one, query in zip(users, queries, strict=True):
        one.page.locator("#query textarea").fill(query)
    for one in users:
        one.page.locator("#ask").click()
    for one, query in zip(users, queries, strict=True):
        one.status(query)
        while one.clicks():
            one.page.locator("#editor [data-number='0']").click()
            one.after_edit(lambda one=one: one.tool("delete"))
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
        source = Image.open(folder / f"{number:06d}.png").convert("RGB")
        assert (np.asarray(Image.open(output / row.image).convert("RGB")) == np.asarray(source)).all()
    for one in users:
        one.context.close()
