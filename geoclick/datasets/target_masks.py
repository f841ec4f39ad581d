"""Mask files of one's own data: which pixels are the target, by one rule for every way of storing a mask.

Stored values are read, not brightness: the index where there is a palette, else the largest channel.

- One value besides 0, or one color besides black: its pixels are the target.
- Black and white with gray levels between, as JPEG and smooth resizing leave them: thresholded at half.
- A single color that is not opaque everywhere: alpha is the mask.
- Anything else is ambiguous, such as several classes or colors, and is refused.
"""

from pathlib import Path

import numpy as np

from geoclick import images
from geoclick.errors import GeoClickError

DARK, BRIGHT = 64, 192
"""Values of 0 to 255 below and from which a gray level counts as black and as white."""

FLAT_SHARE = 0.25
"""Share of the middle gray levels that may lie within areas of one level; a class fills areas, an edge does not."""

_GRAY = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L", "F")
_COLOR = ("RGB", "RGBA", "LA", "PA", "La", "RGBa", "RGBX")


def read_target(path: Path) -> tuple[np.ndarray, bool]:
    """The target in a mask file.

    Returns:
        The target, bool [H, W], and whether it was thresholded from gray levels.

    Raises:
        GeoClickError: the file cannot be read, or its target is ambiguous.
    """
    with images.opened(path) as image:
        mode, values = image.mode, np.asarray(image)
        lossy = image.format in ("JPEG", "MPO")
    try:
        if mode in _GRAY and values.ndim == 2:
            return _of_levels(values, lossy)
        if mode not in _COLOR:
            raise ValueError(f"its mode is {mode}")
        if mode not in ("RGB", "RGBX"):
            return _with_alpha(values[..., :-1], values[..., -1], lossy)
        return _of_colors(values[..., :3], lossy)
    except ValueError as error:
        raise GeoClickError(
            f"{path} is ambiguous as a mask of one target: {error}; save it with 0 and 255, or list the colors of "
            "its classes in classes.json."
        ) from error


def _of_levels(values: np.ndarray, lossy: bool) -> tuple[np.ndarray, bool]:
    """The target of one channel, any type [H, W]; raises ValueError."""
    if values.dtype == bool:
        return values, False
    low, high = values.min(), values.max()
    if not (np.isfinite(low) and np.isfinite(high)) or low < 0:
        raise ValueError("it has values below 0 or not finite")
    if ((values == 0) | (values == high)).all():
        return values > 0, False
    levels = _to_bytes(values, float(high))
    dark, bright = levels < DARK, levels >= BRIGHT
    if not lossy and not (dark.any() and bright.any()):
        raise ValueError(
            f"its values are from {low:g} to {high:g}, neither black and white nor one value besides 0"
        )
    middle = ~dark & ~bright
    if np.count_nonzero(middle & _flat(levels)) > FLAT_SHARE * np.count_nonzero(middle):
        raise ValueError("it has areas of more than one value besides 0")
    return levels >= 128, True


def _to_bytes(values: np.ndarray, high: float) -> np.ndarray:
    """Values as levels of 0 to 255 of the range of their type; floats are of 0 to 1, or to 255."""
    if values.dtype == np.uint8:
        return values
    tops = (1.0, 255.0) if values.dtype.kind == "f" else (255.0, 65535.0)
    top = next((top for top in tops if high <= top), None)
    if top is None:
        raise ValueError(f"its values reach {high:g}")
    return (values * (255.0 / top)).astype(np.uint8)


def _flat(levels: np.ndarray) -> np.ndarray:
    """The pixels whose 3x3 neighborhood has one level, bool [H, W]."""
    from scipy import ndimage

    return np.asarray(ndimage.maximum_filter(levels, 3) == ndimage.minimum_filter(levels, 3))


def _of_colors(colors: np.ndarray, lossy: bool) -> tuple[np.ndarray, bool]:
    """The target of channels, uint8 [H, W, C]: one color besides black; raises ValueError."""
    levels = colors.max(axis=2)
    # The colors of the target: all that are not black, or the bright ones where there are levels between.
    for colored in (levels > 0, levels >= BRIGHT):
        picked = colors[colored]
        if not len(picked) or (picked == picked[0]).all():
            return _of_levels(levels, lossy)
    if (np.ptp(picked, axis=0) >= DARK).any():
        raise ValueError("it has more than one color besides black")
    return _of_levels(levels, lossy)


def _with_alpha(colors: np.ndarray, alpha: np.ndarray, lossy: bool) -> tuple[np.ndarray, bool]:
    """The target of colors, uint8 [H, W, C], with an alpha channel, uint8 [H, W]; raises ValueError."""
    if alpha[0, 0] and (alpha == alpha[0, 0]).all():
        return _of_colors(colors, lossy)
    by_alpha = _of_levels(alpha, lossy)
    if (colors == colors[0, 0]).all():
        return by_alpha
    by_color = _of_colors(colors, lossy)
    if not np.array_equal(by_alpha[0], by_color[0]):
        raise ValueError("its colors and its alpha channel are different masks")
    return by_color
