"""Many inputs of `geoclick predict --text`: lists, bad files, a second start, a full disk."""

import errno
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from geoclick import images
from geoclick.inference import predict
from geoclick.inference.backends import local
from geoclick.vlms.generation.answers import Generated
from tests import geotiffs
from tests.paths import REPO


@pytest.fixture
def asked(monkeypatch):
    """The queries that the model is asked, with the size of the image of each; it answers with a click."""
    queries = []

    def generate(vlm, images, texts, **options):
        queries.extend((text, image.shape[:2]) for text, image in zip(texts, images, strict=True))
        return [Generated("+(500,500)")] * len(texts)

    monkeypatch.setattr(local, "generate", generate)
    return queries


@pytest.fixture
def command(tiny_segmenter, vlm_folder, tmp_path, asked, capsys, monkeypatch):
    """Runs predict in tmp_path; returns the exit code and the lines of both streams."""
    monkeypatch.chdir(tmp_path)

    def run(*words, text=("--text", "the tank")):
        flags = ("--vlm", vlm_folder, "--answer-format", "compact", *text)
        code = predict.main([*map(str, words), *map(str, flags), "--output", "out"])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        assert "Warning" not in captured.err
        return code, (captured.out + captured.err).splitlines()

    return run


def picture(path, size=(40, 60)):
    path.parent.mkdir(parents=True, exist_ok=True)
    images.write_png(path, np.random.default_rng(len(path.name)).integers(0, 256, (*size, 3), dtype=np.uint8))
    return path


def records(folder="out", name="records.jsonl"):
    return [json.loads(line) for line in Path(folder, name).read_text().splitlines()]


def test_inputs_and_flags_in_any_order_and_lists_with_queries(command, asked, tmp_path, capsys):
    for name in ("in/a.png", "in/b.png", "c.png"):
        picture(tmp_path / name)
    (tmp_path / "list.jsonl").write_text('{"image": "c.png", "query": "a road"}\n{"image": "c.png"}\n')
    code, lines = command("in", "--from", "list.jsonl", "--batch-size", 3, "in/b.png")
    assert code == 0
    assert "1 inputs occur more than once with the same query and are answered once." in lines
    found = [(record["image"], record["query"]) for record in records()]
    assert found == [
        ("in/a.png", "the tank"),
        ("in/b.png", "the tank"),
        ("c.png", "a road"),
        ("c.png", "the tank"),
    ]
    assert sorted(text for text, _ in asked) == ["a road", "the tank", "the tank", "the tank"]
    code, lines = command("c.png", text=())
    assert (code, lines[-1].startswith("error: Missing --text or --classes")) == (2, True)
    assert command("--from", "list.jsonl", text=())[0] == 2
    assert predict.main(["--from", "list.jsonl", "--classes", "a; b"]) == 2
    assert "has queries, which --classes does not ask" in capsys.readouterr().err


def test_a_second_start_asks_what_is_not_finished(command, asked, tmp_path):
    for name in "abc":
        picture(tmp_path / f"in/{name}.png")
    assert command("in")[0] == 0
    first = {path.name: path.read_bytes() for path in Path("out").iterdir()}
    Path("out/b.json").unlink()
    os.utime(tmp_path / "in/c.png", ns=(1, 1))
    asked.clear()
    code, lines = command("in")
    assert (code, len(asked)) == (0, 1)
    assert "2 of 3 images have their outputs from an earlier run" in lines
    assert {path.name: path.read_bytes() for path in Path("out").iterdir()} == first
    for words in (("--decode", "joint"), ("--tile", 30, "--overlap", 2), ("--bands", 1)):
        asked.clear()
        assert command("in", *words)[0] == 0
        assert len(asked) >= 3, words
    asked.clear()
    assert command("in", "--bands", 1, "--batch-size", 1)[0] == 0
    assert asked == []


def test_other_pixels_are_asked_again_though_size_and_time_are_the_same(command, asked, tmp_path):
    path = tmp_path / "in/a.bmp"
    path.parent.mkdir()
    Image.new("RGB", (60, 40), "red").save(path)
    assert command("in")[0] == 0
    before = path.stat()
    Image.new("RGB", (60, 40), "blue").save(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    for expected in (1, 0):
        asked.clear()
        assert command("in")[0] == 0
        assert len(asked) == expected


def test_a_missing_file_of_a_list(command, tmp_path):
    picture(tmp_path / "a.png")
    (tmp_path / "list.txt").write_text("a.png\nnone.png\nnone2.png\n")
    code, lines = command("--from", "list.txt")
    assert code == 1
    assert lines[-1] == "error: none.png does not exist or is not a file (2 do not); fix the path."
    assert not Path("out").exists()
    code, lines = command("--from", "list.txt", "--skip-broken")
    assert code == 0
    assert "2 of 3 images failed; out/failures.jsonl says why." in lines
    assert [failure["image"] for failure in records(name="failures.jsonl")] == ["none.png", "none2.png"]
    assert command("none.png", "--skip-broken")[0] == 1
    picture(tmp_path / "none.png")
    picture(tmp_path / "none2.png")
    assert command("--from", "list.txt")[0] == 0
    assert not Path("out/failures.jsonl").exists()


GOOD = {
    "16-bit": lambda path: geotiffs.write_raster(path, geotiffs.noise(40, 60, dtype="uint16")),
    "float": lambda path: geotiffs.write_raster(path, np.random.default_rng(0).normal(size=(3, 40, 60))),
    "one band": lambda path: geotiffs.write_raster(path, geotiffs.noise(40, 60, bands=1)),
    "eight bands": lambda path: geotiffs.write_raster(path, geotiffs.noise(40, 60, bands=8)),
    "no crs": lambda path: geotiffs.write_raster(path, geotiffs.noise(40, 60), crs=None, transform=None),
    "nan": lambda path: geotiffs.write_raster(path, np.full((3, 40, 60), np.nan, np.float32)),
    "one pixel": lambda path: geotiffs.write_raster(path, geotiffs.noise(1, 1)),
    "palette": lambda path: geotiffs.write_raster(
        path, geotiffs.noise(40, 60, bands=1), colormap={n: (n, 255 - n, 9, 255) for n in range(256)}
    ),
    "cmyk": lambda path: Image.fromarray(np.zeros((40, 60, 4), np.uint8), "CMYK").save(path),
    "infinite": lambda path: geotiffs.write_raster(path, np.full((1, 40, 60), np.inf, np.float32)),
}


def broken(path, kind):
    """Write a file that cannot be answered."""
    if kind == "cut short":
        geotiffs.write_raster(path, geotiffs.noise(600, 600, dtype="uint16"), compress="deflate", tiled=True)
        path.write_bytes(path.read_bytes()[:-300_000])
    elif kind == "a line":
        geotiffs.write_raster(path, geotiffs.noise(1, 50_000))
    elif kind == "complex":
        geotiffs.write_raster(path, np.zeros((1, 40, 60), np.complex64))
    else:
        path.write_bytes(b"II*\0nothing")


BROKEN = {
    "cut short": "cannot be read",
    "a line": "too narrow",
    "complex": "complex",
    "garbage": "cannot be read",
}


def test_files_of_all_kinds_are_answered_or_recorded_and_the_rest_goes_on(command, tmp_path, asked):
    (tmp_path / "in").mkdir()
    for name, write in GOOD.items():
        write(tmp_path / f"in/{name}.tif")
    for name in BROKEN:
        broken(tmp_path / f"in/{name}.tif", name)
    code, lines = command("in", "--tile", 256, "--overlap", 16)
    assert code == 1
    assert lines[-1].startswith(
        "error: 4 of 14 images failed: in/a line.tif, in/complex.tif, in/cut short.tif, "
    )
    assert {record["image"] for record in records()} == {f"in/{name}.tif" for name in GOOD}
    failures = {Path(failure["image"]).stem: failure["error"] for failure in records(name="failures.jsonl")}
    assert failures.keys() == BROKEN.keys()
    for name, message in BROKEN.items():
        assert message in failures[name]
    left = {path.name for path in Path("out").iterdir()}
    assert not [name for name in left if ".partial" in name or name.split(".")[0] in BROKEN]
    by_name = {Path(record["image"]).stem: record for record in records()}
    assert (by_name["nan"]["no_data"], by_name["nan"]["status"], by_name["nan"]["mask_area"]) == (
        1,
        "empty",
        0,
    )
    assert (by_name["no crs"]["crs"], by_name["no crs"]["vectors"]) == (None, [])
    assert any("no polygons, since it is not georeferenced" in line for line in lines)
    assert by_name["one band"]["vectors"] == ["one band.gpkg", "one band.geojson"]
    assert (1, 1) in [size for _, size in asked]
    # Only what failed is asked again.
    asked.clear()
    assert command("in", "--tile", 256, "--overlap", 16, "--skip-broken")[0] == 0
    assert {size for _, size in asked} <= {(256, 256), (1, 256)}


def test_a_resolution_needs_a_raster(command, tmp_path):
    picture(tmp_path / "a.png")
    code, lines = command("a.png", "--resolution", 2)
    assert (code, lines[-1]) == (
        1,
        "error: a.png has no place on Earth, which --resolution needs; leave it out.",
    )
    code, lines = command("a.png", "--resolution", 0)
    assert (code, lines[-1].startswith("error: --resolution must be ")) == (2, True)
    code, lines = command("a.png", "--overlap", 1024)
    assert (code, "must be below the default --tile 1024, not 1024" in lines[-1]) == (2, True)


@pytest.mark.parametrize("suffix", ["mask.png", "overlay.png", "json"])
def test_a_full_disk_is_one_sentence_and_the_job_continues(suffix, command, tmp_path, asked, monkeypatch):
    for name in "abc":
        picture(tmp_path / f"in/{name}.png")
    fsync = os.fsync

    def full(descriptor):
        if Path(f"/proc/self/fd/{descriptor}").readlink().name == f"b.{suffix}.partial":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "b")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    code, lines = command("in", "--batch-size", 1)
    assert (code, lines[-1]) == (
        1,
        "error: No space left on device: b; free space or fix the path and rerun the command.",
    )
    assert not list(Path("out").glob("*.partial"))
    monkeypatch.setattr(os, "fsync", fsync)
    asked.clear()
    assert command("in")[0] == 0
    assert len(asked) == 2
    assert len(records()) == 3


@pytest.mark.parametrize("limit", [2_000, pytest.param(60_000, marks=pytest.mark.slow)])
def test_a_raster_on_a_full_disk_is_one_sentence(limit, tmp_path, monkeypatch):
    """The kernel refuses files above a size, as it refuses them on a full disk."""
    values = np.random.default_rng(0).choice(np.array([0, 255], np.uint8), (1, 150, 150))
    geotiffs.write_raster(tmp_path / "a.tif", values)
    code = (
        "import sys; from tests.inference.predictions import thresholds as t;"
        "from geoclick.command import exit_code;"
        "sys.exit(exit_code(lambda: print(t.predict(sys.argv[1], [sys.argv[2]], tile=100))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "out", tmp_path / "a.tif"],
        cwd=REPO,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "out").glob("*.json"))
    assert not list((tmp_path / "out").glob("*.partial"))
