import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from geoclick.datasets import ReadOptions, read
from geoclick.errors import GeoClickError, UsageError
from geoclick.geo.tiles import FOLDER
from tests import geotiffs

shapely = geotiffs.shapely
HEIGHT, WIDTH = 90, 130
BOXES = {"Hangar": (10, 5, 30, 25), "Road": (3, 60, 128, 66), "Dock": (100, 20, 118, 41)}
"""left, top, right, bottom in pixels."""

SMALL = ReadOptions(tile=50, overlap=20, min_area=1)


def boxed(left, top, right, bottom):
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[top:bottom, left:right] = True
    return mask


def places(boxes=BOXES):
    return [geotiffs.place(shapely.box(*box)) for box in boxes.values()]


def make(root, *, pixels=None, name="a", labels="a.gpkg", **profile):
    """A root with one raster and the labeled boxes."""
    pixels = geotiffs.noise(HEIGHT, WIDTH) if pixels is None else pixels
    path = geotiffs.write_raster(root / f"train/{name}.tif", pixels, **profile)
    if labels:
        geotiffs.write_vectors(root / "train" / labels, places(), **{"class": list(BOXES)})
    return path


def taken(root, options=SMALL, split="train"):
    left = []
    return list(read("raster", root, split, options=options, on_left_out=left.append)), left


def corner_of(sample):
    """The row and column in the raster of a sample's tile, from its image's name."""
    row, column, _ = os.path.basename(sample.image).split("-")  # noqa: PTH119
    return int(row), int(column)


def in_raster(sample, array):
    """A tile's array in the frame of the raster, with zeros elsewhere."""
    row, column = corner_of(sample)
    complete = np.zeros((HEIGHT, WIDTH), array.dtype)
    complete[row : row + array.shape[0], column : column + array.shape[1]] = array
    return complete


def test_one_tile_for_a_raster_that_fits(tmp_path):
    pixels = geotiffs.noise(HEIGHT, WIDTH)
    make(tmp_path, pixels=pixels)
    samples, left = taken(tmp_path, ReadOptions())
    assert left == []
    assert [(s.query, s.category, s.task, s.size) for s in samples] == [
        (name.lower(), name, "semantic", (HEIGHT, WIDTH)) for name in BOXES
    ]
    assert len({s.sample_id for s in samples}) == 3
    assert samples[0].sample_id.startswith("a-")
    for sample, box in zip(samples, BOXES.values(), strict=True):
        np.testing.assert_array_equal(sample.mask, boxed(*box))
        np.testing.assert_array_equal(sample.read_image(), pixels.transpose(1, 2, 0))
        assert sample.valid is None


@pytest.mark.parametrize("labels", ["a.geojson", "a.gpkg"])
def test_labels_in_degrees_fall_on_the_same_pixels(tmp_path, labels):
    make(tmp_path, labels=None)
    degrees = [geotiffs.to_degrees(place) for place in places()]
    geotiffs.write_vectors(tmp_path / "train" / labels, degrees, "EPSG:4326", **{"class": list(BOXES)})
    samples, left = taken(tmp_path, ReadOptions())
    assert left == []
    for sample, box in zip(samples, BOXES.values(), strict=True):
        np.testing.assert_array_equal(sample.mask, boxed(*box))


def test_an_instance_that_fits_a_tile_is_in_one_and_others_are_cut(tmp_path):
    pixels = geotiffs.noise(HEIGHT, WIDTH)
    make(tmp_path, pixels=pixels)
    samples, left = taken(tmp_path)
    by_class = {name: [s for s in samples if s.category == name] for name in BOXES}
    # Columns of tiles begin at 0, 30, 60 and 80; one row of them holds the road from top to bottom.
    assert [len(found) for found in by_class.values()] == [1, 4, 1]
    for name in ("Hangar", "Dock"):
        (sample,) = by_class[name]
        np.testing.assert_array_equal(in_raster(sample, sample.mask), boxed(*BOXES[name]))
    road = boxed(*BOXES["Road"])
    union = np.zeros_like(road)
    for sample in by_class["Road"]:
        row, column = corner_of(sample)
        part = road[row : row + 50, column : column + 50]
        # All that is to be seen of it: a mask that stops short in the middle of the tile would teach to stop there.
        np.testing.assert_array_equal(sample.mask, part)
        union |= in_raster(sample, sample.mask)
        share = f"{part.sum() / road.sum():.1%} visible"
        (report,) = [item for item in left if item.item == f"{sample.sample_id}, {share}"]
        assert (report.reason, report.error) == ("pixels cut off by a tile's border", "")
        assert report.count == road.sum() - part.sum()
    np.testing.assert_array_equal(union, road)
    assert len(left) == len(by_class["Road"])
    for sample in samples:
        row, column = corner_of(sample)
        np.testing.assert_array_equal(
            sample.read_image(), pixels[:, row : row + 50, column : column + 50].transpose(1, 2, 0)
        )
    # Grouped by image, so that each is embedded once.
    order = [sample.image for sample in samples]
    assert order == sorted(order, key=order.index)
    assert len({s.sample_id for s in samples}) == len(samples)


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32 - 1), st.integers(5, 140), st.data())
def test_the_tiles_together_are_the_mask_of_the_complete_raster(tmp_path_factory, seed, tile, data):
    root, overlap = tmp_path_factory.mktemp("root"), data.draw(st.integers(0, tile - 1))
    rng = np.random.default_rng(seed)
    shapes = [
        shapely.Polygon(rng.uniform(-20, (150, 110), (1, 2)) + rng.normal(size=(5, 2)) * rng.choice([3, 40]))
        for _ in range(4)
    ]
    make(root, labels=None)
    geotiffs.write_vectors(
        root / "train/a.gpkg", [geotiffs.place(s) for s in shapes], **{"class": list("abcd")}
    )
    samples, left = taken(root, ReadOptions(tile=tile, overlap=overlap, min_area=1))
    with geotiffs.rasterio.open(root / "train/a.tif") as raster:
        expected = {
            name: geotiffs.features.rasterize(
                [(geotiffs.place(shape), 1)],
                out_shape=raster.shape,
                transform=raster.transform,
                dtype=np.uint8,
            ).astype(bool)
            for name, shape in zip("abcd", shapes, strict=True)
        }
    for name, mask in expected.items():
        union = np.zeros_like(mask)
        parts = [sample for sample in samples if sample.category == name]
        for part in parts:
            assert part.mask.any()
            assert max(part.size) <= tile
            union |= in_raster(part, part.mask)
        # Reprojecting to the raster's own frame and back may move an edge by a billionth of a pixel.
        np.testing.assert_array_equal(union, mask)
        cut = sum(
            item.count for item in left if item.item.startswith(tuple(part.sample_id for part in parts))
        )
        assert cut == sum(int(mask.sum() - part.mask.sum()) for part in parts)


def test_small_pieces_of_a_cut_instance_are_counted(tmp_path):
    make(tmp_path)
    every, _ = taken(tmp_path)
    samples, left = taken(tmp_path, ReadOptions(tile=50, overlap=20, min_area=290))
    small = [s for s in every if s.category == "Road" and s.mask.sum() < 290]
    assert 0 < len(small) < 4
    assert [s.sample_id for s in samples] == [s.sample_id for s in every if s not in small]
    assert [i.item for i in left if i.reason == "piece smaller than min_area"] == [s.sample_id for s in small]


def test_pixels_without_data_do_not_count(tmp_path):
    pixels = geotiffs.noise(HEIGHT, WIDTH)
    pixels[:, :, :20] = 0
    make(tmp_path, pixels=pixels, nodata=0)
    samples, _ = taken(tmp_path)
    empty = boxed(0, 0, 20, HEIGHT)
    for sample in samples:
        row, column = corner_of(sample)
        expected = ~empty[row : row + 50, column : column + 50]
        if expected.all():
            assert sample.valid is None
        else:
            np.testing.assert_array_equal(sample.valid, expected)
    assert any(sample.valid is not None for sample in samples)


def test_sixteen_bits_are_stretched_alike_in_every_tile(tmp_path):
    pixels = geotiffs.noise(HEIGHT, WIDTH, dtype="uint16")
    make(tmp_path, pixels=pixels)
    samples, _ = taken(tmp_path, ReadOptions(tile=50, overlap=20, bands=(2,), stretch=(5, 95)))
    low, high = np.percentile(pixels[1], (5, 95))
    expected = np.clip((pixels[1] - low) / (high - low), 0, 1) * 255
    for sample in samples:
        row, column = corner_of(sample)
        image = sample.read_image()
        assert np.abs(image[..., 0] - expected[row : row + 50, column : column + 50]).max() <= 0.51
        assert (image == image[..., :1]).all()


def test_features_that_cannot_be_targets_are_counted(tmp_path):
    make(tmp_path, labels=None)
    shapes = [
        *places(),
        geotiffs.place(shapely.Point(5, 5)),
        geotiffs.place(shapely.LineString([(0, 0), (9, 9)])),
        None,
        geotiffs.place(shapely.box(500, 500, 600, 600)),
        geotiffs.place(shapely.box(20.6, 20.6, 20.9, 20.9)),
        geotiffs.place(shapely.box(50, 5, 60, 15)),
    ]
    classes = [*BOXES, "x", "x", "x", "x", "x", None]
    geotiffs.write_vectors(tmp_path / "train/a.gpkg", shapes, category=classes)
    samples, left = taken(tmp_path, ReadOptions())
    assert [sample.category for sample in samples] == list(BOXES)
    assert {item.reason: item.count for item in left} == {
        "no polygon": 2,
        "no geometry": 1,
        "no class": 1,
        "outside every raster": 1,
        "no pixel's center in it": 1,
    }
    assert not any(item.error for item in left)


def test_without_an_attribute_the_query_is_that_of_the_options(tmp_path):
    make(tmp_path, labels=None)
    geotiffs.write_vectors(tmp_path / "train/a.gpkg", places(), height=[3, 4, 5])
    samples, _ = taken(tmp_path, ReadOptions(query="the building"))
    assert {(sample.query, sample.category) for sample in samples} == {("the building", "")}


@pytest.mark.parametrize("where", ["train/labels.gpkg", "train/labels.geojson", "labels.gpkg"])
def test_one_file_may_label_all_rasters(tmp_path, where):
    left_half = geotiffs.noise(HEIGHT, 65)
    make(tmp_path, pixels=left_half, name="left", labels=None)
    east = geotiffs.rasterio.Affine(10, 0, geotiffs.LEFT + 650, 0, -10, geotiffs.TOP)
    make(tmp_path, pixels=left_half, name="right", labels=None, transform=east)
    far = geotiffs.place(shapely.box(9000, 0, 9010, 10))
    shapes = [*places(), far]
    crs = geotiffs.UTM
    if where.endswith("geojson"):
        shapes, crs = [geotiffs.to_degrees(shape) for shape in shapes], "EPSG:4326"
    geotiffs.write_vectors(tmp_path / where, shapes, crs, **{"class": [*BOXES, "far"]})
    samples, left = taken(tmp_path, ReadOptions())
    assert [(s.sample_id.split("-")[0], s.category) for s in samples] == [
        ("left", "Hangar"),
        ("left", "Road"),
        ("right", "Road"),
        ("right", "Dock"),
    ]
    np.testing.assert_array_equal(samples[1].mask, boxed(*BOXES["Road"])[:, :65])
    np.testing.assert_array_equal(samples[2].mask, boxed(*BOXES["Road"])[:, 65:])
    assert [(item.reason, item.count) for item in left] == [("outside every raster", 1)]


def test_broken_rasters_and_labels_are_failures_and_the_others_are_read(tmp_path):
    make(tmp_path, name="b", labels="b.gpkg")
    geotiffs.write_raster(tmp_path / "train/c.tif", geotiffs.noise(9, 9))
    (tmp_path / "train/d.tif").write_bytes(b"II*\0 cut")
    (tmp_path / "train/d.gpkg").write_bytes((tmp_path / "train/b.gpkg").read_bytes())
    make(tmp_path, name="e", labels="e.gpkg", crs=None)
    make(tmp_path, name="f", labels=None)
    (tmp_path / "train/f.geojson").write_text("{")
    samples, left = taken(tmp_path, ReadOptions())
    assert {sample.sample_id[0] for sample in samples} == {"b"}
    failures = {item.item: item.error for item in left if item.error}
    assert list(failures) == ["train/c.tif", "train/d.tif", "train/e.tif", "f.geojson"]
    for error, words in zip(
        failures.values(),
        ("no labels", "cannot be read", "is not georeferenced", "cannot be read"),
        strict=True,
    ):
        assert words in error
    with pytest.raises(GeoClickError, match=r"c has no labels; add c\.gpkg"):
        list(read("raster", tmp_path, "train"))


def test_a_shape_off_the_projection_is_a_failure_of_its_own(tmp_path):
    make(tmp_path, labels=None)
    shape = shapely.union(geotiffs.to_degrees(places()[0]), shapely.box(15, 0, 200, 95))
    good = geotiffs.to_degrees(places()[2])
    geotiffs.write_vectors(tmp_path / "train/a.gpkg", [shape, good], "EPSG:4326", name=["x", "y"])
    samples, left = taken(tmp_path)
    assert [sample.category for sample in samples] == ["y"]
    (item,) = left
    assert "fix its geometry" in item.error


def test_broken_pixels_fail_the_samples_on_them(tmp_path):
    pixels = geotiffs.noise(HEIGHT, WIDTH, dtype="uint16")
    path = make(tmp_path, pixels=pixels, blockysize=1)
    path.write_bytes(path.read_bytes()[: 400 + 3 * 2 * WIDTH * 50])
    left = []
    list(read("raster", tmp_path, "train", options=SMALL, on_left_out=left.append))
    failures = [item for item in left if item.error]
    assert failures
    assert {item.reason for item in failures} == {"broken image"}


def tile_files(root):
    return {p: p.stat().st_mtime_ns for p in (root / "train" / FOLDER).rglob("*") if p.is_file()}


def test_tiles_are_reused_until_the_raster_or_its_display_changes(tmp_path):
    path = make(tmp_path)
    first, _ = taken(tmp_path)
    files = tile_files(tmp_path)
    assert {str(p.relative_to(tmp_path)) for p in files} == {sample.image for sample in first}
    again, _ = taken(tmp_path)
    assert again == first
    assert tile_files(tmp_path) == files
    grey, _ = taken(tmp_path, ReadOptions(tile=50, overlap=20, min_area=1, bands=(1,)))
    assert {s.image for s in grey}.isdisjoint({s.image for s in first})
    geotiffs.write_raster(path, geotiffs.noise(HEIGHT, WIDTH, seed=1))
    changed, _ = taken(tmp_path)
    assert {s.image for s in changed}.isdisjoint({s.image for s in first})
    np.testing.assert_array_equal([s.mask for s in changed], [s.mask for s in first])
    assert (changed[0].read_image() != first[0].read_image()).any()
    assert tile_files(tmp_path).items() >= files.items()


def test_a_tile_is_complete_or_missing(tmp_path, monkeypatch):
    make(tmp_path)

    def killed(path, image):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("geoclick.images.write_png", killed)
        with pytest.raises(KeyboardInterrupt):
            taken(tmp_path)
    assert tile_files(tmp_path) == {}
    samples, _ = taken(tmp_path)
    for sample in samples:
        with Image.open(tmp_path / sample.image) as image:
            assert image.size == sample.size[::-1]


def test_nothing_leaves_the_root(tmp_path):
    path = make(tmp_path / "elsewhere", labels=None)
    root = tmp_path / "root"
    make(root)
    (root / "train/z.tif").symlink_to(path)
    (root / "train/z.gpkg").write_bytes((root / "train/a.gpkg").read_bytes())
    _, left = taken(root)
    assert [item.item for item in left if "leads out of" in item.error] == ["train/z.tif"]
    with pytest.raises(GeoClickError, match="leads out of"):
        read("raster", root, "../elsewhere")
    (root / "val").mkdir()
    make(root / "val")
    (root / "val/train").rename(root / "val2")
    (root / "val2/.tiles").symlink_to(tmp_path)
    _, left = taken(root, split="val2")
    assert any("leads out of" in item.error for item in left)


@pytest.mark.parametrize(
    "options",
    [
        ReadOptions(tile=0),
        ReadOptions(tile=64, overlap=64),
        ReadOptions(overlap=-1),
        ReadOptions(stretch=(50, 50)),
        ReadOptions(stretch=(98, 2)),
        ReadOptions(stretch=(-1, 98)),
        ReadOptions(stretch=(0, float("nan"))),
    ],
)
def test_options_out_of_range(tmp_path, options):
    make(tmp_path)
    with pytest.raises(UsageError):
        read("raster", tmp_path, "train", options=options)


def test_usage_errors(tmp_path):
    make(tmp_path)
    with pytest.raises(UsageError, match="holds no GeoTIFF"):
        read("raster", tmp_path, "val")
    with pytest.raises(UsageError, match="1 to 3"):
        list(read("raster", tmp_path, "train", options=ReadOptions(bands=(7,)), on_left_out=lambda _: None))
