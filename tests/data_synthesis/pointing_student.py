"""A student whose clicks a test decides."""

from geoclick.clicks import Click
from geoclick.codec import Answer, Part


def three_places(query):
    """Clicks for `thing N`: none, one, or two that overlap."""
    number = int(query.split()[1])
    return [[(Click(14 + number, 10.5 + number), Click(30, 30.0))[: number % 3]], []][number % 3 == 0]


class PointingStudent:
    """Answers with the clicks that a function gives for a query, in parts; counts the queries."""

    def __init__(self, clicks):
        self.clicks, self.queries = clicks, []

    def describe(self):
        return {"vlm": "pointing"}

    def refusal(self, size):
        return ""

    def answer(self, images, queries):
        assert len(images) == len(queries)
        self.queries += queries
        return [self._answer(self.clicks(query)) for query in queries]

    def _answer(self, parts):
        flat = tuple(click for part in parts for click in part)
        return Answer(flat, "ok" if flat else "empty", (), tuple(map(Part, parts)) if len(parts) > 1 else ())
