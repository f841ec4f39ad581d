"""docs/datasets.md, made from the table of benchmarks and the docstrings of the readers.

python -m geoclick.datasets.documentation > docs/datasets.md
"""

import inspect
import textwrap
from types import ModuleType

from geoclick.datasets import (
    coco,
    earthreason,
    folder,
    phrase_lists,
    raster,
    rrsis_d,
    scene_benchmarks,
    windows,
)
from geoclick.datasets.benchmarks import BENCHMARKS, Benchmark, Layout
from geoclick.datasets.citations import CITATIONS

WIDTH = 120
PHRASE_LISTS = "RefSegRS and RISBench"

INTRODUCTION = """# Datasets

<!-- Made by `python -m geoclick.datasets.documentation > docs/datasets.md`; edit the tables and docstrings there. -->

Every command that reads data takes `--dataset NAME --root FOLDER --split SPLIT`. A reader yields samples: an image, a
query, the mask of the target, and the pixels that are scored. Whatever a reader leaves out is counted and reported
with the reason. `geoclick scenes FOLDER --layout NAME` writes a tiny copy of any public dataset below, to try a
command; `--layout raw-NAME` writes a copy of the download that `geoclick prepare NAME` reads.

Your own data: [plain folders](#plain-folders), [COCO](#coco), [GeoTIFF](#geotiff). Built in:
[scenes](#scenes). Public benchmarks, with sizes as height x width (inference/reports/published.py has published
scores and their sources; the report of `geoclick evaluate` shows them next to yours):
"""

REFERRING = """## Referring and reasoning benchmarks

Each sample is a query about one target. `geoclick evaluate` reports the mean of the samples' IoU (mIoU, also called
gIoU), the summed intersection over the summed union (oIoU, also called cIoU) and Pr@X, the share of samples with an IoU
of at least X. Published evaluations differ; `--mode` selects their rules:

- `native` (default): at the size of the mask, every query; an empty answer to an empty target scores 1.
- `rmsin`: at 480x480; an empty union scores 0.
- `segearth-r1`: letterboxed to 1024x1024, the first query; Pr@X counts an IoU above X.
- `think2seg`: at 840x840, a random query; an answer to an empty target is scored by its text alone.
"""

SEMANTIC = """## Semantic benchmarks

Each class of the table is a query about every image, so false positives are scored too. The IoU of a class is the
intersection over the union, both summed over the complete split (`--mode semantic`). The score is the mean over the
classes, background included, or the IoU of a single class, which is then the only query. Class lists, synonyms,
thresholds and background classes are those of SegEarth-OV's published evaluation (arXiv 2410.01768). The threshold is
the probability below which a pixel is assigned to the background class; it applies to methods with class probabilities.

A label file has one channel with the value of the class at each pixel, or three channels with its color where the table
gives colors. A file with a palette is read by its values. Unknown values and colors are not scored, and are reported.
Of datasets with a single class, a label whose maximum is 1 is of 0 and 1, also where black and white is expected. An
image without a scored pixel is left out and counted. Results depend on the list of images, their size and the
threshold: name all three with a score. A list `ROOT/SPLIT.txt` of image names, one per line, limits a split.
"""


def _wrapped(text: str, indent: str = "") -> str:
    return textwrap.fill(
        text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def _bullet(label: str, text: str) -> str:
    return _wrapped(f"- {label}: {text}", "  ")


def _overview() -> str:
    """A table with one line per benchmark."""
    lines = ["| `--dataset` | title | task | scored split | size |", "|---|---|---|---|---|"]
    for benchmark in BENCHMARKS.values():
        title = PHRASE_LISTS if benchmark.name in phrase_lists.READERS else benchmark.title
        link = f"[`{benchmark.name}`](#{title.lower().replace(' ', '-').replace('.', '')})"
        cells = (link, benchmark.title, benchmark.task, benchmark.split, _count(benchmark))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _count(benchmark: Benchmark) -> str:
    """The number of images or samples and their size."""
    unit = "samples" if benchmark.task == "referring" else "images"
    size = " of {}x{}".format(*benchmark.size) if benchmark.size else ""
    return f"{benchmark.count:,} {unit}{size}" if benchmark.count else f"{unit}{size}, number not published"


def _layout(layout: Layout) -> str:
    images, labels = (path.replace("{split}", "SPLIT") for path in (layout.images, layout.labels))
    return f"`{images}/NAME{layout.image_suffix}` with `{labels}/NAME{layout.label_suffix}`"


def _layouts(benchmark: Benchmark) -> str:
    """The layouts, with what their labels mean in datasets with a single class."""
    texts = []
    for layout in benchmark.layouts:
        meaning = "" if layout.foreground is None else f" (foreground: values from {layout.foreground})"
        texts.append(_layout(layout) + meaning)
    made = f"; `geoclick prepare {benchmark.name}` makes it from the download" if benchmark.prepared else ""
    if len(texts) == 1 or benchmark.prepared:
        return _bullet("layout", "; or ".join(texts) + made)
    return "\n".join(["- layouts, in the order in which they are tried:", *(f"  - {text}" for text in texts)])


def _classes(benchmark: Benchmark) -> str:
    """The table of the classes."""
    with_values = all(layout.foreground is None for layout in benchmark.layouts)
    head = [
        "class",
        *(["value"] if with_values else []),
        *(["color"] if benchmark.palette else []),
        "prompts",
    ]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for number, name in enumerate(benchmark.names):
        colors = [benchmark.palette[number]] if benchmark.palette else []
        colors += [color for color, merged in benchmark.merged_colors if merged == number]
        cells = [name + (" (background)" if number == benchmark.background and name != "background" else "")]
        cells += [str(benchmark.first_value + number)] if with_values else []
        cells += [" or ".join(", ".join(map(str, color)) for color in colors)] if colors else []
        lines.append(f"| {' | '.join([*cells, ', '.join(benchmark.prompts[number])])} |")
    return "\n".join(lines)


def _citations(benchmark: Benchmark) -> str:
    texts = [f"{c.authors} ({c.year}). *{c.title}*. {c.venue}." for c in CITATIONS[benchmark.name]]
    return _bullet("citation", " Scored cut: ".join(texts))


def _semantic(benchmark: Benchmark) -> str:
    """The section of a semantic benchmark."""
    tiling = f"; {benchmark.tiling}" if benchmark.tiling else ""
    if benchmark.foreground is None:
        score = f"mean IoU of {len(benchmark.classes)} classes"
    else:
        score = f"IoU of {benchmark.names[benchmark.foreground]}"
    ignored = [str(value) for value in benchmark.ignored_values]
    ignored += [f"color {', '.join(map(str, color))}" for color in benchmark.ignored_colors]
    bullets = [
        _layouts(benchmark),
        _bullet("scored", f"split `{benchmark.split}`, {_count(benchmark)}{tiling}"),
        _bullet("score", f"{score}; threshold {benchmark.threshold:g}"),
    ]
    if all(layout.foreground is None for layout in benchmark.layouts):
        bullets.append(_bullet("not scored", f"label value {' and '.join(ignored)}"))
    bullets.append(_citations(benchmark))
    heading = f"### {benchmark.title}\n\n`--dataset {benchmark.name}`\n"
    if len(benchmark.classes) == 1:
        bullets.insert(1, _bullet("class", benchmark.names[0]))
        return "\n".join([heading, *bullets, ""])
    return "\n".join([heading, *bullets, "", _classes(benchmark), ""])


def _from_docstring(heading: str, module: ModuleType, *benchmarks: str) -> str:
    """A section with the docstring of a reader, and what the table says of its benchmarks."""
    bullets = []
    for benchmark in (BENCHMARKS[name] for name in benchmarks):
        bullets.append(_bullet(benchmark.title, f"scored split `{benchmark.split}`, {_count(benchmark)}"))
        bullets.append(_citations(benchmark))
    # The docstring begins with the name, which the heading has.
    _, _, text = (inspect.getdoc(module) or "").partition(": ")
    return "\n".join([heading, "", text[0].upper() + text[1:], "", *bullets, *([""] if bullets else [])])


def markdown() -> str:
    """The content of docs/datasets.md."""
    semantic = [_semantic(b) for b in BENCHMARKS.values() if b.task == "semantic"]
    sections = [
        INTRODUCTION,
        _overview() + "\n",
        _from_docstring("## Plain folders\n\n`--dataset folder`", folder),
        _from_docstring("## COCO\n\n`--dataset coco`", coco),
        _from_docstring("## GeoTIFF\n\n`--dataset raster`", raster),
        _from_docstring("## Windows of large images", windows),
        _from_docstring("## Scenes\n\n`--dataset scenes-v1`, `--dataset scenes-v2`", scene_benchmarks),
        REFERRING,
        _from_docstring("### RRSIS-D\n\n`--dataset rrsis-d`", rrsis_d, "rrsis-d"),
        _from_docstring("### EarthReason\n\n`--dataset earthreason`", earthreason, "earthreason"),
        _from_docstring(
            f"### {PHRASE_LISTS}\n\n`--dataset refsegrs`, `--dataset risbench`",
            phrase_lists,
            "refsegrs",
            "risbench",
        ),
        SEMANTIC,
        *semantic,
    ]
    return "\n".join(sections).rstrip("\n") + "\n"


if __name__ == "__main__":
    print(markdown(), end="")
