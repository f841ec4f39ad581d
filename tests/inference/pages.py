"""What a page contains, read by a parser."""

from html.parser import HTMLParser


class PageParser(HTMLParser):
    """Collects every tag and every address of a page."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.addresses = set(), []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href")]


def check_self_contained(page):
    """No script, nothing loaded from elsewhere, and hostile text only as text."""
    parsed = PageParser(page)
    assert not {"script", "link", "iframe", "object", "b1"} & parsed.tags
    assert all(address.startswith("data:image/jpeg;base64,") for address in parsed.addresses)
    assert "url(" not in page
    return parsed
