import importlib.util
import os
import re
import subprocess
import sys

import pytest

from tests.docs import markdown
from tests.paths import REPO

PAGES = markdown.navigation()


def test_every_page_is_in_the_navigation_once_and_exists():
    existing = {path.relative_to(markdown.DOCS).as_posix() for path in markdown.DOCS.rglob("*.md")}
    assert sorted(PAGES) == sorted(existing)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_anchors_that_exist(page):
    folder = (markdown.DOCS / page).parent
    for link in markdown.links(page):
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = (folder / path).resolve() if path else markdown.DOCS / page
        assert target.is_file(), link
        assert target.is_relative_to(markdown.DOCS), link
        if anchor:
            assert anchor in markdown.anchors(target.relative_to(markdown.DOCS)), link


def test_a_link_to_a_missing_anchor_would_be_seen():
    assert "where-to-start" in markdown.anchors("index.md")
    assert "where-to-begin" not in markdown.anchors("index.md")
    assert "tutorial.md" in markdown.links("index.md")


@pytest.mark.parametrize("page", PAGES)
def test_no_page_names_paths_of_a_machine_or_a_registry(page):
    assert not re.search(
        r"/tmp/|/root/|/home/|/opt/|/work/|pypi\.org|huggingface\.co|hf\.co", markdown.text(page)
    )


def test_the_build_needs_no_network_and_nothing_is_sent():
    config = (REPO / "mkdocs.yml").read_text(encoding="utf-8")
    assert "font: false" in config
    assert "generator: false" in config
    for word in ("analytics", "consent", "repo_url", "inventories", "extra_javascript", "http"):
        assert not re.search(rf"\b{word}\b", config), word


def test_the_site_is_not_committed():
    assert "/site/" in (REPO / ".gitignore").read_text(encoding="utf-8").splitlines()


@pytest.mark.skipif(
    importlib.util.find_spec("mkdocs") is None, reason="mkdocs is not installed: pip install -e '.[docs]'"
)
def test_the_strict_build_passes_and_its_pages_load_nothing_from_elsewhere(tmp_path):
    # A proxy that does not answer: a build that needs the network fails.
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9")
    subprocess.run(
        [
            sys.executable,
            "-m",
            "mkdocs",
            "build",
            "--strict",
            "--quiet",
            "--site-dir",
            str(tmp_path / "site"),
        ],
        cwd=REPO,
        env={**os.environ, **nowhere, "NO_MKDOCS_2_WARNING": "1"},
        check=True,
        timeout=300,
    )
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > len(PAGES)
    for page in pages:
        source = page.read_text(encoding="utf-8")
        assert not re.search(r'<(?:script|img|iframe)[^>]*src="(?:https?:)?//', source), page
        assert not re.search(r'<link[^>]*rel="stylesheet"[^>]*href="(?:https?:)?//', source), page
    assert "geoclick.inference.pipeline.load" in (tmp_path / "site" / "api.html").read_text(encoding="utf-8")
