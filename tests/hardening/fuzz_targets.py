"""What reads bytes from outside, as functions for a fuzzer, with valid inputs to begin with.

A target reads the bytes and compares what it gets with what must hold: a GeoClickError refuses them, and every other
exception is a fault.
"""

import json
import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from geoclick import chat_rows, codec, datasets, masks, plain_text, store, stored_rows
from geoclick.clicks import Click
from geoclick.datasets import ReadOptions, color_masks
from geoclick.errors import GeoClickError
from geoclick.inference.contrastive import classes
from tests.hardening import fuzz_answers

SIDE = 12
"""Side of the images in pixels."""

POINT = struct.Struct("<hhB")
"""A click in the bytes of `parts`: x and y in tenths of a pixel, sign and length of the part."""


@dataclass(frozen=True)
class Target:
    """Something that reads bytes.

    Attributes:
        read: takes the bytes and an empty folder that stays the same; raises an error.
        seeds: valid inputs.
        is_json: whether the bytes after the first one, which chooses options, are JSON.
    """

    read: Callable[[bytes, Path], None]
    seeds: Callable[[], list[bytes]]
    is_json: bool = False


def read_codec(data, folder):
    """An answer text; the first bytes choose the family, the format and the size of the image."""
    family, written, tall, wide = (*data[:4], 0, 0, 0, 0)[:4]
    kwargs = {
        "family": codec.FAMILIES[family % len(codec.FAMILIES)],
        "answer_format": codec.FORMATS[written % 2],
        "image_size": (1 + tall * 9, 1 + wide * 9),
        "resized_size": (28 + tall, 28 + wide),
    }
    answer = codec.decode(data[4:].decode("utf-8", "surrogateescape"), **kwargs)
    assert not fuzz_answers.fault(answer, kwargs), fuzz_answers.fault(answer, kwargs)
    if not any(part.box for part in answer.objects):
        text = codec.encode(answer.parts, **kwargs)
        again = codec.decode(text, **kwargs)
        assert again.status == ("ok" if answer.clicks else "empty"), again
        assert codec.encode(again.parts, **kwargs) == text


def codec_seeds():
    texts = [
        '[{"point_2d": [512, 233], "label": "positive"}, {"point_2d": [80, 914], "label": "negative"}]',
        '```json\n[{"bbox_2d": [10, 20, 300, 400], "point_2d": [[5, 6], [7, 8]], "label": "ship"}]\n```',
        '[{"point_2d": [512, 233], "label": "positive", "part": 1}, {"point": [1, 2], "part": 2}]',
        *("+(512,233) -(80,914); +(300,120)", "none", "[]", "The tank is at (10, 20).", "{'point': (1.5, 2)"),
    ]
    return [bytes([n, n, 40, 60]) + text.encode() for n, text in enumerate(texts)]


def read_rows(data, folder):
    """Rows of a click store as JSON."""
    try:
        table = pa.Table.from_pylist(json.loads(data[1:]), schema=store.SCHEMAS[data[0] % 3])
    except (pa.ArrowException, ValueError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise GeoClickError("No table could be made of it.") from error
    seen = set()
    for batch in table.to_batches():
        if stored_rows.fault(batch) or stored_rows.repeated(batch, seen):
            raise GeoClickError("The rows are refused.")
        for record in batch.to_pylist():
            check_row(store.row_of(record, folder))


def check_row(row):
    """Read what training and export read of a row."""
    assert masks.decode_rle(row.mask).shape == (row.height, row.width)
    frame = codec.Frame("qwen3_vl", "compact", (row.height, row.width))
    for one in chat_rows.usable([row], max_clicks=3, min_iou=0.5, left_out=Counter()):
        assert frame.encode(one.parts).startswith(chat_rows.given_text(one, frame))
        assert len(frame.decode(frame.encode(one.parts)).clicks) == len(one.clicks)


def record(**values):
    """The columns of a row of a click store."""
    mask = np.zeros((SIDE, SIDE), bool)
    mask[2:6, 3:9] = True
    clicks = [{"x": 4.0, "y": 3.0, "positive": True}, {"x": 0.0, "y": 11.5, "positive": False}]
    own = {"sample_id": "a", "dataset": "folder", "split": "train", "task": "referring", "image": "a.png"}
    own |= {"width": SIDE, "height": SIDE, "query": "the tank", "mask": masks.encode_rle(mask)}
    own |= {
        "clicks": clicks,
        "ious": [0.5, 0.9],
        "segmenter": "s",
        "segmenter_sha256": "0",
        "policy": "center",
    }
    return {**own, "seed": 0, "schema_version": 3, "category": "tank", "parts": [1, 1], "given": 1, **values}


def row_seeds():
    empty = record(task="no_target", clicks=[], ious=[], parts=[], given=0, sample_id="b")
    shown = record(shown=record()["mask"], sample_id="c")
    return [bytes([n]) + json.dumps([record(), empty, shown][: n + 1]).encode() for n in range(3)]


def read_parts(data, folder):
    """Clicks in parts, through a row and an answer and back."""
    clicks, parts = [], []
    for x, y, flags in POINT.iter_unpack(data[2 : 2 + (len(data) - 2) // POINT.size * POINT.size]):
        if flags & 2 or not parts:
            parts.append(0)
        parts[-1] += 1
        clicks.append({"x": x / 10, "y": y / 10, "positive": bool(flags & 1)})
    ious = [(n * 37 % 11) / 10 for n in range(len(clicks))]
    mask = masks.encode_rle(np.zeros((480, 640), bool))
    own = record(clicks=clicks, ious=ious, parts=parts, width=640, height=480, given=data[0] % 8, mask=mask)
    batch = pa.RecordBatch.from_pylist([own], schema=store.SCHEMA)
    if stored_rows.fault(batch):
        raise GeoClickError("The rows are refused.")
    row = store.row_of(own, folder)
    for end in ("best", "last"):
        check_answer(row, chat_rows.answer_parts(row, 1 + data[1] % 8, end), data[1])


def check_answer(row, parts, number):
    """Every format holds the parts of an answer and their clicks within a quantum."""
    for written in codec.FORMATS:
        family = codec.FAMILIES[number % len(codec.FAMILIES)]
        frame = codec.Frame(family, written, (row.height, row.width), (112, 140))
        answer = frame.decode(frame.encode(parts))
        assert answer.status == ("ok" if parts else "empty")
        assert not answer.dropped
        assert [list(map(_sign, part)) for part in answer.parts] == [list(map(_sign, part)) for part in parts]
        for click, own in zip(answer.clicks, (click for part in parts for click in part), strict=True):
            assert abs(click.x - min(max(own.x, 0), row.width - 1)) <= row.width / 140 + 1e-6
            assert abs(click.y - min(max(own.y, 0), row.height - 1)) <= row.height / 112 + 1e-6


def _sign(click: Click):
    return click.positive


def parts_seeds():
    points = [(320, 240, 1), (6390, 4790, 3), (-5, -5, 2), (0, 0, 1)]
    return [bytes([n, n]) + b"".join(POINT.pack(*one) for one in points[:n]) for n in range(5)]


def check_samples(name, folder, options):
    """Read a dataset; what is left out is counted, and what is not must be usable."""
    left_out = []
    for sample in datasets.read(name, folder, "train", options=options, on_left_out=left_out.append):
        assert sample.mask.shape == sample.size
        assert sample.valid is None or sample.valid.shape == sample.size
        assert not plain_text.query_fault(sample.query)
        assert masks.area(sample.rle) or sample.task == "no_target" or name == "folder" or options.tile
        sample.sample_id.encode()
    for one in left_out:
        f"{one.item} {one.reason} {one.error}".encode()


@cache
def _images(folder):
    """Two images and a mask in the layout of COCO and of `samples.jsonl`."""
    (folder / "train").mkdir()
    pixels = np.arange(SIDE * SIDE * 3, dtype=np.uint8).reshape(SIDE, SIDE, 3)
    for name in ("a.png", "b.png"):
        Image.fromarray(pixels).save(folder / "train" / name)
    Image.fromarray(pixels[..., 0] > 99).save(folder / "train" / "mask.png")


def read_coco(data, folder):
    """A COCO file; the bits of the first byte are options."""
    _images(folder)
    (folder / "train.json").write_bytes(data[1:])
    flags = [bool(data[0] & bit) for bit in (1, 2, 4, 8)]
    names = ("by_class", "crowds", "empty_images")
    options = ReadOptions(**dict(zip(names, flags, strict=False)), tile=8 if flags[3] else None, overlap=2)
    check_samples("coco", folder, options)


def coco_seeds():
    image = {"id": 1, "file_name": "a.png", "height": SIDE, "width": SIDE}
    one = {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": 30, "bbox": [1, 2, 6, 5]}
    polygon = one | {"segmentation": [[1, 2, 7, 2, 7.5, 7, 1, 7]]}
    listed = one | {"id": 2, "iscrowd": 1, "segmentation": {"size": [SIDE, SIDE], "counts": [5, 7, 132]}}
    packed = one | {"id": "3", "category_id": "2", "segmentation": record()["mask"]}
    names = [{"id": 1, "name": "Tank"}, {"id": 2, "name": "road", "supercategory": "way"}]
    images = [image, {"id": 2, "file_name": "b%2Epng"}]
    files = [
        {"images": images, "annotations": [polygon], "categories": names},
        {"images": images, "annotations": [polygon, listed, packed], "categories": names},
    ]
    return [bytes([n]) + json.dumps(file).encode() for n in (0, 7, 15) for file in files]


def read_jsonl(data, folder):
    """A samples.jsonl."""
    _images(folder)
    (folder / "train" / "samples.jsonl").write_bytes(data[1:])
    check_samples("folder", folder, ReadOptions())


def jsonl_seeds():
    line = {
        "sample_id": "a",
        "task": "referring",
        "query": "the tank",
        "image": "a.png",
        "size": [SIDE, SIDE],
    }
    rle = line | {"mask": record()["mask"], "category": "tank", "instances": [record()["mask"]]}
    file = line | {"sample_id": "b", "mask": "mask.png"}
    nothing = line | {"sample_id": "c", "task": "no_target"}
    listed = line | {"sample_id": "d", "mask": {"size": [SIDE, SIDE], "counts": [5, 7, 132]}}
    lines = [json.dumps(one).encode() for one in (rle, file, nothing, listed)]
    return [b"\0" + one for one in (*lines, b"\n".join(lines))]


def read_classes(data, folder):
    """A class list: an option, a file of text or JSON, or the legend of a folder of masks."""
    kind, content = data[0] % 4, data[1:]
    if kind == 0:
        check_classes(classes.parse(content.decode("utf-8", "surrogateescape")))
        return
    path = folder / ("list.txt" if kind == 1 else "classes.json")
    path.write_bytes(content)
    if kind < 3:
        check_classes(classes.read(path))
        return
    legend = color_masks.read_legend(path)
    assert all(0 <= code < 1 << 24 for code in legend.classes.values())
    assert not legend.ignore & set(legend.classes.values())


def check_classes(listed):
    names = [name.casefold() for name in listed.queries]
    assert len(set(names)) == len(names)
    assert 0 < len(listed.names) == len(listed.colors) <= classes.MAX_CLASSES
    assert len(set(listed.colors)) == len(listed.colors)
    assert all(0 <= value <= 255 for color in listed.colors for value in color)
    classes.with_background(listed)


def class_seeds():
    text = b"building, roof: #d64545; road: 128 128 128; water: blue\nbackground"
    legend = {"classes": {"Building": [60, 16, 152], "Road": [110, 193, 228]}, "ignore": [[155, 155, 155]]}
    named = {"classes": {"building, roof": [214, 69, 69], "road": None, "water": "blue"}}
    files = [(2, named), (2, legend), (3, legend)]
    return [b"\0" + text, b"\1" + text, *(bytes([n]) + json.dumps(file).encode() for n, file in files)]


def read_geojson(data, folder):
    """Labels as GeoJSON, in the pixels of a raster."""
    from geoclick.geo import vectors

    path, raster = folder / "labels.geojson", _raster(folder)
    path.write_bytes(data[1:])
    features = vectors.read_features(path)
    assert len(features.ids) == len(features.shapes) == len(features.broken)
    assert features.classes is None or len(features.classes) == len(features.ids)
    chosen = vectors.near(features, raster)
    for shape in vectors.to_pixels(features.shapes[chosen], features.crs, raster):
        if shape is None or shape.geom_type not in ("Polygon", "MultiPolygon") or shape.is_empty:
            continue
        if box := vectors.box_of(shape, (SIDE, SIDE)):
            assert vectors.rasterize(shape, box, box).shape == (box.height, box.width)
            assert 0 <= vectors.area(shape, box) <= box.height * box.width


@cache
def _raster(folder):
    import rasterio

    path = folder / "raster.tif"
    affine = rasterio.Affine(0.001, 0, 10, 0, -0.001, 50)
    size = {"width": SIDE, "height": SIDE, "count": 1, "dtype": "uint8"}
    with rasterio.open(path, "w", driver="GTiff", crs="EPSG:4326", transform=affine, **size) as file:
        file.write(np.zeros((1, SIDE, SIDE), np.uint8))
    return rasterio.open(path)


def geojson_seeds():
    ring = [[10.001, 49.999], [10.008, 49.999], [10.008, 49.992], [10.001, 49.992], [10.001, 49.999]]
    hole = [[10.003, 49.997], [10.004, 49.997], [10.004, 49.996], [10.003, 49.997]]
    shapes = [
        {"type": "Polygon", "coordinates": [ring, hole]},
        {"type": "MultiPolygon", "coordinates": [[ring], [hole]]},
        {"type": "GeometryCollection", "geometries": [{"type": "Point", "coordinates": [10, 50]}]},
        None,
    ]
    features = [
        {"type": "Feature", "properties": {"class": name}, "geometry": shape}
        for shape, name in zip(shapes, ("tank", 3, ["road"], None), strict=True)
    ]
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::4326"}}
    collections = [{"type": "FeatureCollection", "features": [one]} for one in features]
    collections.append({"type": "FeatureCollection", "crs": crs, "features": features})
    return [b"\0" + json.dumps(one).encode() for one in collections]


def read_predictions(data, folder):
    """predictions.jsonl, as a list of its records: its scores, and the page with them."""
    from geoclick.inference.evaluation import results
    from geoclick.inference.reports import evaluation_report

    try:
        records = json.loads(data[1:])
    except (ValueError, RecursionError) as error:
        raise GeoClickError("The list is refused.") from error
    records = records if isinstance(records, list) and records else [records]
    path = folder / "predictions.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in records))
    summary = results.write(folder, PROTOCOL | {"root": str(folder), "n": len(records)})
    assert summary["scores"]["n"] == len(records)
    evaluation_report.write(folder, summary, path, count=2)
    "\n".join([results.line(summary), *results.failure_lines(folder, summary)]).encode()


PROTOCOL = {
    **{"dataset": "folder", "split": "test", "limit": None, "first": None, "images": 1, "mode": "native"},
    **{"images_sha256": "0", "samples_sha256": "0", "pixels_sha256": "0", "broken_and_skipped": {}},
    **{"left_out": {}, "scored_side": None, "question": "all", "question_seed": None, "seed": 0},
    **{"predictor": "center-point", "segmenter": "embedded", "segmenter_sha256": "0", "decode": "replay"},
    **{"policy": "center", "batch_size": 16, "geoclick": "0.1.0"},
}
"""protocol.json of an evaluation, without its root and number of samples."""


def prediction_seeds():
    mask = record()["mask"]
    one = {"sample_id": "a", "task": "referring", "category": "tank", "query": "the tank", "image": "a.png"}
    one |= {
        "size": [SIDE, SIDE],
        "iou": 0.5,
        "intersection": 10,
        "union": 20,
        "boundary_iou": 0.25,
        "area": 24,
    }
    one |= {"status": "ok", "text": "[]", "clicks": [[4.0, 3.0, True], [0, 1.5, False]], "dropped": ["cut"]}
    one |= {"mask": mask, "target": mask, "valid": None}
    part = {"clicks": [[4.0, 3.0, True]], "mask": mask, "score": 0.4, "box": [1, 2, 3, 4]}
    voted = one | {"sample_id": "b", "score": 0.9, "probability": 0.5, "agreement": 0.2, "confidence": 0.3}
    voted |= {
        "boxes": [[1, 2, 5, 6]],
        "parts": [part],
        "instances": {"true": 2, "predicted": 1, "matched": 1},
    }
    voted |= {"sampled": [{"text": "[]", "status": "ok", "score": 0.1, "probability": 0.2}]}
    failed = one | {"sample_id": "c", "status": "failed", "error": "why", "task": "no_target", "area": 0}
    return [b"\0" + json.dumps(rows).encode() for rows in ([one], [voted], [one, voted, failed])]


TARGETS = {
    "codec": Target(read_codec, codec_seeds),
    "rows": Target(read_rows, row_seeds, is_json=True),
    "parts": Target(read_parts, parts_seeds),
    "coco": Target(read_coco, coco_seeds, is_json=True),
    "jsonl": Target(read_jsonl, jsonl_seeds, is_json=True),
    "classes": Target(read_classes, class_seeds, is_json=True),
    "geojson": Target(read_geojson, geojson_seeds, is_json=True),
    "predictions": Target(read_predictions, prediction_seeds, is_json=True),
}
