"""The public benchmarks as one table: classes, label encodings, folders, splits and protocols.

Class words are separated by semicolons, synonyms by commas, as in the published class lists of SegEarth-OV (arXiv
2410.01768), whose evaluation code also defines the folders, thresholds and background classes of the semantic
benchmarks. Colors are those of the datasets' own papers and sites.
"""

from dataclasses import dataclass, field

from geoclick.datasets import wbs_si

RGB = tuple[int, int, int]


@dataclass(frozen=True)
class Layout:
    """Folders and file names of images and labels below the root; `{split}` stands for the split's name.

    Attributes:
        images: folder of the images; `*/images` stands for all folders of this name one level down.
        labels: folder of the labels; `*/labels` for the one next to each folder of images.
        image_suffix: end of an image's name, in upper or lower case; the rest of the name is its stem.
        label_suffix: end of a label's name, after the stem.
        foreground: smallest gray value of the class, in datasets with a single class: 128 if labels are black and
            white, 1 if they were converted to 0 and 1; a label whose maximum is 1 is of 0 and 1 in any case. None:
            the label holds a class at each pixel.
    """

    images: str
    labels: str
    image_suffix: str = ".png"
    label_suffix: str = ".png"
    foreground: int | None = None


@dataclass(frozen=True)
class Benchmark:
    """One public benchmark.

    Attributes:
        name: the value of `--dataset`.
        title: the name in tables.
        task: referring, reasoning or semantic.
        split: the split of the published scores.
        count: images of that split in the published protocol, or samples if the task is referring or reasoning; None
            if it is not published.
        size: (height, width) of the images; None if they differ.
        tiling: how the images were cut, in words.
        classes: synonyms of each class, the first is its name; empty if the target is described by a query.
        prompt_names: the prompt of a class by its name, where the published prompts differ from the class names.
        background: class of the pixels at which no class is likely enough; None if there is none.
        foreground: class whose IoU alone is the published score, and which alone is a query; None if the score is the
            mean over the classes.
        threshold: smallest probability of a class at a pixel, `prob_thd` of the published evaluation.
        first_value: label value of the first class; the others follow in order.
        ignored_values: label values that are not scored.
        palette: color of each class in labels with three channels; empty if there are no such labels.
        ignored_colors: colors that are not scored.
        merged_colors: further colors, each with the number of its class.
        layouts: layouts of the files, the most likely one first.
        prepared: whether `geoclick prepare` makes the first layout from the public download.
        scored_stems: stems of the scored images, if these are a published list and not all images of a folder.
    """

    name: str
    title: str
    task: str
    split: str
    count: int | None
    size: tuple[int, int] | None = None
    tiling: str = ""
    classes: tuple[tuple[str, ...], ...] = ()
    prompt_names: dict[str, str] = field(default_factory=dict)
    background: int | None = None
    foreground: int | None = None
    threshold: float = 0.0
    first_value: int = 0
    ignored_values: tuple[int, ...] = (255,)
    palette: tuple[RGB, ...] = ()
    ignored_colors: tuple[RGB, ...] = ()
    merged_colors: tuple[tuple[RGB, int], ...] = ()
    layouts: tuple[Layout, ...] = ()
    prepared: bool = False
    scored_stems: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each class."""
        return tuple(words[0] for words in self.classes)

    @property
    def prompts(self) -> tuple[tuple[str, ...], ...]:
        """The prompts of each class, one or several synonyms."""
        return tuple(
            (self.prompt_names[words[0]],) if words[0] in self.prompt_names else words
            for words in self.classes
        )


def _classes(text: str) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(word.strip() for word in group.split(",")) for group in text.split(";"))


_PREPARED = (Layout("img_dir/{split}", "ann_dir/{split}"),)
"""As written by mmsegmentation's converters and `geoclick prepare`."""

_DRONE = (Layout("{split}/src", "{split}/gt", ".jpg", ".png"),)

# impervious surface, building, low vegetation, tree, car, clutter
_ISPRS = ((255, 255, 255), (0, 0, 255), (0, 255, 255), (0, 255, 0), (255, 255, 0), (255, 0, 0))

# background, ship, store tank, baseball diamond, tennis court, basketball court, ground track field, bridge,
# large vehicle, small vehicle, helicopter, swimming pool, roundabout, soccer ball field, plane, harbor
_ISAID = (
    *((0, 0, 0), (0, 0, 63), (0, 63, 63), (0, 63, 0), (0, 63, 127), (0, 63, 191), (0, 63, 255), (0, 127, 63)),
    *((0, 127, 127), (0, 0, 127), (0, 0, 191), (0, 0, 255), (0, 191, 127), (0, 127, 191), (0, 127, 255)),
    (0, 100, 155),
)

# background, building, road, (static) car, tree, vegetation, human
_UAVID = ((0, 0, 0), (128, 0, 0), (128, 64, 128), (192, 0, 192), (0, 128, 0), (128, 128, 0), (64, 64, 0))
_UAVID_MOVING_CAR = (64, 0, 128)


def _roads(name: str, title: str, folder: str, count: int, side: int) -> Benchmark:
    """A part of the global-scale road validation set (GlobalRoadSet_Val), as downloaded or as converted."""
    return Benchmark(
        *(name, title, "semantic", "test", count),
        classes=_classes("road"),
        foreground=0,
        size=(side, side),
        threshold=0.7,
        layouts=tuple(
            Layout(f"{parent}{images}", f"{parent}{labels}", suffix, label_suffix, foreground)
            for parent in (f"{folder}/", "")
            for images, labels, suffix, label_suffix, foreground in (
                ("img", "gt", "_sat.jpg", "_mask.png", 128),
                ("img", "gt", ".jpg", ".png", 128),
                ("img", "label_cvt", ".jpg", ".png", 1),
                ("image_cvt", "label_cvt", ".jpg", ".png", 1),
            )
        ),
    )


BENCHMARKS = {
    benchmark.name: benchmark
    for benchmark in (
        # Referring and reasoning; each has its own reader.
        Benchmark("rrsis-d", "RRSIS-D", "referring", "test", 3481, size=(800, 800)),
        Benchmark("earthreason", "EarthReason", "reasoning", "test", 1928),
        Benchmark("refsegrs", "RefSegRS", "referring", "test", 1817, size=(512, 512)),
        Benchmark("risbench", "RISBench", "referring", "test", 16159, size=(512, 512)),
        # Several classes; the score is the mean over them, background included.
        Benchmark(
            *("openearthmap", "OpenEarthMap", "semantic", "val", 384),
            tiling="not cut; the list without xBD's, the full val split has 500",
            classes=_classes(
                "background; bareland,barren; grass; pavement; road; tree,forest; water,river; cropland; "
                "building,roof,house"
            ),
            background=0,
            threshold=0.1,
            layouts=(
                Layout("img_dir/{split}", "ann_dir/{split}", ".tif", ".tif"),
                Layout("*/images", "*/labels", ".tif", ".tif"),
            ),
        ),
        Benchmark(
            *("loveda", "LoveDA", "semantic", "val", 1669),
            size=(1024, 1024),
            tiling="not cut, Urban and Rural merged",
            classes=_classes("background; building,roof,house; road; water; barren; forest; agricultural"),
            background=0,
            threshold=0.3,
            first_value=1,
            ignored_values=(0, 255),
            layouts=_PREPARED,
            prepared=True,
        ),
        Benchmark(
            *("isaid", "iSAID", "semantic", "val", 11644),
            size=(896, 896),
            tiling="896x896, overlap 384; shared pixels are counted in each tile",
            classes=_classes(
                "background; ship; store tank; baseball diamond; tennis court; basketball court; ground track field; "
                "bridge; large vehicle; small vehicle; helicopter; swimming pool; roundabout; soccer ball field; "
                "plane; harbor"
            ),
            background=0,
            threshold=0.4,
            palette=_ISAID,
            layouts=(Layout("img_dir/{split}", "ann_dir/{split}", label_suffix="_instance_color_RGB.png"),),
            prepared=True,
        ),
        Benchmark(
            *("potsdam", "Potsdam", "semantic", "val", 2016),
            size=(512, 512),
            tiling="512x512 of the 14 test tiles, no overlap",
            classes=_classes("road,parking lot; building; low vegetation; tree; car; clutter,background"),
            background=5,
            threshold=0.1,
            first_value=1,
            ignored_values=(0, 255),
            palette=_ISPRS,
            ignored_colors=((0, 0, 0),),
            layouts=_PREPARED,
            prepared=True,
        ),
        Benchmark(
            *("vaihingen", "Vaihingen", "semantic", "val", 398),
            size=(512, 512),
            tiling="512x512 of the 17 test areas, eroded labels",
            classes=_classes("impervious surface; building; low vegetation; tree; car; clutter"),
            background=5,
            threshold=0.1,
            first_value=1,
            ignored_values=(0, 255),
            palette=_ISPRS,
            ignored_colors=((0, 0, 0),),
            layouts=_PREPARED,
            prepared=True,
        ),
        Benchmark(
            *("uavid", "UAVid", "semantic", "test", None),
            size=(1080, 1280),
            tiling="1080x1280, no overlap",
            classes=_classes("background; building; road; car; tree; vegetation; human"),
            background=0,
            threshold=0.3,
            palette=_UAVID,
            merged_colors=((_UAVID_MOVING_CAR, 3),),
            layouts=_PREPARED,
            prepared=True,
        ),
        Benchmark(
            *("udd5", "UDD5", "semantic", "val", 40),
            tiling="not cut",
            classes=_classes("vegetation; building; road; vehicle; other"),
            prompt_names={"other": "background"},
            background=4,
            threshold=0.4,
            layouts=_DRONE,
        ),
        Benchmark(
            *("vdd", "VDD", "semantic", "test", None),
            tiling="not cut",
            classes=_classes("other; wall; road; vegetation; vehicle; roof; water"),
            # The prompt of the first class is background, as in the published class list.
            prompt_names={"other": "background", "wall": "facade"},
            background=0,
            threshold=0.3,
            layouts=_DRONE,
        ),
        # A single class; the score is its IoU.
        Benchmark(
            *("whu-aerial", "WHU-Aerial", "semantic", "val", 1036),
            size=(512, 512),
            classes=_classes("background; building"),
            background=0,
            foreground=1,
            threshold=0.6,
            layouts=(
                Layout("{split}/image", "{split}/label_cvt", foreground=1),
                Layout("{split}/image", "{split}/label", foreground=128),
                Layout("{split}/image", "{split}/label", ".tif", ".tif", foreground=128),
            ),
        ),
        Benchmark(
            *("whu-sat2", "WHU-Sat.II", "semantic", "test", 3726),
            classes=_classes("building"),
            foreground=0,
            size=(512, 512),
            threshold=0.7,
            layouts=tuple(
                Layout(f"{parent}{{split}}/image", f"{parent}{{split}}/{labels}", ".tif", ".tif", foreground)
                for parent in ("1. cropped data/", "1. The cropped image data and raster labels/", "")
                for labels, foreground in (("label_cvt", 1), ("label", 128))
            ),
        ),
        Benchmark(
            *("inria", "Inria", "semantic", "test", 675),
            classes=_classes("building"),
            foreground=0,
            size=(1000, 1000),
            tiling="1000x1000 of 27 listed tiles of its train set",
            threshold=0.6,
            layouts=(
                Layout("img_dir/split_{split}", "ann_dir/split_{split}", foreground=1),
                Layout("img_dir/{split}", "ann_dir/{split}", foreground=1),
            ),
            prepared=True,
        ),
        Benchmark(
            *("xbd", "xBD", "semantic", "test", 933),
            classes=_classes("building"),
            foreground=0,
            size=(1024, 1024),
            tiling="not cut; the images from before the disaster",
            threshold=0.0,
            layouts=(Layout("{split}/images_pre", "{split}/targets_cvt_pre", foreground=1),),
            prepared=True,
        ),
        Benchmark(
            *("chn6-cug", "CHN6-CUG", "semantic", "val", 903),
            classes=_classes("road"),
            foreground=0,
            size=(512, 512),
            threshold=0.8,
            layouts=(
                Layout("{split}/images", "{split}/gt", "_sat.jpg", "_mask.png", 128),
                Layout("{split}/image_cvt", "{split}/label_cvt", ".jpg", ".png", 1),
            ),
        ),
        _roads("deepglobe", "DeepGlobe", "DeepGlobe_test_1530", 1530, 1024),
        _roads("massachusetts", "Massachusetts", "Massachusetts_test_49", 49, 1500),
        _roads("spacenet", "SpaceNet", "SpaceNet_test_567", 567, 1300),
        Benchmark(
            *("wbs-si", "WBS-SI", "semantic", "val", 499),
            classes=_classes("water"),
            foreground=0,
            tiling="not cut; a list of 499 names",
            threshold=0.6,
            layouts=(Layout("Images", "Masks", ".jpg", ".jpg", 128),),
            scored_stems=wbs_si.NAMES,
        ),
    )
}
"""Every benchmark by its name: the 19 of the method's paper, RefSegRS and RISBench."""
TITLES = {name: benchmark.title for name, benchmark in BENCHMARKS.items()}
"""The title of every benchmark by its name."""
