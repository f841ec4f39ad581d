"""Compare two finished evaluations of the same samples.

    geoclick compare runs/base runs/lora --output runs/compared

Writes compare.json with the differences, their 95 % intervals and a p-value, and compare.html with the samples that
changed most.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from geoclick import output_folder
from geoclick.command import Command, print_next
from geoclick.config import option
from geoclick.errors import GeoClickError, UsageError
from geoclick.files import write_whole

if TYPE_CHECKING:
    from geoclick.inference.reports.comparison import Comparison

EXAMPLE = "geoclick compare runs/base runs/lora --output runs/compared"
NAME, PAGE = "compare.json", "compare.html"


@dataclass(frozen=True)
class CompareOptions:
    """Options of `geoclick compare`."""

    runs: tuple[str, ...] = option(
        help="two run folders of geoclick evaluate on the same samples", positional=True
    )
    output: str = option(help="folder for compare.json and compare.html")
    gallery: int = option(6, help="samples that gained, and that lost, shown on the page", minimum=0)
    seed: int = option(0, help="random seed (bootstrap, permutations)", minimum=0)


def run(options: CompareOptions) -> None:
    """Compare the two runs and print the result."""
    if len(options.runs) != 2:
        raise UsageError(
            f"Two run folders are compared, such as 'geoclick compare runs/a runs/b', not {len(options.runs)}."
        )
    from geoclick.inference.reports import comparison

    a, b = map(Path, options.runs)
    with output_folder.opened(Path(options.output), "compare"):
        result = compare(a, b, Path(options.output), gallery=options.gallery, seed=options.seed)
    output = Path(options.output)
    print(f"{comparison.summary_text(result)}\nreport: {output / PAGE}\nfigures: {output / NAME}")
    print_next("card", "MODEL", "--evaluation", b)


def compare(a: Path, b: Path, output: Path, *, gallery: int, seed: int) -> "Comparison":
    """Compare two run folders; writes compare.json and compare.html.

    Args:
        a: folder of a finished `geoclick evaluate`.
        b: another, of the same samples.
        output: folder to write.
        gallery: how many samples that gained, and that lost, the page shows.
        seed: of resamples and permutations.

    Raises:
        GeoClickError: a folder holds no finished evaluation, or their samples or modes differ.
    """
    from geoclick.inference.reports import comparison, comparison_page, record_pairs

    summaries = [record_pairs.read_summary(folder) for folder in (a, b)]
    protocols = [summary["protocol"] for summary in summaries]
    modes = [protocol.get("mode") for protocol in protocols]
    if modes[0] != modes[1]:
        raise GeoClickError(
            f"{a} was scored in mode {modes[0]} and {b} in mode {modes[1]}; evaluate both in one --mode."
        )
    change = record_pairs.error_reduction if modes[0] == "semantic" else record_pairs.iou_gain
    pairs = record_pairs.read_pairs(a, b, count=gallery, change=change)
    if (count := len(pairs.images)) != protocols[0].get("n", count):
        raise GeoClickError(
            f"{a} and {b} hold {count} of {protocols[0]['n']} predictions; evaluate both again."
        )
    result = comparison.compare((a, b), summaries, pairs, seed)
    try:
        page = comparison_page.render(result, protocols, pairs)
    except record_pairs.READ_ERRORS as error:
        raise GeoClickError(
            f"The records of {a} and {b} cannot be shown ({error!r}); evaluate both again."
        ) from error
    write_whole(output / PAGE, page)
    write_whole(output / NAME, json.dumps(result, indent=2) + "\n")
    return result


main = Command(
    prog="geoclick compare",
    options=CompareOptions,
    run=run,
    description="Compare two finished evaluations of the same samples.",
    example=EXAMPLE,
)


if __name__ == "__main__":
    sys.exit(main())
