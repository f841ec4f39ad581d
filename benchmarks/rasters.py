"""Peak memory and time of `geoclick predict` on a GeoTIFF, from text to GeoPackage, by its size.

python -m benchmarks.rasters --sides 2500 5000 10000 --output runs/rasters.json
python -m benchmarks.rasters --sides 2500 5000 10000 --models embedded
python -m benchmarks.rasters --sides --seams 1500 --tile 512

Each size runs in a process of its own. By default a threshold takes the place of the models, so that the figures are
those of reading, joining, writing and polygons; `--models embedded` runs the models of the package. The rasters are
repeated procedural scenes, written as tiled GeoTIFFs of three bands. `--seams SIDE` compares the mask of a raster in
windows with that of a single pass: pixels that differ, and how far they are from the nearest border of a window.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import ndimage

from geoclick.clicks import Click
from geoclick.geo.reading import PixelOptions
from geoclick.inference.generative.prediction import Prediction
from geoclick.inference.pipeline import load
from geoclick.inference.predictions import answers, output_files
from geoclick.inference.predictions.inputs import Input
from geoclick.inference.predictions.jobs import Predictor
from geoclick.inference.predictions.records import Setting
from geoclick.scenes.drawing import sample_scene

TEXT = "the building"
SMOOTH, LIGHT = 15, 170
"""Side in pixels of the box whose mean is compared, and the value above which a pixel belongs to the mask."""

SCENES = 8
"""Scenes along a side of the square that is repeated."""


class Bright:
    """A mask of the bright regions, in place of models."""

    def predict_batch(self, images: Sequence[np.ndarray], texts: Sequence[str]) -> list[Prediction]:
        """A prediction for each image."""
        masks = [ndimage.uniform_filter(image[..., 0], SMOOTH) > LIGHT for image in images]
        return [
            Prediction(mask, (Click(float(mask.shape[1] // 2), 5.0),), text, "ok", score=0.5)
            for mask, text in zip(masks, texts, strict=True)
        ]


def write_raster(path: Path, side: int) -> None:
    """Write a square GeoTIFF strip by strip."""
    import rasterio
    from rasterio import Affine
    from rasterio.windows import Window

    scenes = [sample_scene(0, "test", number, ["referring"])[0] for number in range(SCENES**2)]
    rows = [np.concatenate(scenes[start : start + SCENES], axis=1) for start in range(0, SCENES**2, SCENES)]
    square = np.concatenate(rows).transpose(2, 0, 1)
    length = square.shape[2]
    with rasterio.open(
        path,
        "w",
        **{"driver": "GTiff", "count": 3, "height": side, "width": side, "dtype": "uint8", "tiled": True},
        **{"crs": "EPSG:32633", "transform": Affine(0.3, 0, 500_000, 0, -0.3, 5_000_000)},
        **{"compress": "deflate", "zlevel": 1},
    ) as raster:
        columns = np.arange(side) % length
        for top in range(0, side, 256):
            height = min(256, side - top)
            part = square[:, (np.arange(height) + top) % length][:, :, columns]
            raster.write(part, window=Window(0, top, side, height))


def measure(path: Path, folder: Path, models: str, tile: int, overlap: int) -> dict[str, float | int]:
    """Run once in this process; memory is that of the process, libraries and models included."""
    predictor: Predictor = load() if models == "embedded" else Bright()  # type: ignore[assignment]
    loaded = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    setting = Setting(
        folder=folder,
        pixels=PixelOptions(),
        tile=tile,
        overlap=overlap,
        resolution=None,
        tolerance=1.5,
        about={"vlm": models, "segmenter": models},
    )
    images = [Input(path, (TEXT,))]
    started, clock = time.process_time(), time.monotonic()
    failures = answers.answer_all(predictor, setting, images, output_files.names_of(images), 8)
    if failures:
        raise SystemExit(str(failures))
    record = json.loads((folder / f"{path.stem}.json").read_text())
    return {
        "cpu_seconds": round(time.process_time() - started, 2),
        "seconds": round(time.monotonic() - clock, 2),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "before_mb": loaded // 1024,
        "polygons": record["polygons"],
        "windows": len(record["windows"]),
    }


def seams(side: int, models: str, tile: int, overlap: int) -> dict[str, float | int]:
    """Compare the mask of a raster in windows with that of a single pass.

    Args:
        side: of the raster in pixels.
        models: as `--models`.
        tile: side of the windows.
        overlap: of neighboring windows.

    Returns:
        IoU of the two masks, share of all pixels that differ, number of them, and the largest distance in pixels of
        one of them from the nearest border of a window inside the raster.
    """
    import rasterio

    masks, names = [], (("windows", tile), ("single", side))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "raster.tif")
        write_raster(path, side)
        for name, width in names:
            Path(folder, name).mkdir()
            measure(path, Path(folder, name), models, width, min(overlap, width - 1))
            with rasterio.open(Path(folder, name, "raster.mask.tif")) as raster:
                masks.append(raster.read(1) == 1)
        record = json.loads(Path(folder, "windows", "raster.json").read_text())
    first, second = masks
    rows, columns = np.nonzero(first != second)
    distance = np.minimum(
        to_borders(record["window_rows"], tile, side)[rows],
        to_borders(record["window_columns"], tile, side)[columns],
    )
    return {
        "iou": round(float((first & second).sum() / max(1, (first | second).sum())), 5),
        "differing_share": round(len(rows) / first.size, 6),
        "differing": len(rows),
        "largest_distance": int(distance.max(initial=0)),
    }


def to_borders(starts: Sequence[int], tile: int, side: int) -> np.ndarray:
    """The distance of each row (or column) to the nearest first or last row of a window inside the raster, [side]."""
    borders = {start for start in starts if start} | {
        start + tile - 1 for start in starts if start + tile < side
    }
    lines = np.arange(side)
    distances = [np.abs(lines - border) for border in borders]
    return np.minimum.reduce(distances) if distances else np.full(side, side)


def main() -> None:
    """Measure each size in a process of its own and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sides", type=int, nargs="*", default=[2500, 5000, 10000])
    parser.add_argument("--seams", type=int, nargs="*", default=[], metavar="SIDE")
    parser.add_argument("--models", choices=("threshold", "embedded"), default="threshold")
    parser.add_argument("--tile", type=int, default=1024)
    parser.add_argument("--overlap", type=int, default=128)
    parser.add_argument("--output")
    parser.add_argument("--raster", help=argparse.SUPPRESS)
    options = parser.parse_args()
    words = ["--models", options.models, "--tile", str(options.tile), "--overlap", str(options.overlap)]
    with tempfile.TemporaryDirectory() as folder:
        if options.raster:
            path = Path(options.raster)
            print(json.dumps(measure(path, Path(folder), options.models, options.tile, options.overlap)))
            return
        figures: dict[str, dict[str, float | int]] = {}
        for side in options.sides:
            path = Path(folder, f"{side}.tif")
            write_raster(path, side)
            command = [sys.executable, "-m", "benchmarks.rasters", "--raster", str(path), *words]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            figures[str(side)] = json.loads(done.stdout.splitlines()[-1])
            print(f"{side} px: {figures[str(side)]}", flush=True)
            path.unlink()
    for side in options.seams:
        figures[f"seams {side}"] = seams(side, options.models, options.tile, options.overlap)
        print(f"seams, {side} px: {figures[f'seams {side}']}", flush=True)
    if options.output:
        Path(options.output).parent.mkdir(parents=True, exist_ok=True)
        Path(options.output).write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
