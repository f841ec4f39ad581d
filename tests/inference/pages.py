"""What a page holds, read by a parser."""

from html.parser import HTMLParser


class Names(HTMLParser):
    """Every tag and every address of a page."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.addresses = set(), []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href")]


def check_stands_alone(page):
    """No script, nothing from elsewhere, and nothing of a hostile query but text."""
    names = Names(page)
    assert not {"script", "link", "iframe", "object", "b1"} & names.tags
    assert all(address.startswith("data:image/jpeg;base64,") for address in names.addresses)
    assert "url(" not in page
    return names
