"""Tiny copies of public benchmarks: procedural scenes in the true names, folders and encodings of each."""

from geoclick.scenes.copies.referring import REFERRING

LAYOUTS = {**REFERRING}
"""Each writes the images of the scored split, `count` of them, and a few of the others: (root, count, seed)."""
