"""The center rule as part of the simulation; see `geoclick.segmenters.center_rule`."""

from geoclick.segmenters.center_rule import next_click

__all__ = ["next_click"]
