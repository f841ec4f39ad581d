"""Procedural overhead scenes: layout, rendering, queries."""

from geoclick.scenes.layout import Scene, Thing, generate
from geoclick.scenes.outlines import SIZE
from geoclick.scenes.render import render

__all__ = ["SIZE", "Scene", "Thing", "generate", "render"]
