"""Time and memory of a raster in windows, compared with samgeo (segment-geospatial).

pip install segment-geospatial
python -m benchmarks.samgeo_windows --sides 1500 3000 --output runs/samgeo.json

The task of both: a GeoTIFF in windows of 768 pixels, one every 512; in each window, the masks of SAM's automatic
generator with the embedded weights, one grid and the same limits; their union as a mask and as polygons in a
GeoPackage. samgeo does it by `SamGeo.generate(batch=True)` and `raster_to_gpkg`, GeoClick by the job of `geoclick
predict` with `propose` in place of the model. samgeo knows only the released architectures of SAM: here its table of
them has the embedded one in addition. Each method and size runs in a process of its own. The windows at the right and
bottom differ, since samgeo fills them up with zeros and GeoClick moves them inside, and so do the seams, since samgeo
takes the middle of each window and GeoClick the union; the IoU of the two masks is printed.
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
from typing import TYPE_CHECKING

import numpy as np

from geoclick import embedded

if TYPE_CHECKING:
    from geoclick.inference.generative.prediction import Prediction

STEP, BOUND = 512, 128
"""samgeo's defaults: distance of windows, and what they see more on each side."""
PREDICTED_IOU, STABILITY = 0.2, 0.8
"""Limits of the embedded SAM, as in `geoclick predict --classes`."""
TOLERANCE = 1.5
"""Of the polygons, in pixels."""
PIXEL = 0.3
"""Side of a pixel of the raster in meters."""


class Everything:
    """The union of all proposals of a window, in place of the generative pipeline."""

    def __init__(self, points: int) -> None:
        from geoclick import segmenters

        self.points, self.segmenter = points, segmenters.load()

    def predict_batch(self, images: Sequence[np.ndarray], texts: Sequence[str]) -> list["Prediction"]:
        """A prediction for each image."""
        from geoclick.inference.contrastive.proposals import propose
        from geoclick.inference.generative.prediction import Prediction

        predictions = []
        for image in images:
            mask = np.zeros(image.shape[:2], bool)
            found = propose(
                self.segmenter,
                image,
                points_per_side=self.points,
                predicted_iou=PREDICTED_IOU,
                stability=STABILITY,
            )
            for proposal in found:
                mask |= proposal.mask
            predictions.append(Prediction(mask, (), status="ok", score=0.5))
        return predictions


def with_geoclick(raster: Path, folder: Path, points: int) -> int:
    """Segment a raster by GeoClick; returns the peak memory before it, in KiB."""
    from geoclick.geo.reading import PixelOptions
    from geoclick.inference.predictions import answers, output_files
    from geoclick.inference.predictions.inputs import Input
    from geoclick.inference.predictions.records import Setting

    predictor = Everything(points)
    setting = Setting(
        folder=folder,
        pixels=PixelOptions(),
        tile=STEP + 2 * BOUND,
        overlap=2 * BOUND,
        resolution=None,
        tolerance=TOLERANCE,
        about={},
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    images = [Input(raster, ("everything",))]
    names = output_files.names_of(images)
    if failures := answers.answer_all(predictor, setting, images, names, 1):  # type: ignore[arg-type]
        raise SystemExit(str(failures))
    (folder / "raster.mask.tif").rename(folder / "mask.tif")
    (folder / "raster.gpkg").rename(folder / "objects.gpkg")
    return before


def with_samgeo(raster: Path, folder: Path, points: int) -> int:
    """Segment a raster by samgeo; returns the peak memory before it, in KiB."""
    from samgeo import SamGeo, common
    from samgeo import samgeo as library

    from geoclick.segmenters.embedded import read_folder

    weights = embedded.folder("sam")
    library.sam_model_registry["embedded"] = lambda checkpoint: read_folder(weights).eval()
    model = SamGeo(
        model_type="embedded",
        checkpoint=str(weights / "model.safetensors"),
        device="cpu",
        sam_kwargs={
            "points_per_side": points,
            "pred_iou_thresh": PREDICTED_IOU,
            "stability_score_thresh": STABILITY,
        },
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    model.generate(str(raster), str(folder / "mask.tif"), batch=True, mask_multiplier=1)
    common.raster_to_gpkg(
        str(folder / "mask.tif"), str(folder / "objects.gpkg"), simplify_tolerance=TOLERANCE * PIXEL
    )
    return before


METHODS = {"geoclick": with_geoclick, "samgeo": with_samgeo}


def measure(method: str, raster: Path, folder: Path, points: int) -> dict[str, float | int]:
    """Run a method once in this process; memory is that of the process, libraries and models included."""
    import pyogrio
    import torch

    torch.set_num_threads(1)
    started, clock = time.process_time(), time.monotonic()
    before = METHODS[method](raster, folder, points)
    return {
        "cpu_seconds": round(time.process_time() - started, 1),
        "seconds": round(time.monotonic() - clock, 1),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "before_mb": before // 1024,
        "polygons": pyogrio.read_info(folder / "objects.gpkg", layer=0)["features"],
    }


def compare(folder: Path) -> float:
    """The IoU of the masks of both methods."""
    import rasterio

    masks = []
    for method in METHODS:
        with rasterio.open(folder / method / "mask.tif") as raster:
            masks.append(raster.read(1) == 1)
    return float((masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum())


def main() -> None:
    """Measure each method and size in a process of its own and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sides", type=int, nargs="+", default=[1500, 3000])
    parser.add_argument("--points", type=int, default=16, help="points along each side of a window")
    parser.add_argument("--methods", nargs="+", choices=tuple(METHODS), default=tuple(METHODS))
    parser.add_argument("--output")
    parser.add_argument("--run", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        method, raster, folder = options.run
        print(json.dumps(measure(method, Path(raster), Path(folder), options.points)))
        return
    # Not in the processes that are measured: it imports the complete pipeline.
    from benchmarks.rasters import write_raster

    figures = []
    for side in options.sides:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_raster(folder / "raster.tif", side)
            for method in options.methods:
                (folder / method).mkdir()
                words = ["--points", str(options.points), "--run", method]
                command = [sys.executable, "-m", "benchmarks.samgeo_windows", *words]
                done = subprocess.run(
                    [*command, folder / "raster.tif", folder / method],
                    check=True,
                    stdout=subprocess.PIPE,
                    text=True,
                )
                row = {"side": side, "method": method, **json.loads(done.stdout.splitlines()[-1])}
                print(row, flush=True)
                figures.append(row)
            if set(METHODS) <= set(options.methods):
                print(f"{side} px: IoU of the masks {compare(folder):.3f}", flush=True)
    if options.output:
        Path(options.output).parent.mkdir(parents=True, exist_ok=True)
        Path(options.output).write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
