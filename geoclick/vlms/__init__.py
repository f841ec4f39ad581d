"""Qwen-VL models: families, loading, adapters and their provenance."""

from geoclick.vlms.loading import Vlm, load, resized_size

__all__ = ["Vlm", "load", "resized_size"]
