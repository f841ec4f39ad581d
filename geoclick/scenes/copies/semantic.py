"""Tiny copies of the seventeen semantic benchmarks, with the peculiarities of each.

Images have their true sizes up to 1024 pixels a side; those of the drone datasets have a quarter of the side, those of
Massachusetts and SpaceNet half of it. In datasets with a single class, every third image lacks it.
"""

import zlib
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from geoclick.datasets.benchmarks import BENCHMARKS
from geoclick.datasets.class_maps import IGNORED, OTHER
from geoclick.scenes import generate, render
from geoclick.scenes.copies import labels
from geoclick.scenes.copies.labels import Encode, Ignore


@dataclass(frozen=True)
class Copy:
    """The copy of one benchmark.

    Attributes:
        folders: folders of images and of labels.
        names: names of an image and of its label: `{n}` is its number, `{x0}` and `{x1}` are the columns of a tile.
        sizes: (height, width) of the images, in turn.
        classes: "kind: class, ..." for the kinds of objects in a scene; `ground` is the class of all other pixels.
        encode: encodes a label.
        ignore: marks pixels of a label as ignored.
        first: number of the first image.
        needs: kind of object that images show, except those that lack the class.
        listed: whether a list names the scored images; the copy has one more image then.
    """

    folders: tuple[str, str]
    names: tuple[str, str]
    sizes: tuple[tuple[int, int], ...]
    classes: str
    encode: Encode
    ignore: Ignore = labels.all_scored
    first: int = 0
    needs: str = "building"
    listed: bool = False


SAVE_OPTIONS: dict[str, dict[str, Any]] = {".png": {"compress_level": 1}, ".tif": {"compression": "tiff_lzw"}}
"""Pillow's options by file suffix."""

_ISPRS = "ground: low vegetation, building: building, tree: tree, vehicle: car, storage tank: clutter"
_DRONE = "ground: vegetation, road: road, vehicle: vehicle, bare land: other"

COPIES = {
    "openearthmap": Copy(
        folders=("img_dir/val", "ann_dir/val"),
        names=("aachen_{n}.tif", "aachen_{n}.tif"),
        sizes=((1000, 1000), (900, 1024)),
        classes="ground: grass, bare land: bareland, sports court: pavement, road: road, tree: tree, pond: water, "
        "field: cropland, building: building, storage tank: background",
        encode=labels.values(first=0, ignored=255),
        listed=True,
        first=1,
    ),
    "loveda": Copy(
        folders=("img_dir/val", "ann_dir/val"),
        names=("{n}.png", "{n}.png"),
        sizes=((1024, 1024),),
        classes="ground: background, building: building, road: road, pond: water, bare land: barren, tree: forest, "
        "field: agricultural",
        encode=labels.values(first=1, ignored=0),
        ignore=labels.no_data,
        first=2522,
    ),
    "isaid": Copy(
        folders=("img_dir/val", "ann_dir/val"),
        names=("P{n:04}_0_896_0_896.png", "P{n:04}_0_896_0_896_instance_color_RGB.png"),
        sizes=((896, 896),),
        classes="ground: background, storage tank: store tank, vehicle: small vehicle, sports court: tennis court, "
        "pond: swimming pool",
        encode=labels.in_turn(labels.colors("isaid"), labels.values(first=0, ignored=255)),
        ignore=labels.padded,
        needs="vehicle",
        first=3,
    ),
    "potsdam": Copy(
        folders=("img_dir/val", "ann_dir/val"),
        names=("2_13_{x0}_0_{x1}_512.png", "2_13_{x0}_0_{x1}_512.png"),
        sizes=((512, 512),),
        classes=f"{_ISPRS}, road: road, bare land: road",
        encode=labels.in_turn(labels.values(first=1, ignored=0), labels.colors("potsdam")),
        ignore=labels.eroded,
    ),
    "vaihingen": Copy(
        folders=("img_dir/val", "ann_dir/val"),
        names=("area2_{x0}_0_{x1}_512.png", "area2_{x0}_0_{x1}_512.png"),
        sizes=((512, 512),),
        classes=f"{_ISPRS}, road: impervious surface, bare land: impervious surface",
        encode=labels.in_turn(labels.values(first=1, ignored=0), labels.colors("vaihingen")),
        ignore=labels.eroded,
    ),
    "uavid": Copy(
        folders=("img_dir/test", "ann_dir/test"),
        names=("seq21_{n:06}_0_1080_0_1280.png", "seq21_{n:06}_0_1080_0_1280.png"),
        sizes=((270, 320),),
        classes="ground: background, building: building, road: road, vehicle: car, tree: tree, field: vegetation",
        encode=labels.in_turn(labels.moving_cars, labels.black_palette, labels.values(first=0, ignored=255)),
        needs="vehicle",
    ),
    "udd5": Copy(
        folders=("val/src", "val/gt"),
        names=("{n:06}.JPG", "{n:06}.png"),
        sizes=((750, 1000), (540, 1024)),
        classes=f"{_DRONE}, building: building, pond: other",
        encode=labels.values(first=0, ignored=255),
        first=61,
    ),
    "vdd": Copy(
        folders=("test/src", "test/gt"),
        names=("DJI_{n:05}.JPG", "DJI_{n:05}.png"),
        sizes=((750, 1000),),
        classes=f"{_DRONE}, building: roof, storage tank: wall, pond: water",
        encode=labels.values(first=0, ignored=255),
        first=10501,
    ),
    "whu-aerial": Copy(
        folders=("val/image", "val/label_cvt"),
        names=("{n}.png", "{n}.png"),
        sizes=((512, 512),),
        classes="ground: background, building: building",
        encode=labels.foreground(1, number=1),
        first=1,
    ),
    "whu-sat2": Copy(
        folders=("1. cropped data/test/image", "1. cropped data/test/label"),
        names=("{n}.tif", "{n}.tif"),
        sizes=((512, 512),),
        classes="building: building",
        encode=labels.foreground(255),
        first=1003,
    ),
    "inria": Copy(
        folders=("img_dir/split_test", "ann_dir/split_test"),
        names=("austin1_{x0}_0_{x1}_1000.png", "austin1_{x0}_0_{x1}_1000.png"),
        sizes=((1000, 1000),),
        classes="building: building",
        encode=labels.foreground(1),
    ),
    "xbd": Copy(
        folders=("test/images_pre", "test/targets_cvt_pre"),
        names=("palu-tsunami_{n:08}_pre_disaster.png", "palu-tsunami_{n:08}_pre_disaster.png"),
        sizes=((1024, 1024),),
        classes="building: building",
        encode=labels.damage,
    ),
    "chn6-cug": Copy(
        folders=("val/images", "val/gt"),
        names=("am{n:06}_sat.jpg", "am{n:06}_mask.png"),
        sizes=((512, 512),),
        classes="road: road",
        encode=labels.foreground(255),
        needs="road",
        first=100034,
    ),
    "deepglobe": Copy(
        folders=("DeepGlobe_test_1530/img", "DeepGlobe_test_1530/gt"),
        names=("{n}_sat.jpg", "{n}_mask.png"),
        sizes=((1024, 1024),),
        classes="road: road",
        encode=labels.gray_edges,
        needs="road",
        first=100034,
    ),
    "massachusetts": Copy(
        folders=("Massachusetts_test_49/img", "Massachusetts_test_49/gt"),
        names=("{n}_15.jpg", "{n}_15.png"),
        sizes=((750, 750),),
        classes="road: road",
        encode=labels.foreground(255),
        needs="road",
        first=10378780,
    ),
    "spacenet": Copy(
        folders=("SpaceNet_test_567/img", "SpaceNet_test_567/label_cvt"),
        names=("AOI_2_Vegas_img{n}.jpg", "AOI_2_Vegas_img{n}.png"),
        sizes=((650, 650),),
        classes="road: road",
        encode=labels.foreground(1),
        needs="road",
        first=1,
    ),
    "wbs-si": Copy(
        folders=("Images", "Masks"),
        names=("water_body_{n}.jpg", "water_body_{n}.jpg"),
        sizes=((300, 450), (512, 384)),
        classes="pond: water",
        encode=labels.three_channels,
        needs="pond",
        listed=True,
        first=8,
    ),
}


def paint(name: str, seed: int, index: int) -> tuple[np.ndarray, np.ndarray]:
    """One image of a copy, uint8 [H, W, 3] RGB, and its class map as in `labels`, uint8 [H, W]."""
    copy, benchmark = COPIES[name], BENCHMARKS[name]
    has_target = len(benchmark.classes) > 2 or index % 3 < 2
    scenes = (generate((seed, zlib.crc32(name.encode()), index, attempt)) for attempt in count())
    scene = next(s for s in scenes if (copy.needs in {thing.kind for thing in s.objects}) == has_target)
    numbers = {
        kind: benchmark.names.index(word)
        for kind, word in (pair.split(": ") for pair in copy.classes.split(", "))
    }
    ground = numbers.get("ground", OTHER)
    of_id = np.array([ground] + [numbers.get(thing.kind, ground) for thing in scene.objects], np.uint8)
    image, ids = render(scene)
    height, width = copy.sizes[index % len(copy.sizes)]
    image = np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
    stretched = Image.fromarray(of_id[ids]).resize((width, height), Image.Resampling.NEAREST)
    classes = copy.ignore(np.asarray(stretched), index)
    if copy.ignore in (labels.no_data, labels.padded):
        image[classes == IGNORED] = 0
    return image, classes


def file_names(name: str, index: int) -> tuple[str, str]:
    """The names of an image and of its label."""
    copy = COPIES[name]
    _, width = copy.sizes[0]
    places = {"n": copy.first + index, "x0": index * width, "x1": (index + 1) * width}
    return copy.names[0].format(**places), copy.names[1].format(**places)


def write(name: str, root: Path, images: int, seed: int) -> None:
    """Write the copy of a benchmark.

    Args:
        name: a key of COPIES.
        root: folder of the copy.
        images: number of images of the scored split.
        seed: the same one gives the same files.
    """
    copy = COPIES[name]
    for folder in copy.folders:
        (root / folder).mkdir(parents=True, exist_ok=True)
    for index in range(images + copy.listed):
        image, classes = paint(name, seed, index)
        pair = (Image.fromarray(image), copy.encode(classes, index))
        for content, folder, file in zip(pair, copy.folders, file_names(name, index), strict=True):
            path = root / folder / file
            content.save(path, **SAVE_OPTIONS.get(path.suffix, {}))
    if copy.listed:
        names = "".join(f"{file_names(name, index)[0]}\n" for index in range(images))
        (root / f"{BENCHMARKS[name].split}.txt").write_text(names)


SEMANTIC = {name: partial(write, name) for name in COPIES}
"""Functions that write the copy of each semantic benchmark, with (folder, number of images, seed)."""
