"""Outlines of objects as polygons, float [N, 2] as (x, y) in pixels."""

import numpy as np
from PIL import Image, ImageDraw

from geoclick.scenes.kinds import KINDS

SIZE = 256
"""Height and width of a scene in pixels."""


def fill(outline: np.ndarray) -> np.ndarray:
    """The pixels whose center lies in an outline, bool [SIZE, SIZE]."""
    canvas = Image.new("1", (SIZE, SIZE))
    ImageDraw.Draw(canvas).polygon([(float(x), float(y)) for x, y in outline], fill=1)
    return np.asarray(canvas)


def turn(points: np.ndarray, angle: float, center: np.ndarray) -> np.ndarray:
    """Points rotated by an angle in radians and moved from the origin to a center."""
    cos, sin = np.cos(angle), np.sin(angle)
    return points @ np.array([[cos, sin], [-sin, cos]]) + center


def grown(outline: np.ndarray, by: float) -> np.ndarray:
    """An outline whose points are moved away from its center by some pixels."""
    center = outline.mean(0)
    reach = np.linalg.norm(outline - center, axis=1, keepdims=True)
    return center + (outline - center) * (1 + by / np.maximum(reach, 1))


def box(length: float, width: float) -> np.ndarray:
    """A box around the origin."""
    return np.array([[-length, -width], [length, -width], [length, width], [-length, width]]) / 2


def l_shape(rng: np.random.Generator, length: float, width: float) -> np.ndarray:
    """An L: a box with one corner cut out."""
    a, b = length / 2, width / 2
    x, y = rng.uniform(0.0, 0.4) * a, rng.uniform(-0.1, 0.3) * b
    return np.array([[-a, -b], [a, -b], [a, y], [x, y], [x, b], [-a, b]])


def u_shape(rng: np.random.Generator, length: float, width: float) -> np.ndarray:
    """A U: a box with a notch in the middle of one long side."""
    a, b = length / 2, width / 2
    x, y = rng.uniform(0.3, 0.5) * a, rng.uniform(-0.5, -0.2) * b
    return np.array([[-a, -b], [a, -b], [a, b], [x, b], [x, y], [-x, y], [-x, b], [-a, b]])


def crescent(rng: np.random.Generator, length: float, width: float) -> np.ndarray:
    """A crescent: a bent strip that is widest in its middle."""
    t = np.linspace(-1, 1, 25)
    reach = rng.uniform(1.7, 2.3)
    along, bend = np.sin(t * reach) * length / 2, np.cos(t * reach) * length / 2
    thickness = width * 0.32 * np.sqrt(np.clip(1 - t**2, 0.04, 1))
    outer = np.stack([along, bend], 1) * (1 + thickness / length)[:, None]
    inner = np.stack([along, bend], 1) * (1 - thickness / length)[:, None]
    points = np.concatenate([outer, inner[::-1]])
    return points - (points.max(0) + points.min(0)) / 2


def rounded(rng: np.random.Generator, length: float, width: float, bumps: float = 0.0) -> np.ndarray:
    """An ellipse, with low waves of relative height `bumps` along its rim."""
    t = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    radius = np.ones_like(t)
    for wave in (2, 3, 5):
        radius += bumps / wave * rng.uniform(-1, 1) * 2 * np.sin(wave * t + rng.uniform(0, 6.3))
    return np.stack([np.cos(t) * length, np.sin(t) * width], 1) * radius[:, None] / 2


def outline_of(rng: np.random.Generator, kind: str, resolution: float) -> np.ndarray:
    """The outline of one object around the origin.

    Args:
        rng: source of randomness.
        kind: a key of KINDS other than `road`.
        resolution: in metres per pixel.
    """
    spec = KINDS[kind]
    length, width = rng.uniform(*spec.length) / resolution, rng.uniform(*spec.width) / resolution
    if kind == "building" and rng.random() < 0.4:
        return l_shape(rng, length, width)
    if kind in ("tree", "storage tank"):
        return rounded(rng, length, length, 0.12 if kind == "tree" else 0.0)
    if kind in ("pond", "bare land"):
        return rounded(rng, length, width, 0.28)
    return box(length, width)


def bent_band(
    rng: np.random.Generator, resolution: float, widths: tuple[float, float] = KINDS["road"].width
) -> tuple[np.ndarray, np.ndarray, float]:
    """A bent band through the scene: its outline, its middle line float [N, 2], its width in pixels.

    Args:
        rng: source of randomness.
        resolution: in metres per pixel.
        widths: (smallest, largest) width in metres.
    """
    angle = rng.uniform(0, np.pi)
    along = np.array([np.cos(angle), np.sin(angle)])
    across = np.array([-along[1], along[0]])
    center = np.full(2, SIZE / 2) + across * rng.uniform(-0.3, 0.3) * SIZE
    t = np.linspace(-1, 1, 33)[:, None]
    bend = rng.uniform(-0.25, 0.25) * SIZE
    middle = center + along * t * SIZE + across * bend * (t**2 - 0.2)
    width = rng.uniform(*widths) / resolution
    slope = np.gradient(middle, axis=0)
    normal = np.stack([-slope[:, 1], slope[:, 0]], 1) / np.linalg.norm(slope, axis=1, keepdims=True)
    return np.concatenate([middle + normal * width / 2, (middle - normal * width / 2)[::-1]]), middle, width
