import pytest

from geoclick.datasets.benchmarks import BENCHMARKS
from geoclick.datasets.citations import CITATIONS
from geoclick.datasets.documentation import markdown
from tests.paths import REPO


def test_the_page_is_up_to_date():
    """Run `python -m geoclick.datasets.documentation > docs/datasets.md` after a change of the tables."""
    assert (REPO / "docs/datasets.md").read_text(encoding="utf-8") == markdown()


@pytest.mark.parametrize("benchmark", BENCHMARKS.values(), ids=BENCHMARKS)
def test_the_page_has_layout_classes_protocol_and_citation_of_every_benchmark(benchmark):
    page = markdown()
    assert f"`--dataset {benchmark.name}`" in page
    assert all(
        words in page for layout in benchmark.layouts for words in (layout.image_suffix, layout.label_suffix)
    )
    assert all(name in page for name in benchmark.names)
    for citation in CITATIONS[benchmark.name]:
        assert f"({citation.year})" in page
        assert citation.title in " ".join(page.split())


def test_every_benchmark_has_a_citation():
    assert CITATIONS.keys() == BENCHMARKS.keys()


def test_links_within_the_page_have_a_heading():
    page = markdown()
    headings = {
        line.lstrip("# ").lower().replace(" ", "-").replace(".", "")
        for line in page.splitlines()
        if line.startswith("#")
    }
    links = {part.partition(")")[0] for part in page.split("(#")[1:]}
    assert links <= headings
