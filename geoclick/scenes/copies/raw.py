"""Copies of the unpacked public downloads that `geoclick prepare` reads.

Large images are smaller than the true ones, but still make several tiles of the true size. Each copy also has files
that a job must ignore: other variants, other splits (small), labels without an image.
"""

import json
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, TiffImagePlugin

from geoclick.prepare import JOBS, isaid, isprs, uavid, xbd
from geoclick.scenes import SIZE, Scene, generate, render

ISPRS = {
    **dict.fromkeys(("road", "sports court", "paving"), 1),
    "building": 2,
    **dict.fromkeys(("field", "grass", "steppe"), 3),
    "tree": 4,
    "vehicle": 5,
    **dict.fromkeys(("pond", "storage tank", "bare land"), 6),
}
ISAID = {"storage tank": 2, "sports court": 4, "vehicle": 9, "pond": 11}
UAVID = {"building": 1, "road": 2, "vehicle": 3, "tree": 4, **dict.fromkeys(("field", "grass", "steppe"), 5)}
LOVEDA = {
    **dict.fromkeys(("grass", "steppe", "paving", "sports court", "vehicle", "storage tank"), 1),
    **{"building": 2, "road": 3, "pond": 4, "bare land": 5, "tree": 6, "field": 7},
}
BUILDING = {"building": 1}
"""Label values of the kinds and grounds of scenes; 0 for the others."""


def _draw(
    key: tuple[int, ...], size: tuple[int, int], values: Mapping[str, int]
) -> tuple[np.ndarray, np.ndarray, Scene]:
    """A scene resized to (height, width): its image, uint8 [H, W, 3], its label, uint8 [H, W], and its layout."""
    scene = generate(key)
    image, ids = render(scene)
    table = np.array([values.get(scene.ground, 0)] + [values.get(thing.kind, 0) for thing in scene.objects])
    label = Image.fromarray(table.astype(np.uint8)[ids]).resize(size[::-1], Image.Resampling.NEAREST)
    large = Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR)
    return np.asarray(large), np.asarray(label), scene


def _color(label: np.ndarray, colors: Mapping[tuple[int, int, int], int]) -> np.ndarray:
    """An index map in the first color of each value, uint8 [H, W, 3]."""
    table = np.zeros((256, 3), np.uint8)
    for color, value in reversed(list(colors.items())):
        table[value] = color
    return table[label]


def _without_boundary(label: np.ndarray) -> np.ndarray:
    """0 within 3 pixels of another class, as in the eroded labels of ISPRS."""
    from scipy import ndimage

    even = ndimage.maximum_filter(label, 7) == ndimage.minimum_filter(label, 7)
    return np.where(even, label, 0).astype(np.uint8)


def _save(path: Path, pixels: np.ndarray, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, compress_level=1, **options)


def _save_geotiff(path: Path, pixels: np.ndarray, metres: float) -> None:
    """Save a GeoTIFF with its resolution and the position of its corner."""
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    for number, content in (
        (33550, (metres, metres, 0.0)),
        (33922, (0.0, 0.0, 0.0, 366676.6, 5808201.7, 0.0)),
    ):
        tags.tagtype[number] = 12
        tags[number] = content
    _save(path, pixels, tiffinfo=tags, compression="tiff_lzw")


def potsdam(root: Path, count: int, seed: int) -> None:
    """800x800 instead of 6000x6000 pixels; some pixels of the first label have the color of no class."""
    val, train = JOBS["potsdam"].splits["val"].names, JOBS["potsdam"].splits["train"].names
    for number, name in enumerate((*val[:count], train[0])):
        image, label, _ = _draw((seed, 1, number), (800, 800), ISPRS)
        colors = _color(_without_boundary(label), isprs.COLORS)
        if number == 0:
            colors[40:44, 60:70] = (252, 255, 0)
        stem = f"top_potsdam_{name}"
        _save_geotiff(root / "2_Ortho_RGB" / f"{stem}_RGB.tif", image, 0.05)
        _save_geotiff(root / "5_Labels_all_noBoundary" / f"{stem}_label_noBoundary.tif", colors, 0.05)
        _save_geotiff(root / "5_Labels_all" / f"{stem}_label.tif", _color(label, isprs.COLORS), 0.05)
    _save_geotiff(root / "3_Ortho_IRRG" / f"top_potsdam_{val[0]}_IRRG.tif", image[..., ::-1], 0.05)


VAIHINGEN_SIZES = {
    **dict.fromkeys(("area4", "area6", "area8", "area10"), (2557, 1887)),
    **dict.fromkeys(("area14", "area16"), (2565, 1919)),
    **dict.fromkeys(("area22", "area24"), (2546, 1903)),
    "area2": (2767, 2428),
    "area12": (2575, 1922),
    "area20": (2315, 1866),
    "area27": (3313, 1917),
    "area29": (2563, 1917),
    "area31": (2555, 1980),
    "area33": (2555, 1581),
    "area35": (1884, 2805),
    "area38": (2550, 3816),
}
"""Published (height, width) of the areas of the scored split."""


def vaihingen(root: Path, count: int, seed: int) -> None:
    """A third of the true sizes; labels that are not eroded have the names of the images; area 9 has no image."""
    eroded = root / "ISPRS_semantic_labeling_Vaihingen_ground_truth_eroded_COMPLETE"
    for number, name in enumerate((*JOBS["vaihingen"].splits["val"].names[:count], "area1", "area9")):
        height, width = VAIHINGEN_SIZES.get(name, (2569, 1919))
        image, label, _ = _draw((seed, 2, number), (height // 3, width // 3), ISPRS)
        file = f"top_mosaic_09cm_{name}"
        colors = _color(_without_boundary(label), isprs.COLORS)
        _save_geotiff(eroded / f"{file}_noBoundary.tif", colors, 0.09)
        if name != "area9":
            complete = _color(label, isprs.COLORS)
            _save_geotiff(
                root / "ISPRS_semantic_labeling_Vaihingen_ground_truth_COMPLETE" / f"{file}.tif",
                complete,
                0.09,
            )
            # Near infrared, red, green.
            _save_geotiff(
                root / "ISPRS_semantic_labeling_Vaihingen" / "top" / f"{file}.tif",
                image[..., [1, 0, 2]],
                0.09,
            )


def isaid_images(root: Path, count: int, seed: int) -> None:
    """Images larger and smaller than a tile, on one side or on both."""
    sizes = ((896, 1500), (500, 700), (1100, 700))
    for number in range(count):
        image, label, scene = _draw((seed, 3, number), sizes[number % len(sizes)], ISAID)
        stem, folder = f"P{number + 3:04d}", root / "val"
        _save(folder / "images" / f"{stem}.png", image)
        masks = folder / "Semantic_masks" / "images"
        _save(masks / f"{stem}{isaid.SUFFIX}.png", _color(label, isaid.COLORS))
        ids = np.random.default_rng((seed, number)).integers(0, 256, (len(scene.objects) + 1, 3), np.uint8)
        _save(folder / "Instance_masks" / "images" / f"{stem}_instance_id_RGB.png", ids[label % len(ids)])


def uavid_frames(root: Path, count: int, seed: int) -> None:
    """Half of the true sizes, 3840x2160 and 4096x2160; moving cars have a color of their own.

    Every second label is stored with a palette, whose indices are not those of the classes.
    """
    names = JOBS["uavid"].splits["test"].names
    for number in range(count):
        size = ((1080, 1920), (1080, 2048))[number % 2]
        image, label, _ = _draw((seed, 4, number), size, UAVID)
        label = np.array(label)
        label[:40, :40] = 6
        colors = _color(label, uavid.COLORS)
        moving = (label == 3) & (np.arange(size[1]) >= size[1] // 2)
        colors[moving] = (64, 0, 128)
        colors[50:60, :20] = (64, 0, 128)
        sequence = root / "uavid_test" / names[number // 10]
        frame = f"{number % 10 * 100:06d}.png"
        _save(sequence / "Images" / frame, image)
        if number % 2:
            stored = Image.fromarray(colors).quantize(16, dither=Image.Dither.NONE)
            (sequence / "Labels").mkdir(parents=True, exist_ok=True)
            stored.save(sequence / "Labels" / frame)
        else:
            _save(sequence / "Labels" / frame, colors)
    image, label, _ = _draw((seed, 4, count), (SIZE, SIZE), UAVID)
    _save(root / "uavid_val" / "seq16" / "Images" / "000000.png", image)
    _save(root / "uavid_val" / "seq16" / "Labels" / "000000.png", _color(label, uavid.COLORS))


def inria_tiles(root: Path, count: int, seed: int) -> None:
    """1200x1200 instead of 5000x5000 pixels."""
    names = JOBS["inria"].splits["test"].names
    others = (next(iter(JOBS["inria"].splits["val"].names)), "austin2")
    for number, name in enumerate((*names[:count], *others)):
        side = 1200 if number < len(names[:count]) else SIZE
        image, label, _ = _draw((seed, 5, number), (side, side), BUILDING)
        folder = root / "AerialImageDataset" / "train"
        _save_geotiff(folder / "images" / f"{name}.tif", image, 0.3)
        _save_geotiff(folder / "gt" / f"{name}.tif", label * 255, 0.3)
    _save_geotiff(root / "AerialImageDataset" / "test" / "images" / "bellingham1.tif", image, 0.3)


def loveda_images(root: Path, count: int, seed: int) -> None:
    """True sizes; Rural and Urban in turn; each label has a corner without data."""
    for number in range(count):
        image, label, _ = _draw((seed, 6, number), (1024, 1024), LOVEDA)
        label = np.array(label)
        label[:100, -50:] = 0
        area, first = (("Rural", 2522), ("Urban", 3514))[number % 2]
        folder, file = root / "Val" / area, f"{first + number // 2}.png"
        _save(folder / "images_png" / file, image)
        _save(folder / "masks_png" / file, label)
        _save(root / "Test" / area / "images_png" / f"{4191 + number}.png", image)


def xbd_images(root: Path, count: int, seed: int) -> None:
    """True sizes; every second image has labels as polygons only."""
    folder = root / "test"
    for number in range(count):
        stem = f"{('guatemala-volcano', 'santa-rosa-wildfire')[number % 2]}_{number // 2:08d}"
        image, _, scene = _draw((seed, 7, number), (1024, 1024), {})
        buildings = _xbd_buildings(scene)
        target = xbd.draw([polygon for text in buildings for polygon in xbd.rings_of(text)], (1024, 1024))
        for when, damage in (("pre", 1), ("post", 3)):
            file = f"{stem}_{when}_disaster"
            _save(folder / "images" / f"{file}.png", image if damage == 1 else image[:, ::-1])
            path = folder / "labels" / f"{file}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(_xbd_label(buildings, file, damage)))
            if number % 2 == 0:
                _save(folder / "targets" / f"{file}_target.png", target * np.uint8(damage))


def _xbd_buildings(scene: Scene) -> list[str]:
    """The outlines of a scene's buildings as WKT, and one more with a courtyard."""
    outlines = [(t.outline + 0.5) * (1024 / SIZE) - 0.5 for t in scene.objects if t.kind == "building"]
    return [f"POLYGON (({', '.join(f'{x:.6f} {y:.6f}' for x, y in (*o, o[0]))}))" for o in outlines] + [
        "POLYGON ((10 10, 90 10, 90 70, 10 70, 10 10), (30 30, 60 30, 60 50, 30 50, 30 30))"
    ]


def _xbd_label(buildings: list[str], file: str, damage: int) -> dict[str, Any]:
    """The JSON of one image; only labels after the disaster have the damage."""
    properties = {"feature_type": "building"} | ({"subtype": "major-damage"} if damage == 3 else {})
    xy = [
        {"properties": properties | {"uid": f"{zlib.crc32((file + text).encode()):08x}"}, "wkt": text}
        for text in buildings
    ]
    return {
        "features": {"lng_lat": [], "xy": xy},
        "metadata": {"width": 1024, "height": 1024, "img_name": f"{file}.png", "sensor": "GEOEYE01"},
    }


RAW: dict[str, Callable[[Path, int, int], None]] = {
    "raw-potsdam": potsdam,
    "raw-vaihingen": vaihingen,
    "raw-isaid": isaid_images,
    "raw-uavid": uavid_frames,
    "raw-inria": inria_tiles,
    "raw-loveda": loveda_images,
    "raw-xbd": xbd_images,
}
