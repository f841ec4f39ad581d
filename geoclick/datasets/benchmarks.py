"""The benchmarks as one table: classes, label encodings, folders, splits and protocols, to be checked at a glance.

Class words are separated by semicolons, synonyms by commas, as in the published class lists of SegEarth-OV (arXiv
2410.01768), whose evaluation code also fixes the folders, thresholds and background classes of the semantic sets.
Colors are those of the sets' own papers and sites.
"""

from dataclasses import dataclass, field

from geoclick.datasets import wbs_si

RGB = tuple[int, int, int]


@dataclass(frozen=True)
class Layout:
    """Where images and labels lie below the root; `{split}` stands for the split's name.

    Attributes:
        images: the folder of images; `*/images` are all folders of this name one level down.
        labels: the folder of labels, for each of several folders of images the one beside it.
        image_suffix: how an image's name ends; what stands before is its stem. Upper and lower case are the same.
        label_suffix: what the label's name has after the stem.
        foreground: of a set with one class to find: the least grey value that belongs to it, 128 where a label is black
            and white, 1 where it was converted to 0 and 1. None: the label holds a class at each pixel.
    """

    images: str
    labels: str
    image_suffix: str = ".png"
    label_suffix: str = ".png"
    foreground: int | None = None


@dataclass(frozen=True)
class Benchmark:
    """One benchmark.

    Attributes:
        name: the value of `--dataset`.
        title: as it is printed.
        task: referring, reasoning or semantic.
        split: the one whose scores are published.
        count: images of that split in the published protocol; samples of a referring or reasoning set; None: unsaid.
        size: their (height, width); None where they differ.
        tiling: how the images were cut, for people.
        classes: synonyms of each class, the first is its name; empty where the target is described in words.
        asked: words by which a class is asked for in place of its name, where the published prompts differ from it.
        background: the class that a pixel goes to when no class is likely enough; None where there is none.
        foreground: the class whose IoU alone is the published score; None: the mean over the classes is.
        threshold: how likely a class must be at a pixel, `prob_thd` of the published evaluation.
        first: label value of the first class; the others follow in order.
        ignore: label values that do not count.
        palette: the color of each class in labels of three channels; empty where labels are never so.
        ignore_colors: colors that do not count.
        merged: further colors, with the class that each counts for.
        layouts: where its files may lie, the likeliest first.
        prepared: whether `geoclick prepare` makes the first layout from what is downloaded.
        published: stems of the scored images, where these are on a published list and not all of a folder.
    """

    name: str
    title: str
    task: str
    split: str
    count: int | None
    size: tuple[int, int] | None = None
    tiling: str = ""
    classes: tuple[tuple[str, ...], ...] = ()
    asked: dict[str, str] = field(default_factory=dict)
    background: int | None = None
    foreground: int | None = None
    threshold: float = 0.0
    first: int = 0
    ignore: tuple[int, ...] = (255,)
    palette: tuple[RGB, ...] = ()
    ignore_colors: tuple[RGB, ...] = ()
    merged: tuple[tuple[RGB, int], ...] = ()
    layouts: tuple[Layout, ...] = ()
    prepared: bool = False
    published: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each class."""
        return tuple(words[0] for words in self.classes)

    @property
    def prompts(self) -> tuple[tuple[str, ...], ...]:
        """The words by which each class is asked for, one or several."""
        return tuple((self.asked[words[0]],) if words[0] in self.asked else words for words in self.classes)


def _words(text: str) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(word.strip() for word in group.split(",")) for group in text.split(";"))


_PREPARED = (Layout("img_dir/{split}", "ann_dir/{split}"),)
"""As mmsegmentation's converters and `geoclick prepare` write it."""

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


def _one(name: str, title: str, what: str, split: str, count: int, **rest: object) -> Benchmark:
    """A set in which one class is looked for."""
    return Benchmark(name, title, "semantic", split, count, classes=((what,),), foreground=0, **rest)


def _roads(name: str, title: str, folder: str, count: int, side: int) -> Benchmark:
    """A part of the global-scale road validation set (GlobalRoadSet_Val), with names as unpacked or as converted."""
    return _one(
        *(name, title, "road", "test", count),
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
        # Referring and reasoning: read by readers of their own.
        Benchmark("rrsis-d", "RRSIS-D", "referring", "test", 3481, size=(800, 800)),
        Benchmark("earthreason", "EarthReason", "reasoning", "test", 1928),
        Benchmark("refsegrs", "RefSegRS", "referring", "test", 1817, size=(512, 512)),
        Benchmark("risbench", "RISBench", "referring", "test", 16159, size=(512, 512)),
        # Several classes: the mean over them, background included.
        Benchmark(
            *("openearthmap", "OpenEarthMap", "semantic", "val", 384),
            tiling="whole images; the list without xBD's, the full val split has 500",
            classes=_words(
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
            tiling="whole images, Urban and Rural merged",
            classes=_words("background; building,roof,house; road; water; barren; forest; agricultural"),
            background=0,
            threshold=0.3,
            first=1,
            ignore=(0, 255),
            layouts=_PREPARED,
            prepared=True,
        ),
        Benchmark(
            *("isaid", "iSAID", "semantic", "val", 11644),
            size=(896, 896),
            tiling="896x896, overlap 384; what tiles share is counted in each",
            classes=_words(
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
            classes=_words("road,parking lot; building; low vegetation; tree; car; clutter,background"),
            background=5,
            threshold=0.1,
            first=1,
            ignore=(0, 255),
            palette=_ISPRS,
            ignore_colors=((0, 0, 0),),
            layouts=_PREPARED,
            prepared=True,
        ),
        Benchmark(
            *("vaihingen", "Vaihingen", "semantic", "val", 398),
            size=(512, 512),
            tiling="512x512 of the 17 test areas, eroded labels",
            classes=_words("impervious surface; building; low vegetation; tree; car; clutter"),
            background=5,
            threshold=0.1,
            first=1,
            ignore=(0, 255),
            palette=_ISPRS,
            ignore_colors=((0, 0, 0),),
            layouts=_PREPARED,
            prepared=True,
        ),
        Benchmark(
            *("uavid", "UAVid", "semantic", "test", None),
            size=(1080, 1280),
            tiling="1080x1280, no overlap",
            classes=_words("background; building; road; car; tree; vegetation; human"),
            background=0,
            threshold=0.3,
            palette=_UAVID,
            merged=((_UAVID_MOVING_CAR, 3),),
            layouts=_PREPARED,
            prepared=True,
        ),
        Benchmark(
            *("udd5", "UDD5", "semantic", "val", 40),
            tiling="whole images",
            classes=_words("vegetation; building; road; vehicle; other"),
            asked={"other": "background"},
            background=4,
            threshold=0.4,
            layouts=_DRONE,
        ),
        Benchmark(
            *("vdd", "VDD", "semantic", "test", None),
            tiling="whole images",
            classes=_words("other; wall; road; vegetation; vehicle; roof; water"),
            # The published class list asks for the first class as background too.
            asked={"other": "background", "wall": "facade"},
            background=0,
            threshold=0.3,
            layouts=_DRONE,
        ),
        # One class to find: its IoU alone.
        Benchmark(
            *("whu-aerial", "WHU-Aerial", "semantic", "val", 1036),
            size=(512, 512),
            classes=_words("background; building"),
            background=0,
            foreground=1,
            threshold=0.6,
            layouts=(
                Layout("{split}/image", "{split}/label_cvt", foreground=1),
                Layout("{split}/image", "{split}/label", foreground=128),
                Layout("{split}/image", "{split}/label", ".tif", ".tif", foreground=128),
            ),
        ),
        _one(
            *("whu-sat2", "WHU-Sat.II", "building", "test", 3726),
            size=(512, 512),
            threshold=0.7,
            layouts=tuple(
                Layout(f"{parent}{{split}}/image", f"{parent}{{split}}/{labels}", ".tif", ".tif", foreground)
                for parent in ("1. cropped data/", "1. The cropped image data and raster labels/", "")
                for labels, foreground in (("label_cvt", 1), ("label", 128))
            ),
        ),
        _one(
            *("inria", "Inria", "building", "test", 675),
            size=(1000, 1000),
            tiling="1000x1000 of 27 listed tiles of its train set",
            threshold=0.6,
            layouts=(
                Layout("img_dir/{split}", "ann_dir/{split}", foreground=1),
                Layout("img_dir/split_{split}", "ann_dir/split_{split}", foreground=1),
            ),
            prepared=True,
        ),
        _one(
            *("xbd", "xBD", "building", "test", 933),
            size=(1024, 1024),
            tiling="whole images of before the disaster",
            threshold=0.0,
            layouts=(Layout("{split}/images_pre", "{split}/targets_cvt_pre", foreground=1),),
            prepared=True,
        ),
        _one(
            *("chn6-cug", "CHN6-CUG", "road", "val", 903),
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
        _one(
            *("wbs-si", "WBS-SI", "water", "val", 499),
            tiling="whole images of a list of 499 names",
            threshold=0.6,
            layouts=(Layout("Images", "Masks", ".jpg", ".jpg", 128),),
            published=wbs_si.NAMES,
        ),
    )
}
"""Every benchmark by its name: the two and seventeen of the method's paper, and RefSegRS and RISBench."""
TITLES = {name: benchmark.title for name, benchmark in BENCHMARKS.items()}
"""The title of every benchmark by its name."""
