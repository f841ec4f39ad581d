"""The pages of the documentation as Markdown: their headings, links, code blocks and commands."""

import re
import shlex
from typing import NamedTuple

import yaml

from tests.paths import REPO

DOCS = REPO / "docs"

FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


class Block(NamedTuple):
    """A fenced code block."""

    language: str
    code: str


def navigation():
    """The pages of mkdocs.yml in order, as paths relative to `docs`."""
    # The file has tags of pymdownx in other versions of it: only plain YAML is allowed here.
    config = yaml.safe_load((REPO / "mkdocs.yml").read_text(encoding="utf-8"))

    def pages(entries):
        for entry in entries:
            for value in entry.values():
                if isinstance(value, list):
                    yield from pages(value)
                else:
                    yield value

    return list(pages(config["nav"]))


def text(page):
    return (DOCS / page).read_text(encoding="utf-8")


def blocks(page):
    """The fenced code blocks of a page, in order."""
    return [Block(language, code) for language, code in FENCE.findall(text(page))]


def prose(page):
    """A page without its code blocks and code spans."""
    return re.sub(r"`[^`\n]*`", "", FENCE.sub("", text(page)))


def anchors(page):
    """The anchors of the headings of a page, as Markdown's extension toc makes them."""
    found = []
    for title in re.findall(r"^#{1,6} (.+)$", FENCE.sub("", text(page)), re.MULTILINE):
        plain = re.sub(r"[^\w\s-]", "", title).strip().lower()
        anchor = re.sub(r"[-\s]+", "-", plain)
        count = sum(1 for other in found if re.fullmatch(re.escape(anchor) + r"(_\d+)?", other))
        found.append(f"{anchor}_{count}" if count else anchor)
    return found


def links(page):
    """The addresses of the links and pictures of a page."""
    return LINK.findall(prose(page))


def command_lines(code):
    """The words of each command line in a code block, with continued lines joined."""
    lines = re.sub(r"\\\n\s*", "", code).splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.strip() and not line.startswith("#")]


def commands(page):
    """The words of each command line in the code blocks of a page."""
    return [
        words
        for block in blocks(page)
        if block.language in ("", "bash", "sh")
        for words in command_lines(block.code)
    ]
