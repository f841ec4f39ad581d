"""Small GeoTIFFs and vector files, for tests of rasters."""

from pathlib import Path

import numpy as np
import pytest

rasterio = pytest.importorskip("rasterio")
pyogrio = pytest.importorskip("pyogrio")
shapely = pytest.importorskip("shapely")
features = pytest.importorskip("rasterio.features")

UTM = "EPSG:32633"
LEFT, TOP, PIXEL = 499_500.0, 500.0, 10.0
"""The top left corner and the pixel's side, in metres of UTM zone 33 N: 15 degrees east on the equator is the corner
between the pixels 49 and 50 of both axes."""


def write_raster(path: Path, pixels: np.ndarray, **profile: object) -> Path:
    """Write [bands, H, W] as a GeoTIFF that lies at LEFT, TOP."""
    path.parent.mkdir(parents=True, exist_ok=True)
    after = {key: profile.pop(key) for key in ("colorinterp", "colormap") if key in profile}
    options = {
        "driver": "GTiff",
        "count": len(pixels),
        "height": pixels.shape[1],
        "width": pixels.shape[2],
        "dtype": pixels.dtype,
        "crs": UTM,
        "transform": rasterio.Affine(PIXEL, 0, LEFT, 0, -PIXEL, TOP),
    }
    with rasterio.open(path, "w", **(options | profile)) as raster:
        raster.write(pixels)
        if "colorinterp" in after:
            raster.colorinterp = after["colorinterp"]
        if "colormap" in after:
            raster.write_colormap(1, after["colormap"])
    return path


def noise(height: int, width: int, *, bands: int = 3, dtype: str = "uint8", seed: int = 0) -> np.ndarray:
    """Random pixels [bands, H, W]."""
    high = min(np.iinfo(dtype).max, 4000)
    return np.random.default_rng(seed).integers(1, high, (bands, height, width)).astype(dtype)


def place(shape: object) -> object:
    """A geometry in pixels, (0, 0) the outer corner of the first, in metres of the raster."""
    return shapely.transform(shape, lambda xy: xy * [PIXEL, -PIXEL] + [LEFT, TOP])


def to_degrees(shape: object) -> object:
    """A geometry in metres as longitude and latitude."""
    from rasterio import warp

    return shapely.transform(
        shape, lambda xy: np.stack(warp.transform(UTM, "EPSG:4326", xy[:, 0], xy[:, 1]), axis=1)
    )


def write_vectors(
    path: Path, shapes: list, crs: str | None = UTM, *, layer: str = "labels", **fields: list
) -> Path:
    """Write geometries in the units of `crs`, with attributes, as a GeoPackage or GeoJSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pyogrio.raw.write(
        path,
        shapely.to_wkb(np.array(shapes, object)),
        [np.array(values, None if isinstance(values[0], int) else object) for values in fields.values()],
        list(fields),
        crs=crs,
        geometry_type="Unknown",
        layer=layer,
        append=path.exists(),
    )
    return path
