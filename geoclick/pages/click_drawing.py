"""Pictures of an answer: the image, the mask as a tint with an outline, the clicks numbered in order."""

import base64
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from geoclick.clicks import Click

MASK_COLOR = (240, 60, 205)
TARGET_COLOR = (0, 190, 255)
POSITIVE = (22, 150, 60)
NEGATIVE = (205, 32, 44)
TINT = 0.4


def fitted_size(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """(height, width) of an image scaled so that its longest side is `longest`."""
    scale = longest / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def marker_radius(longest: int) -> int:
    """Radius of a click in a picture of that longest side, both in pixels."""
    return max(6, longest // 40)


def tint(image: np.ndarray, mask: np.ndarray, color: tuple[int, int, int], *, line: int) -> np.ndarray:
    """The image, uint8 [H, W, 3], with `mask` (bool [H, W]) tinted, its outline `line` pixels wide."""
    picture = image.astype(np.float32)
    picture[mask] = (1 - TINT) * picture[mask] + TINT * np.array(color, np.float32)
    if mask.any():
        inner = ndimage.binary_erosion(mask, iterations=line, border_value=0)
        picture[mask & ~inner] = color
    return picture.round().astype(np.uint8)


def panel(
    image: np.ndarray,
    mask: np.ndarray,
    clicks: Sequence[Click] = (),
    *,
    longest: int,
    color: tuple[int, int, int] = MASK_COLOR,
) -> np.ndarray:
    """A picture of the mask and the clicks on the image, uint8 [h, w, 3], its longest side `longest` pixels.

    Args:
        image: uint8 [H, W, 3] RGB.
        mask: bool [H, W], tinted and outlined.
        clicks: in pixels of the image; green with their number where positive, red where negative.
        longest: longest side of the picture, larger or smaller than the image's.
        color: of the mask.
    """
    height, width = fitted_size(image.shape[:2], longest)
    sized = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))
    sized_mask = np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST))
    picture = Image.fromarray(tint(sized, sized_mask, color, line=max(2, longest // 200)))
    pen = ImageDraw.Draw(picture)
    radius = marker_radius(longest)
    font = ImageFont.load_default(size=round(1.3 * radius))
    scale = width / image.shape[1], height / image.shape[0]
    for number, click in enumerate(clicks, start=1):
        x, y = (click.x + 0.5) * scale[0] - 0.5, (click.y + 0.5) * scale[1] - 0.5
        box = (x - radius, y - radius, x + radius, y + radius)
        fill = POSITIVE if click.positive else NEGATIVE
        pen.ellipse(box, fill=fill, outline=(255, 255, 255), width=max(1, radius // 5))
        pen.text((x, y), str(number), fill=(255, 255, 255), font=font, anchor="mm")
    return np.asarray(picture)


def overlay(image: np.ndarray, mask: np.ndarray, clicks: Sequence[Click]) -> np.ndarray:
    """`panel` at the image's own size, or enlarged to 512 pixels where the numbers would be illegible."""
    return panel(image, mask, clicks, longest=max(512, *image.shape[:2]))


def data_uri(picture: np.ndarray, quality: int = 80) -> str:
    """A uint8 [H, W, 3] picture as a JPEG inside a `data:` address, for a page that needs no other file."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="JPEG", quality=quality, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
