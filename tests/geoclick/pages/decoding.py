"""The pixels inside `data:` addresses."""

import base64
import io

import numpy as np
from PIL import Image


def decoded(address):
    """The picture in a `data:` address, uint8 [H, W, 3]."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.split("base64,")[1]))))
