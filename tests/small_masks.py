"""Small masks for the tests of clicks."""

import numpy as np


def blank(height=12, width=16):
    return np.zeros((height, width), bool)


def box(top, left, bottom, right, height=12, width=16):
    mask = blank(height, width)
    mask[top:bottom, left:right] = True
    return mask
