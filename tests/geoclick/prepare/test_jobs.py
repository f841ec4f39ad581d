"""Each job on its raw copy: every pixel of every tile compared with the raw files, decoded here on their own."""

import json
import re
import shutil
from dataclasses import fields

import numpy as np
import pytest
from PIL import Image
from skimage.draw import polygon2mask

from geoclick import datasets, masks
from geoclick.datasets.benchmarks import BENCHMARKS
from geoclick.prepare import JOBS, run
from geoclick.scenes.copies import LAYOUTS

ISPRS = ["000000", "ffffff", "0000ff", "00ffff", "00ff00", "ffff00", "ff0000"]
ISAID = {0: "000000", 2: "003f3f", 4: "003f7f", 9: "00007f", 11: "0000ff"}
ONLY = {
    "potsdam": ("2_13", "2_14"),
    "vaihingen": ("area2", "area4"),
    "uavid": ("seq21",),
    "inria": ("austin1",),
}
"""Of the sets whose images are listed, those that the copies have."""
UAVID = ["000000", "800000", "804080", "c000c0", "008000", "808000", "404000"]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """The raw copy of a job and its output, made once."""
    made = {}

    def prepare(job, count=2):
        if job not in made:
            raw, output = (tmp_path_factory.mktemp(f"{job}-{part}") for part in ("raw", "output"))
            LAYOUTS[f"raw-{job}"](raw, count, 5)
            words = [job, "--root", str(raw), "--output", str(output), "--workers", "1"]
            assert run.main([*words, "--only", *ONLY[job]] if job in ONLY else words) == 0
            made[job] = raw, output
        return made[job]

    return prepare


def pixels(path):
    with Image.open(path) as image:
        return np.array(image)


def in_colors(path):
    with Image.open(path) as image:
        return np.array(image.convert("RGB"))


def index_of(path, colors, unknown):
    """The place of every pixel's color in a table, color by color."""
    codes = in_colors(path) @ np.array([1 << 16, 1 << 8, 1])
    index = np.full(codes.shape, unknown, np.uint8)
    for value, color in colors.items() if isinstance(colors, dict) else enumerate(colors):
        index[codes == int(color, 16)] = value
    return index


def tiles(output, split, name, by_columns):
    """(rows, columns, picture, label) of every tile of a raw image, its place read out of its name."""
    found = []
    for path in sorted((output / "img_dir" / split).glob(f"{name}_*.png")):
        a, b, c, d = map(int, re.fullmatch(rf"{name}_(\d+)_(\d+)_(\d+)_(\d+)", path.stem).groups())
        rows, columns = (slice(b, d), slice(a, c)) if by_columns else (slice(a, b), slice(c, d))
        (label,) = (output / "ann_dir" / split).glob(f"{path.stem}*.png")
        with Image.open(label) as image:
            assert image.mode == "L"
        found.append((rows, columns, pixels(path), pixels(label)))
    return found


def check(output, split, name, picture, label, *, by_columns, tile, number):
    """Every tile is what lies there in the raw files, and together they show all of it."""
    found = tiles(output, split, name, by_columns)
    assert len(found) == number
    seen = np.zeros(label.shape, bool)
    for rows, columns, cut, mask in found:
        assert mask.shape == tile
        assert cut.shape == (*tile, 3)
        assert np.array_equal(cut, picture[rows, columns])
        assert np.array_equal(mask, label[rows, columns])
        seen[rows, columns] = True
    assert seen.all()


def names(output, split):
    return {path.name.split("_")[0] for path in (output / "img_dir" / split).iterdir()}


def test_potsdam(prepared):
    raw, output = prepared("potsdam")
    for name in ("2_13", "2_14"):
        label = index_of(raw / f"5_Labels_all_noBoundary/top_potsdam_{name}_label_noBoundary.tif", ISPRS, 0)
        picture = pixels(raw / f"2_Ortho_RGB/top_potsdam_{name}_RGB.tif")
        check(output, "val", name, picture, label, by_columns=True, tile=(512, 512), number=4)
        with_boundary = index_of(raw / f"5_Labels_all/top_potsdam_{name}_label.tif", ISPRS, 0)
        assert (label != with_boundary).any()
        assert len(np.unique(label)) > 3
    assert len(list((output / "img_dir/val").iterdir())) == 8
    manifest = json.loads((output / "prepared.json").read_text())
    assert manifest["unknown_pixels"] == {"2_13": 40}
    assert (manifest["job"], manifest["split"], manifest["tiles"]) == ("potsdam", "val", 8)


def test_vaihingen(prepared):
    raw, output = prepared("vaihingen")
    for name, number in (("area2", 4), ("area4", 4)):
        eroded = "ISPRS_semantic_labeling_Vaihingen_ground_truth_eroded_COMPLETE"
        label = index_of(raw / eroded / f"top_mosaic_09cm_{name}_noBoundary.tif", ISPRS, 0)
        picture = pixels(raw / "ISPRS_semantic_labeling_Vaihingen/top" / f"top_mosaic_09cm_{name}.tif")
        check(output, "val", name, picture, label, by_columns=True, tile=(512, 512), number=number)
    assert names(output, "val") == {"area2", "area4"}


def test_isaid_is_filled_up_with_what_is_ignored(prepared):
    raw, output = prepared("isaid", count=3)
    for name, number in (("P0003", 3), ("P0004", 1), ("P0005", 2)):
        label = index_of(raw / f"val/Semantic_masks/images/{name}_instance_color_RGB.png", ISAID, 255)
        picture = pixels(raw / f"val/images/{name}.png")
        missing = [(0, max(0, 896 - side)) for side in label.shape]
        assert any(sum(m) for m in missing) == (name in ("P0004", "P0005"))
        label = np.pad(label, missing, constant_values=255)
        picture = np.pad(picture, [*missing, (0, 0)])
        check(output, "val", name, picture, label, by_columns=False, tile=(896, 896), number=number)
    assert all(path.name.endswith("_instance_color_RGB.png") for path in (output / "ann_dir/val").iterdir())
    assert {rows.start for rows, *_ in tiles(output, "val", "P0005", False)} == {0, 1100 - 896}
    assert {columns.start for _, columns, *_ in tiles(output, "val", "P0003", False)} == {
        0,
        896 - 384,
        1500 - 896,
    }


def test_uavid_merges_cars_and_reads_colors_not_numbers(prepared):
    raw, output = prepared("uavid")
    for number, width in enumerate((1920, 2048)):
        path = raw / f"uavid_test/seq21/Labels/000{number}00.png"
        with Image.open(path) as image:
            assert image.mode == ("P" if number else "RGB")
        label = index_of(path, UAVID, 255)
        moving = (in_colors(path) == (64, 0, 128)).all(axis=2)
        assert moving.sum() >= 200
        assert (label[moving] == 255).all()
        label[moving] = 3
        assert (label != 255).all()
        assert {1, 3, 6} <= set(np.unique(label).tolist()) or number
        picture = pixels(raw / f"uavid_test/seq21/Images/000{number}00.png")
        assert picture.shape == (1080, width, 3)
        name = f"seq21_000{number}00"
        check(output, "test", name, picture, label, by_columns=False, tile=(1080, 1280), number=2)
    assert names(output, "test") == {"seq21"}


def test_inria_takes_the_listed_tiles_of_the_train_set(prepared):
    raw, output = prepared("inria")
    label = pixels(raw / "AerialImageDataset/train/gt/austin1.tif")
    picture = pixels(raw / "AerialImageDataset/train/images/austin1.tif")
    assert set(np.unique(label)) == {0, 255}
    # As the published converter writes them: 0 and 1, and 255 is its ignore value.
    check(
        output, "split_test", "austin1", picture, label // 255, by_columns=True, tile=(1000, 1000), number=4
    )
    assert names(output, "split_test") == {"austin1"}


def test_loveda_stays_as_it_is_in_one_folder(prepared):
    raw, output = prepared("loveda")
    for area, name in (("Rural", "2522"), ("Urban", "3514")):
        image, label = (output / folder / "val" / f"{name}.png" for folder in ("img_dir", "ann_dir"))
        assert image.read_bytes() == (raw / "Val" / area / "images_png" / image.name).read_bytes()
        assert np.array_equal(pixels(label), pixels(raw / "Val" / area / "masks_png" / label.name))
        assert (pixels(label)[:100, -50:] == 0).all()
    assert names(output, "val") == {"2522.png", "3514.png"}


def test_xbd_takes_what_was_before_by_target_or_by_polygons(prepared):
    raw, output = prepared("xbd")
    assert {path.name for path in (output / "test/images_pre").iterdir()} == {
        "guatemala-volcano_00000000_pre_disaster.png",
        "santa-rosa-wildfire_00000000_pre_disaster.png",
    }
    for path in (output / "test/images_pre").iterdir():
        assert path.read_bytes() == (raw / "test/images" / path.name).read_bytes()
        label = pixels(output / "test/targets_cvt_pre" / path.name)
        assert set(np.unique(label)) == {0, 1}
        target = raw / "test/targets" / f"{path.stem}_target.png"
        assert target.exists() == path.name.startswith("guatemala")
        if target.exists():
            assert np.array_equal(label > 0, pixels(target) >= 1)
        assert (label[10:71, 10:91] == 0).sum() == 31 * 21  # the court
        inside, near = polygons(raw / "test/labels" / f"{path.stem}.json")
        assert label[inside].all()
        assert not label[~near].any()


def polygons(path):
    """Pixels that lie in a building, two pixels from its outline and court, and those that lie in or near one."""
    inside, near = np.zeros((2, 1024, 1024), bool)
    for building in json.loads(path.read_text())["features"]["xy"]:
        rings = [
            np.array([list(map(float, corner.split())) for corner in ring.split(",")])[:, ::-1]
            for ring in re.findall(r"\(([^()]+)\)", building["wkt"])
        ]
        masks = [polygon2mask((1024, 1024), ring) for ring in rings]
        body = masks[0] & ~masks[-1] if len(masks) > 1 else masks[0]
        inside |= shifted(body, np.logical_and)
        near |= shifted(masks[0], np.logical_or)
    return inside, near


def shifted(mask, combine):
    moved = [np.roll(mask, (row, column), (0, 1)) for row in (-2, 0, 2) for column in (-2, 0, 2)]
    return combine.reduce(moved)


@pytest.mark.parametrize("job", [name for name in JOBS if name not in ("loveda", "uavid")])
def test_the_reader_reads_what_was_written(prepared, job):
    """The areas of each class, summed up, are those of its value in the files."""
    table, split = BENCHMARKS[job], next(iter(JOBS[job].splits))
    _, output = prepared(job, count=3 if job == "isaid" else 2)
    samples = list(datasets.read(job, str(output), split))
    folder = output / (
        "test/targets_cvt_pre" if job == "xbd" else f"ann_dir/{'split_' if job == 'inria' else ''}{split}"
    )
    labels = [pixels(path) for path in sorted(folder.iterdir())]
    assert len(samples) == len(labels) * len(table.classes)
    for number, name in enumerate(table.names):
        value = {"inria": 1, "xbd": 1}.get(job, table.first_value + number)
        area = sum(masks.area(sample.rle) for sample in samples if sample.category == name)
        assert area == sum(int((label == value).sum()) for label in labels)


def test_jobs_and_the_table_of_benchmarks_say_the_same():
    assert set(JOBS) == {name for name, table in BENCHMARKS.items() if table.prepared}
    for name, job in JOBS.items():
        table, (split, published) = BENCHMARKS[name], next(iter(job.splits.items()))
        assert (job.title, split, published.tiles) == (table.title, table.split, table.count)
        assert table.size == (job.tile or (1024, 1024))
        assert job.ignored in (None, table.ignored_values[0])


def test_the_command_names_all_jobs():
    (job,) = (field for field in fields(run.PrepareOptions) if field.name == "job")
    assert job.metadata["choices"] == tuple(JOBS)
    assert {f"raw-{name}" for name in JOBS} <= set(LAYOUTS)
    for job in JOBS.values():
        for split in job.splits.values():
            assert len(set(split.names)) == len(split.names)


def test_the_same_seed_draws_the_same_copy(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        LAYOUTS["raw-vaihingen"](tmp_path / name, 1, seed)
    a, b, c = (
        {str(p.relative_to(tmp_path / n)): p.read_bytes() for p in (tmp_path / n).rglob("*.tif")}
        for n in "abc"
    )
    assert a == b
    assert a != c


def test_an_output_with_the_folders_of_an_earlier_version_is_noticed(prepared, tmp_path, capsys):
    raw, output = prepared("inria")
    old = tmp_path / "old"
    shutil.copytree(output, old)
    (old / "ann_dir/split_test").rename(old / "ann_dir/test")
    path = old / "prepared.json"
    path.write_text(path.read_text().replace("ann_dir/split_test", "ann_dir/test"))
    words = ["inria", "--root", str(raw), "--output", str(old), "--only", *ONLY["inria"]]
    assert run.main(words) == 2
    error = capsys.readouterr().err
    assert "was prepared by an earlier version, with ann_dir/test in place of" in error
    assert "ann_dir/split_test" in error
