"""Peak memory and time of `geoclick predict --classes` on a GeoTIFF, from classes to GeoPackage, by its size.

python -m benchmarks.class_maps --sides 2500 5000 10000 --output runs/class_maps.json

Each size runs in a process of its own. By default steps of gray take the place of the models, so that the figures are
those of reading, writing and polygons; `--method clearclip` and the like run the models of the package. The rasters are
those of benchmarks/rasters.py.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from benchmarks.rasters import write_raster
from geoclick.geo.reading import PixelOptions
from geoclick.inference.contrastive import classes, pipeline, windowed
from geoclick.inference.contrastive.map_files import MapPipeline
from geoclick.inference.contrastive.map_models import MapModels
from geoclick.inference.contrastive.prediction import SemanticPrediction
from geoclick.inference.contrastive.settings import TILE
from geoclick.inference.contrastive.windowed import Source, WindowMap
from geoclick.inference.predictions import asking, output_files
from geoclick.inference.predictions.inputs import Input
from geoclick.options import METHODS
from geoclick.yaml_file import Yaml

CLASSES = "background; building, roof; road; water; field; tree, forest"
SMOOTH = 15
"""Side in pixels of the box whose mean is taken in place of models."""


class Steps:
    """A class for each step of gray, in place of models."""

    def __init__(self) -> None:
        self.classes = classes.from_option(CLASSES)

    def predict(self, image: np.ndarray) -> SemanticPrediction:
        """The classes of an image."""
        gray = ndimage.uniform_filter(image[..., 0], SMOOTH)
        labels = gray // (255 // len(self.classes.names) + 1)
        return SemanticPrediction(labels.astype(np.int32), (gray / 255).astype(np.float32))

    def windows(self, source: Source) -> Iterator[WindowMap]:
        """The same window by window."""
        return windowed.maps(
            source, TILE, lambda window: torch.zeros(0), lambda image, _: self.predict(image)
        )

    def describe(self) -> dict[str, Yaml]:
        """For records."""
        return {"method": "steps", "clip": None, "segmenter": None}


def measure(path: Path, folder: Path, method: str) -> dict[str, float | int]:
    """Run once in this process; memory is that of the process, libraries and models included."""
    loaded: MapPipeline = Steps() if method == "steps" else pipeline.load(CLASSES, method)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    models = MapModels(loaded, CLASSES, PixelOptions(), None)
    images = [Input(path, (CLASSES,))]
    started, clock = time.process_time(), time.monotonic()
    names = output_files.names_of(images)
    if failures := asking.answer_all(asking.Local(models), folder, images, names, 1):
        raise SystemExit(str(failures))
    record = json.loads((folder / f"{path.stem}.json").read_text())
    return {
        "cpu_seconds": round(time.process_time() - started, 2),
        "seconds": round(time.monotonic() - clock, 2),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "before_mb": before // 1024,
        "polygons": record["polygons"],
    }


def main() -> None:
    """Measure each size in a process of its own and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sides", type=int, nargs="+", default=[2500, 5000, 10000])
    parser.add_argument("--method", choices=("steps", *METHODS), default="steps")
    parser.add_argument("--output")
    parser.add_argument("--raster", help=argparse.SUPPRESS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.raster:
            print(json.dumps(measure(Path(options.raster), Path(folder), options.method)))
            return
        figures = {}
        for side in options.sides:
            path = Path(folder, f"{side}.tif")
            write_raster(path, side)
            command = [sys.executable, "-m", "benchmarks.class_maps", "--raster", str(path)]
            done = subprocess.run(
                [*command, "--method", options.method], check=True, capture_output=True, text=True
            )
            figures[side] = json.loads(done.stdout.splitlines()[-1])
            print(f"{side} px: {figures[side]}", flush=True)
            path.unlink()
    if options.output:
        Path(options.output).parent.mkdir(parents=True, exist_ok=True)
        Path(options.output).write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
